"""Usage of a limit across the cluster: counts are added, and its owners know how full it is."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from given_counts import GivenMeter, GivenShared, counted, owned
from ratectl.errors import BundleError
from ratectl.fleet.usage import totals
from ratectl.records import UsageRecord

if TYPE_CHECKING:
    from ratectl.agent.usage.summary import AgentUsage
    from ratectl.cluster.owned import OwnedLimit

NAME = ("/a", "x", False, (), (), "requests")


def meter(name: str, *rows: OwnedLimit) -> GivenMeter:
    made = GivenMeter(name)
    made.shared = GivenShared(NAME, *rows)
    return made


def record(name: str, *rows: OwnedLimit) -> UsageRecord:
    # The wallet of the process is empty: its engine takes the limit for full.
    made = meter(name, *rows).record(1.0, counted("x", lowest=0, keys=1, fill=(0, 0, 0, 0, 1)))
    return UsageRecord.decode(made.encode())


# One agent ----------------------------------------------------------------------------------------


def usage(*rows: OwnedLimit) -> AgentUsage:
    busiest: Any = ()
    return meter("edge", *rows).usage(1.0, counted("x", lowest=0, busiest=busiest), counted("y"))


def test_a_process_that_owns_a_limit_knows_its_use() -> None:
    found = usage(owned())
    shared, local = found.limits
    assert (shared.pool, shared.peak, shared.keys, shared.near_keys) == ("pool-x", 0.6, 1, 0)
    assert shared.keys_by_use == (0, 1, 0, 0, 0)
    assert shared.trend[-1] == (0, 10, 0, 0.6)
    assert (local.pool, local.peak) == ("", 0.5)
    (pool,) = found.owned
    assert (pool.used, pool.members, pool.peak, pool.trend[-1]) == (0.6, 3, 0.6, 0.6)
    assert found.as_dict()["owned"][0]["capacity"] == 100


def test_a_process_that_does_not_own_it_does_not_know_its_use() -> None:
    """The process reported a full limit whenever its own wallet was empty."""
    shared, _ = usage().limits
    assert (shared.pool, shared.peak, shared.keys, shared.near_keys) == ("pool-x", None, None, None)
    assert shared.keys_by_use == (0, 0, 0, 0, 0)
    assert shared.allowed == 10


def test_a_process_hears_from_the_owner_for_a_while() -> None:
    made = meter("edge")
    made.usage(1.0, counted("x", lowest=0))
    made.hear([record("e2", owned())], 10)
    found = made.usage(10.9, counted("x", lowest=0))
    (shared,) = found.limits
    assert (shared.peak, shared.keys, shared.near_keys, shared.trend[-1].peak) == (0.6, 1, 0, 0.6)
    assert shared.keys_by_use == (0, 0, 0, 0, 0)  # sums over processes are exact
    assert [(pool.owner, pool.used, pool.reported != "") for pool in found.heard] == [
        ("0.o1", 0.6, True)
    ]
    assert found.owned == ()
    found = made.usage(11.1, counted("x", lowest=0))
    assert (found.limits[0].peak, found.heard) == (None, ())


def test_what_a_process_owns_counts_more_than_what_it_has_heard() -> None:
    made = meter("edge", owned(fullest=0.2))
    made.hear([record("e2", owned(fullest=0.9))], 10)
    found = made.usage(2.0, counted("x"))
    assert (found.limits[0].peak, found.heard) == (0.2, ())


def test_the_peak_of_an_owned_limit_is_that_of_the_last_minute() -> None:
    made = meter("edge", owned(fullest=0.9))
    peaks = []
    for at, row in ((1, owned(fullest=0.9)), (30, owned(fullest=0.2)), (95, owned(fullest=0.3))):
        made.shared = GivenShared(NAME, row)
        found = made.usage(float(at), counted("x"))
        peaks.append((found.owned[0].peak, found.owned[0].trend[-2:]))
    assert peaks == [(0.9, (None, 0.9)), (0.9, (None, 0.9)), (0.3, (0.9, 0.3))]


def test_another_owner_begins_anew() -> None:
    made = meter("edge", owned(fullest=0.9))
    made.usage(1.0, counted("x"))
    made.shared = GivenShared(NAME, owned(owner="0.o2", fullest=0.1))
    assert made.usage(2.0, counted("x")).owned[0].peak == 0.1


# All agents ---------------------------------------------------------------------------------------


def test_counts_are_added_and_the_use_is_the_owners() -> None:
    (total,) = totals([record("e1"), record("e2", owned()), record("e3")]).limits
    assert (total.agents, total.shared, total.allowed, total.keys) == (3, 3, 30, 1)
    assert (total.peak, total.recent.peak, total.trend[-1]) == (0.6, 0.6, (30, 0, 0.6))
    assert total.pool is not None
    assert (total.pool.used, total.pool.capacity, total.pool.free, total.pool.held) == (
        0.6, 100, 25, 15
    )  # fmt: skip
    assert [owner.agent for owner in total.pool.owners] == ["e2"]


def test_without_a_report_of_the_owner_the_use_is_unknown() -> None:
    (total,) = totals([record("e1"), record("e3")]).limits
    assert total.is_unknown
    assert (total.peak, total.recent.peak, total.pool) == (None, None, None)


def test_several_owners_add_up() -> None:
    """Each has other keys."""
    first = owned(capacity=50, free=50, held=0, keys=2, by_use=(1, 1, 0, 0, 0), fullest=0.7)
    second = owned(owner="1.o2", capacity=150, free=40, held=10, members=5, fullest=0.9)
    (total,) = totals([record("e1", first), record("e2", second)], minutes=5).limits
    pool = total.pool
    assert pool is not None
    assert (pool.capacity, pool.free, pool.held, pool.members, pool.used) == (200, 90, 10, 5, 0.5)
    assert (total.keys, total.peak, total.recent.peak) == (3, 0.9, 0.9)


def test_the_parts_of_one_bucket_count_as_one_key() -> None:
    rows = [
        owned(is_one=True),
        owned(owner="1.o2", is_one=True, fullest=0.9, by_use=(0, 0, 0, 1, 0)),
    ]
    (total,) = totals([record("e1", rows[0]), record("e2", rows[1])]).limits
    assert (total.keys, total.near_keys, total.peak) == (1, 1, 0.9)
    both = meter("edge", *rows).usage(1.0, counted("x"))
    (shared,) = both.limits
    assert (shared.keys, shared.near_keys, shared.peak) == (1, 1, 0.9)
    assert [pool.capacity for pool in both.owned] == [100, 100]


def test_a_process_that_owns_one_part_hears_of_the_other() -> None:
    made = meter("edge", owned(is_one=True))
    made.hear([record("e2", owned(owner="1.o2", is_one=True, fullest=0.9))], 10)
    found = made.usage(2.0, counted("x"))
    assert (found.limits[0].peak, found.limits[0].keys) == (0.9, 1)
    assert [pool.owner for pool in (*found.owned, *found.heard)] == ["0.o1", "1.o2"]


def test_a_dead_owner_of_one_shard_counts_beside_the_owner_of_the_other() -> None:
    records = [
        record("e1", owned(owner="0.dead", free=0)),
        record("e2", owned(owner="1.new")),
        record("e3", owned(owner="1.dead")),
    ]
    (total,) = totals(records, owners={"0.new", "1.new"}).limits
    assert total.pool is not None
    assert [owner.owner for owner in total.pool.owners] == ["0.dead", "1.new"]


def test_the_report_of_a_dead_owner_does_not_count_beside_the_new_one() -> None:
    """The old report stays for 15 seconds, and the limit looked twice as large."""
    records = [record("e1", owned(owner="0.dead", free=0)), record("e2", owned(owner="0.new"))]
    (total,) = totals(records, owners={"0.new"}).limits
    assert total.pool is not None
    assert (total.pool.capacity, total.pool.free) == (100, 25)
    assert [owner.owner for owner in total.pool.owners] == ["0.new"]


def test_until_the_new_owner_has_reported_the_old_report_counts() -> None:
    """Its age is shown."""
    (total,) = totals([record("e1", owned(owner="0.dead"))], owners={"0.new"}).limits
    assert total.pool is not None
    assert [owner.owner for owner in total.pool.owners] == ["0.dead"]


def test_agents_that_count_alone_have_buckets_of_their_own() -> None:
    """Such as one that cannot reach the others."""
    alone = GivenMeter("e9").record(1.0, counted("x", lowest=5))
    (total,) = totals([record("e1", owned()), alone]).limits
    assert (total.agents, total.shared, total.peak) == (2, 1, 0.95)


def test_a_trend_that_was_left_out_stays_unknown() -> None:
    """A record that is full has no trends: its counts are not 0."""
    bare = record("e1", owned())
    bare = replace(bare, limits=[replace(bare.limits[0], trend=[])])
    (total,) = totals([bare], minutes=15).limits
    assert total.trend == []
    assert total.recent.peak == 0.6


# Records ------------------------------------------------------------------------------------------


def test_records_are_bounded_with_many_pools() -> None:
    """The fullest are kept."""
    rows = [
        owned(pool=f'["/{number:0190}",{number}]', fullest=number / 2_000)
        for number in range(2_000)
    ]
    made = meter("e1", *rows)
    encoded = made.record(1.0, counted("x")).encode()
    assert len(encoded) <= 64 * 1024
    pools = UsageRecord.decode(encoded).pools
    assert pools[0].peak == max(row.fullest for row in rows)


@pytest.mark.parametrize(
    "changes",
    [{"capacity": -1}, {"free": "9"}, {"peak": 1.5}, {"trend": [2.0]}, {"trend": ["x"]}],
)
def test_odd_pools_are_refused(changes: dict[str, Any]) -> None:
    made = record("e1", owned())
    odd = replace(made, pools=[replace(made.pools[0], **changes)])
    with pytest.raises(BundleError):
        UsageRecord.decode(odd.encode())


def test_a_pool_without_capacity_is_not_used() -> None:
    made = record("e1", owned())
    odd = replace(made, pools=[replace(made.pools[0], capacity=0, free=0, held=0)])
    (total,) = totals([odd]).limits
    assert total.pool is not None
    assert total.pool.used == 0
