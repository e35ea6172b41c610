"""Tables of usage and of busy keys."""

from __future__ import annotations

from collections import Counter

from cli_support import NOW
from example_contents import Contents, Example, limit_of, texts

from fleet.reports import agent
from ratectl.fleet.recent import RecentTotal
from ratectl.fleet.usage import BusyKey, LimitTotal, Totals
from ratectl.health.hot_keys import hot_keys
from ratectl.health.usage_report import UsageReport, UsageRow
from ratectl.health.usage_selection import selected
from ratectl.kill_switch.switches import Switches
from ratectl_cli.render.key_usage import key_blocks
from ratectl_cli.render.usage import top_blocks, usage_blocks
from ratectl_cli.render.usage_document import usage_data

__all__ = ["busy_keys", "key_in_agents", "keys_of_limits", "sorted_usage", "usage", "usage_report"]


def usage_report(of: Contents) -> UsageReport:
    total = LimitTotal(
        of.scope, of.name, (), budget=False, unit="requests", shadow=True, most=of.burst, agents=2,
        allowed=of.number, refused=of.number + 1, never=2, shadow_refused=of.number + 3,
        waited=of.number + 4, keys=of.number + 5, recent_per_second=of.number / 4, peak=1.0,
        top_refused=Counter({of.key: of.number, "zeta": 90}), refused_error=7,
        near_keys=of.number + 6, detailed=2, trending=2,
        trend=[(of.number, 9, (at % 11) / 10 if at % 5 else None) for at in range(15)],
        busiest={of.key: BusyKey(of.key, of.number + 7, 40, 1.0, 2), "b": BusyKey("b", 9, 0, None)},
        recent=RecentTotal(of.number / 4, 1.0, 1.0, 2, 2),
    )  # fmt: skip
    quiet = UsageRow("/", of.name, True, None, None)
    rows = [UsageRow(of.scope, of.name, False, limit_of(of), total, (f"gold@{of.scope}",)), quiet]
    totals = Totals([total], 2, "2026-11-23T11:59:58Z", "2026-11-23T11:59:50Z", of.number, 7, 3)
    agents = [agent(name) for name in (of.agent, "edge-1", "edge-2")]
    return UsageReport(
        of.scope, f"{of.scope}/x", 3, agents, Switches(), totals, rows, silent=(of.agent,)
    )


def usage(of: Contents) -> Example:
    report = usage_report(of)
    row = usage_data(report)["limits"][0]
    numbers = [
        ("USED", f"{row['used']:.0%}"), ("RATE/S", f"{row['rate_per_second']:.1f}"),
        ("ALLOWED", row["allowed"]), ("WAITED", row["waited"]),
        ("REFUSED", row["refused"] + row["never"]), ("SHADOW", row["shadow_refused"]),
        ("KEYS", row["keys"]), ("RULE", row["rule"]["rate"]), ("RULE", row["rule"]["burst"]),
        ("NEAR", row["near_keys"]),
    ]  # fmt: skip
    return Example(lambda stream: usage_blocks(report, stream, NOW), texts(numbers))


def sorted_usage(of: Contents) -> Example:
    report = selected(usage_report(of), "rate", 0.8)
    return Example(lambda stream: usage_blocks(report, stream, NOW))


def busy_keys(of: Contents) -> Example:
    report = usage_report(of)
    keys = hot_keys(report.rows)
    numbers = [("REQUESTS", of.number + 7), ("REFUSED", of.number), ("USED", "100%")]
    return Example(lambda stream: top_blocks(report, keys, stream, NOW, 20), texts(numbers))


def key_in_agents(of: Contents) -> Example:
    where = {"scope": of.scope, "limit": of.name, "key": of.key, "reporting": 2}
    listed = {"agent": of.agent, "used": 1.0, "requests": of.number, "error": 40}
    data = {
        "agents": 3,
        "reporting": 2,
        "oldest": "2026-11-23T11:59:50Z",
        "limits": [
            {**where, "budget": False, "agents": [listed, {**listed, "used": None, "error": 0}]},
            {**where, "budget": True, "agents": []},
        ],
    }
    numbers = [("REQUESTS", f"{of.number}±40"), ("USED", "100%")]
    return Example(lambda _: key_blocks(data, NOW), texts(numbers))


def keys_of_limits(of: Contents) -> Example:
    report = usage_report(of)
    return Example(lambda stream: usage_blocks(report, stream, NOW, 3))
