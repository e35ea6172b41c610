"""Buckets of a request's keys in agents, as data and as text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ratectl.health.key_usage import key_usage
from ratectl.runtime.wording import percent
from ratectl_cli.framework.text import Column, Table, bold, paragraph
from ratectl_cli.render.times import data_age

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from ratectl.records import AgentRecord, UsageRecord
    from ratectl_cli.framework.text import Block

__all__ = ["key_blocks", "keys_data"]

_COLUMNS: Final = (
    Column("LIMIT"),
    Column("KEY", 2, least=16),
    Column("USED", 3, "number"),
    Column("REQUESTS", 4, "number"),
    Column("AGENT", 5, least=12),
)


def keys_data(
    explanation: Mapping[str, Any], agents: Sequence[AgentRecord], records: Sequence[UsageRecord]
) -> dict[str, Any]:
    """Return the keys of the explained request at each limit and budget, for programs."""
    parts = [(part, part == "budgets") for part in ("limits", "budgets")]
    return {
        "agents": len(agents),
        "reporting": len(records),
        "oldest": min((record.reported for record in records), default=None),
        "limits": [
            _limit(limit, budget, explanation["attributes"], records)
            for part, budget in parts
            for limit in explanation[part]
            if limit["per"]
        ],
    }


def _limit(
    limit: Mapping[str, Any],
    budget: bool,
    attributes: Mapping[str, str],
    records: Sequence[UsageRecord],
) -> dict[str, Any]:
    scope = limit["bucket"]["scope"]
    found = key_usage(
        records, scope, limit["name"], budget=budget, per=limit["per"],
        attributes=attributes,
    )  # fmt: skip
    return {
        "scope": scope,
        "limit": limit["name"],
        "budget": budget,
        "key": found.key,
        "reporting": found.reporting,
        "agents": [
            {"agent": of.agent, "used": of.used, "requests": of.requests, "error": of.error}
            for of in found.agents
        ],
    }


def key_blocks(data: Mapping[str, Any], now: datetime) -> Iterator[Block]:
    """Yield the keys for people."""
    reporting = f"{data['reporting']}/{data['agents']} agents"
    yield paragraph(
        [bold("its keys in agents"), f" · {reporting} · {data_age(data['oldest'], now)}"]
    )
    table = Table(list(_COLUMNS))
    for limit in data["limits"]:
        name = f"{limit['limit']} @ {limit['scope']}"
        name = f"budget {name}" if limit["budget"] else name
        for of in limit["agents"]:
            used = percent(of["used"] or 0.0)
            more = f"±{of['error']}" if of["error"] else ""
            table.rows.append([name, limit["key"], used, f"{of['requests']}{more}", of["agent"]])
        if not limit["agents"]:
            listed = "not among the busiest keys" if limit["reporting"] else "?"
            table.rows.append([name, limit["key"], "?", "?", listed])
    if table.rows:
        yield table
    else:
        yield "no limit here counts per key"
