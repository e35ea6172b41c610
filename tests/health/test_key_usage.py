"""A request's keys in the reports of agents."""

from __future__ import annotations

from typing import Any

from fleet.test_recent import record, report
from ratectl.health.key_usage import AgentKey, key_usage

ATTRIBUTES = {"tenant": "acme", "ip": "203.0.113.77"}


def found(*agents: Any, per: tuple[str, ...] = ("tenant",), **changes: Any) -> Any:
    records = [record(*limits, id=f"edge-{at}") for at, limits in enumerate(agents, 1)]
    where = {"scope": "/shop", "limit": "spike", "budget": False, **changes}
    return key_usage(
        records, where["scope"], where["limit"], budget=where["budget"], per=per,
        attributes=ATTRIBUTES,
    )  # fmt: skip


def test_fullest_bucket_comes_first() -> None:
    usage = found(
        [report(busiest=[("zeta", 9, 0, 1.0), ("acme", 7, 2, 0.5)])],
        [report(busiest=[("acme", 5, 0, 0.9)])],
        [report(busiest=[("acme", 50, 0, None)])],
        [report(busiest=[])],
        [],
    )
    assert usage.key == "acme"
    assert usage.reporting == 4
    assert [known.agent for known in usage.agents] == ["edge-2", "edge-1", "edge-3"]
    assert usage.agents[1] == AgentKey("edge-1", 7, 2, 0.5)


def test_overrides_and_budgets_are_told_apart() -> None:
    limits = [
        report(busiest=[("acme", 1, 0, 0.1)]),
        report(busiest=[("acme", 2, 0, 0.2)], overrides=["gold@/shop"]),
        report(busiest=[("acme", 3, 0, 0.3)], budget=True),
        report(busiest=[("acme", 4, 0, 0.4)], scope="/other"),
    ]
    assert [known.requests for known in found(limits).agents] == [2, 1]
    assert [known.requests for known in found(limits, budget=True).agents] == [3]


def test_addresses_are_found_as_agents_show_them() -> None:
    agents = ([report(busiest=[("203.0.113.0/24", 1, 0, 0.1)])],
              [report(busiest=[("203.0.113.77", 2, 0, 0.2)])])  # fmt: skip
    usage = found(*agents, per=("ip",))
    assert usage.key == "203.0.113.0/24"
    assert [known.requests for known in usage.agents] == [2, 1]


def test_keys_of_several_attributes_and_absent_ones() -> None:
    usage = found([report(busiest=[("acme, (absent)", 1, 0, 0.1)])], per=("tenant", "route"))
    assert len(usage.agents) == 1
