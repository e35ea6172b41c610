"""Usage over some minutes, from the records of agents."""

from __future__ import annotations

from typing import Any

import pytest

from ratectl.fleet.recent import Recent, recent
from ratectl.fleet.usage import totals
from ratectl.records import LimitReport, UsageRecord

TREND = [(600 - at, 60, at / 100) for at in range(15)]
"""Allowed, refused and peak in each minute; the last one is under way."""


def report(**changes: Any) -> LimitReport:
    values: dict[str, Any] = {
        "scope": "/shop", "limit": "spike", "shadow": False, "most": 10, "allowed": 90,
        "refused": 10, "never": 0, "shadow_refused": 0, "keys": 1, "recent_allowed": 540,
        "recent_refused": 60, "peak": 0.5, "rates": [9.0, 10.0, 3.0],
        "refused_rates": [1.0, 1.0, 0.5], "trend": TREND,
    }  # fmt: skip
    given = {**values, **changes}
    return LimitReport(**{"traffic": given["allowed"] + given["refused"], **given})


def record(*limits: LimitReport, **changes: Any) -> UsageRecord:
    values: dict[str, Any] = {
        "id": "a", "generation": 1, "since": "2026-11-23T11:00:00Z",
        "reported": "2026-11-23T12:00:00Z", "recent_seconds": 60.0, "limits": list(limits),
        "omitted": 0, "no_policy": 0, "errors": 0, "buckets": 0, "overflowed": 0,
    }  # fmt: skip
    return UsageRecord(**{**values, **changes})


def over(minutes: int, limit: LimitReport, **changes: Any) -> Recent:
    return recent(record(limit, **changes), limit, minutes)


def test_one_minute_is_what_every_version_reports() -> None:
    old = report(rates=[], refused_rates=[], trend=[])
    assert over(1, old) == Recent(10.0, 1.0, 0.5, True)
    assert over(1, old, recent_seconds=0.0) == Recent(None, None, 0.5, True)


def test_spans_between_are_of_complete_minutes() -> None:
    rate, refused, peak, whole = over(5, report(peak=0.11))
    assert rate == pytest.approx(sum(600 - at + 60 for at in range(9, 14)) / 300)
    assert refused == 1.0
    assert (peak, whole) == (0.14, True)


def test_the_longest_span_is_the_agents_own() -> None:
    assert over(15, report())[:2] == (3.0, 0.5)


def test_a_young_agent_tells_its_rate_since_its_start() -> None:
    young = "2026-11-23T11:57:30Z"
    assert over(5, report(), since=young)[:2] == (3.0, 0.5)
    assert over(2, report(), since="2026-11-23T11:57:00Z")[:2] != (3.0, 0.5)
    assert over(5, report(), since="then")[:2] == over(5, report())[:2]
    assert over(5, report(), reported="now")[:2] == over(5, report())[:2]


def test_what_an_agent_does_not_report_is_unknown() -> None:
    old = report(rates=[], refused_rates=[], trend=[])
    for minutes in (5, 15):
        assert over(minutes, old) == Recent(None, None, 0.5, False)
    bare = report(trend=[])
    assert over(5, bare) == Recent(None, None, 0.5, False)
    assert over(15, bare) == Recent(3.0, 0.5, 0.5, False)


def test_totals_count_the_agents_that_know() -> None:
    old = report(rates=[], refused_rates=[], trend=[], peak=0.9)
    both = [record(report()), record(old, id="b")]
    (total,) = totals(both, minutes=15).limits
    assert (total.recent.rate, total.recent.rated, total.recent.whole) == (3.0, 1, 1)
    assert (total.recent.peak, total.agents, total.detailed, total.trending) == (0.9, 2, 1, 1)
    (total,) = totals(both).limits
    assert (total.recent.rate, total.recent.rated) == (20.0, 2)
