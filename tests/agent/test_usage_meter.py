"""Usage records of an agent, computed from its engine's counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from given_counts import GivenMeter, counted
from ratectl.fleet.usage import totals
from ratectl.records import UsageRecord
from ratectl.stores.base import MAX_VALUE_BYTES

if TYPE_CHECKING:
    from ratectl.engine.api import LimitCounts


def test_each_set_of_overrides_has_its_own_recent_counts() -> None:
    meter = GivenMeter()
    meter.record(1.0, counted("x"), counted("x", ("gold@/a",), allowed=100))
    record = meter.record(
        2.0, counted("x", allowed=11), counted("x", ("gold@/a",), allowed=150, lowest=10)
    )
    found = {tuple(each.overrides): (each.recent_allowed, each.peak) for each in record.limits}
    assert found == {(): (11, 0.5), ("gold@/a",): (150, 0.9)}


def test_records_round_trip_and_add_up_by_overrides() -> None:
    records = [
        UsageRecord.decode(
            GivenMeter().record(1.0, counted("x"), counted("x", ("gold@/a",))).encode()
        )
        for _ in ("one", "two")
    ]
    found = totals(records).limits
    assert [(each.overrides, each.agents, each.allowed) for each in found] == [
        ((), 2, 20),
        (("gold@/a",), 2, 20),
    ]


def test_record_size_is_bounded_with_many_overrides() -> None:
    """The most active limits are kept; the number of others is in ``omitted``."""
    scope = "/" + "s" * 200
    many = [
        counted(
            "x", tuple(f"o{n}-{at}@{scope}" for at in range(50)), scope=scope, allowed=1000 - n
        )
        for n in range(500)
    ]  # fmt: skip
    record = GivenMeter().record(1.0, *many)
    assert len(record.encode()) < MAX_VALUE_BYTES
    assert record.omitted == 500 - len(record.limits) > 0
    assert [each.allowed for each in record.limits] == list(
        range(1000, 1000 - len(record.limits), -1)
    )


def test_recent_seconds_match_the_recent_counts() -> None:
    """Even if usage is read at irregular times."""
    meter = GivenMeter()
    found = [
        (record.recent_seconds, record.limits[0].recent_allowed)
        for at in (4.0, 58.0, 66.0, 119.0, 300.0)
        for record in [meter.record(at, counted("x", allowed=int(at)))]
    ]
    assert found == [(4.0, 4), (58.0, 58), (62.0, 62), (61.0, 61), (181.0, 181)]


def decided(meter: GivenMeter, at: float, *limits: LimitCounts) -> tuple[int, int]:
    meter.usage(at, *limits)
    return meter.decided.allowed + meter.decided.refused, meter.decided.refused


def test_request_counted_by_many_limits_is_one_request() -> None:
    meter = GivenMeter()
    met = [
        counted("spike", allowed=60, refused=9, never=1),
        counted("spike", ("gold",), allowed=30),
        counted("steady", allowed=90, refused=5),
        counted("spike", scope="/b", allowed=7, refused=1),
        counted("fleet", scope="/", budget=True, allowed=97, refused=2),
    ]
    assert decided(meter, 1.0, *met) == (90 + 7 + 10 + 1, 11)


def test_request_counted_only_by_a_budget_counts() -> None:
    meter = GivenMeter()
    assert decided(meter, 1.0, counted("fleet", budget=True, allowed=50, refused=2)) == (52, 2)


def test_request_count_survives_added_and_removed_limits() -> None:
    meter = GivenMeter()
    assert decided(meter, 1.0, counted("spike", allowed=50, refused=3)) == (53, 3)
    assert decided(meter, 2.0, counted("other", allowed=5, refused=1)) == (59, 4)
    assert decided(meter, 3.0, counted("other", allowed=6, refused=1)) == (60, 4)
    assert decided(meter, 4.0) == (60, 4)


def test_shadow_refusals_are_not_counted_as_refused() -> None:
    meter = GivenMeter()
    assert decided(meter, 1.0, counted("probe", allowed=5, shadow_refused=50)) == (5, 0)


def test_budgets_below_budgets_count_no_request_twice() -> None:
    meter = GivenMeter()
    met = [
        counted("fleet", scope="/", budget=True, allowed=60, refused=40),
        counted("team", scope="/a", budget=True, allowed=55, refused=0),
        counted("spike", scope="/a/b", allowed=50, refused=0),
    ]
    assert decided(meter, 1.0, *met) == (100, 40)


def test_never_decisions_count_as_refused() -> None:
    assert decided(GivenMeter(), 1.0, counted("x", allowed=1, never=9)) == (10, 9)


# Limits that are removed and restored: their counts begin again at 0 --------------------------


FIELDS = ("allowed", "refused", "never", "shadow_refused", "waited", "absent")
MANY = dict.fromkeys(FIELDS, 100)
FEW = {name: number for number, name in enumerate(FIELDS, 1)}


def known(record: UsageRecord) -> dict[str, int]:
    """Return the counts of the only limit, as a reader of the record gets them."""
    (limit,) = UsageRecord.decode(record.encode()).limits
    return {name: getattr(limit, name) for name in FIELDS}


@pytest.mark.parametrize("between", [[], [()]], ids=["unseen", "seen"])
def test_child_counts_a_limit_that_was_restored_from_0(between: list[tuple[()]]) -> None:
    meter = GivenMeter(forked_at=(counted("x", **MANY),))
    for number, limits in enumerate(between):
        meter.usage(1.0 + number, *limits)
    assert known(meter.record(10.0, counted("x", **FEW))) == FEW
    assert known(meter.record(20.0, counted("x", **MANY))) == MANY
    later = dict.fromkeys(FIELDS, 101)
    assert known(meter.record(30.0, counted("x", **later))) == later


def test_child_counts_from_the_fork_on() -> None:
    meter = GivenMeter(forked_at=(counted("x", **MANY),))
    assert known(meter.record(1.0, counted("x", **MANY))) == dict.fromkeys(FIELDS, 0)
    assert known(meter.record(2.0, counted("x", **dict.fromkeys(FIELDS, 130)))) == dict.fromkeys(
        FIELDS, 30
    )


def test_child_that_counted_before_a_limit_was_restored_counts_from_0() -> None:
    """Also if the counts are higher than at the fork."""
    meter = GivenMeter(forked_at=(counted("x", **MANY),))
    meter.record(1.0, counted("x", **dict.fromkeys(FIELDS, 150)))
    assert known(meter.record(2.0, counted("x", **dict.fromkeys(FIELDS, 120)))) == dict.fromkeys(
        FIELDS, 120
    )


def test_limit_that_is_restored_between_two_readings_has_no_negative_counts() -> None:
    meter = GivenMeter()
    meter.record(10.0, counted("x", allowed=100, refused=10))
    (limit,) = meter.usage(20.0, counted("x", allowed=5, refused=12)).limits
    assert (limit.allowed, limit.refused) == (5, 12)
    assert (limit.recent_allowed, limit.recent_refused) == (105, 22)
    assert (limit.rates[0], limit.refused_rates[0]) == (1.7, 1.2)
    assert [minute[1:3] for minute in limit.trend[-1:]] == [(105, 22)]
    assert meter.decided == (105, 22)
