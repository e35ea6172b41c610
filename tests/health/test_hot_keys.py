"""Busiest and most refused keys, and how exact their counts are."""

from __future__ import annotations

from typing import Any

import pytest

from fleet.test_recent import record, report
from ratectl.fleet.usage import totals
from ratectl.health.hot_keys import Count, HotKey, hot_keys, keys_of
from ratectl.health.usage_report import UsageRow

Listed = list[tuple[str, int, int, float | None]]


def row(*busiest: Listed, **changes: Any) -> UsageRow:
    """A limit, with the busiest keys in each of some agents."""
    records = [
        record(report(busiest=keys, **changes), id=str(at)) for at, keys in enumerate(busiest)
    ]
    (total,) = totals(records).limits
    return UsageRow(total.scope, total.limit, total.budget, None, total)


def only(keys: list[HotKey], name: str) -> HotKey:
    (found,) = (key for key in keys if key.key == name)
    return found


def test_counts_of_short_lists_are_exact() -> None:
    acme = only(keys_of(row([("acme", 70, 0, 0.5), ("zeta", 30, 0, None)], [])), "acme")
    assert acme.requests == Count(70, None), "the other agent lists none, and decided some"
    acme = only(keys_of(row([("acme", 70, 0, 0.5)], [("zeta", 30, 0, None)])), "acme")
    assert acme.requests == Count(70, 0)
    assert (acme.used, acme.agents, acme.share) == (0.5, 1, 0.35)


def test_keys_may_hide_in_agents_whose_list_is_full() -> None:
    full: Listed = [(f"key-{at}", 100 - at, 0, None) for at in range(20)]
    keys = keys_of(row([("acme", 500, 3, 0.9)], full))
    assert only(keys, "acme").requests == Count(500, 81), "the least count of the full list"
    assert only(keys, "key-0").requests == Count(100, 0)
    assert only(keys_of(row([("acme", 500, 90, 0.9)], full)), "acme").requests == Count(500, 90)


@pytest.mark.parametrize(
    ("top", "error", "acme", "zeta"),
    [
        ([("acme", 10)], 0, Count(10, 0), Count(0, 0)),
        ([("acme", 9)], 0, Count(9, None), None),
        ([("acme", 10)], 2, Count(10, 2), None),
        ([], 0, None, None),
    ],
)
def test_refusals_are_exact_if_all_are_listed(
    top: Any, error: int, acme: Count | None, zeta: Count | None
) -> None:
    busiest: Listed = [("acme", 70, 0, 0.5), ("zeta", 30, 0, None)]
    keys = keys_of(row(busiest, top_refused=top, refused_error=error))
    assert (only(keys, "acme").refused, only(keys, "zeta").refused) == (acme, zeta)


def test_the_most_refused_keys_are_among_the_first() -> None:
    busiest: Listed = [(name, 100 - at, 0, None) for at, name in enumerate("abcdef")]
    top = [("f", 7), ("x", 3)]
    keys = keys_of(row(busiest, top_refused=top), 2)
    assert [key.key for key in keys] == ["a", "b", "f", "x"]
    assert keys[-1].requests is None


def test_keys_of_all_limits_by_each_number() -> None:
    keys: Listed = [("a", 9, 0, 0.1), ("b", 5, 0, 0.7), ("c", 4, 0, None)]
    one = row(keys, top_refused=[("c", 10)])
    for sort, order in (("requests", "abc"), ("refused", "cab"), ("used", "bac")):
        assert "".join(key.key for key in hot_keys([one], sort)) == order
    assert hot_keys([UsageRow("/", "x", False, None, None)]) == []


def test_a_share_is_unknown_without_requests() -> None:
    one = row([("a", 9, 0, 0.1)], allowed=0, refused=0)
    assert only(keys_of(one), "a").share is None
    assert only(keys_of(row([("a", 900, 0, 0.1)])), "a").share == 1.0
