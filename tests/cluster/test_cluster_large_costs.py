"""Requests of one key that cost more than members lend while they keep their parts."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from machine import Machine

from cluster.small_cluster import KEYED, ONE
from engine.engines import ENGINES
from ratectl.cluster.protocol.capacity import WHOLE, Lent, Size
from ratectl.cluster.protocol.large_costs import LargeCosts
from ratectl.cluster.protocol.pool import Account, Pool
from ratectl.cluster.protocol.timing import MILLISECOND as MS
from ratectl.cluster.protocol.timing import SECOND
from ratectl.cluster.wholes import Wholes
from ratectl.engine.algorithms.sliding_window import SlidingWindow
from soak import scaled

if TYPE_CHECKING:
    from machine import Limit

    from ratectl.cluster.protocol.messages import PoolId

LASTS = 3 * SECOND


def machine_of(
    limit: Limit, engine: str | None = None, members: int = 4, lasts: int = LASTS
) -> Machine:
    """Return members that share a limit for each tenant, and have had it for two seconds."""
    machine = Machine()
    if engine is not None:
        machine.make_engine = ENGINES[engine]
    machine.timing = replace(machine.timing, whole_for=lasts)
    machine.by_tenant = {"each": limit}
    machine.start(members)
    machine.run(2 * SECOND)
    return machine


def waited(machine: Machine, cost: int, most: int, tenant: str = "a") -> int | None:
    """Return after how many milliseconds a request is admitted that is repeated every 20."""
    member, *_ = machine.members.values()
    for n in range(most // (20 * MS)):
        if member.ask_for(tenant, cost):
            return n * 20
        machine.run(20 * MS)
    return None


def parts(machine: Machine) -> set[tuple[bool, bool]]:
    """Return whether members keep parts, and whether they lend the limit whole."""
    return {
        (limit.is_kept, limit.is_lent_whole)  # type: ignore[union-attr]
        for member in machine.members.values()
        for limit in member.limits.in_force().values()
    }


@pytest.mark.parametrize("engine", sorted(ENGINES))
@pytest.mark.parametrize(("cost", "most"), [(51, 500 * MS), (75, SECOND), (100, 2 * SECOND)])
def test_a_request_for_more_than_is_lent_is_admitted(engine: str, cost: int, most: int) -> None:
    machine = machine_of((100, 100), engine)
    assert waited(machine, cost, most) is not None
    assert parts(machine) == {(False, True)}


@pytest.mark.parametrize("cost", [97, 100])
def test_all_places_of_a_window_are_for_one_request_if_it_needs_them(cost: int) -> None:
    machine = machine_of(SlidingWindow(100, 2 * SECOND))
    assert waited(machine, cost, 5 * SECOND) is not None


def test_a_request_for_more_than_the_limit_never_passes() -> None:
    machine = machine_of((100, 100), members=1)
    (member,) = machine.members.values()
    decision = member.engine.check("/", {"tenant": "a"}, 101)
    assert (decision.allowed, decision.reason, decision.capacity) == (False, "never", 100)
    assert waited(machine, 101, SECOND) is None
    assert parts(machine) == {(True, False)}


def test_while_a_limit_is_lent_whole_others_wait_for_some_milliseconds() -> None:
    machine = machine_of((100, 100))
    waited(machine, 75, SECOND)
    assert waited(machine, 1, 100 * MS, "rare") in {20, 40}


def test_parts_come_back_empty_some_time_after_the_last_large_request() -> None:
    machine = machine_of((100, 100))
    waited(machine, 75, SECOND)
    machine.run(LASTS - 100 * MS)
    assert parts(machine) == {(False, True)}
    machine.run(SECOND)
    assert parts(machine) == {(True, False)}
    assert waited(machine, 75, SECOND) is not None


def test_a_member_that_comes_lends_all_as_the_others_do() -> None:
    machine = machine_of((100, 100))
    waited(machine, 75, SECOND)
    machine.start()
    machine.run(2 * SECOND)
    assert parts(machine) == {(False, True)}
    assert waited(machine, 100, 2 * SECOND) is not None


def test_a_process_alone_keeps_no_other_part() -> None:
    machine = machine_of((100, 100), members=1)
    assert waited(machine, 100, 2 * SECOND) is not None


@pytest.mark.parametrize("window", [False, True])
@pytest.mark.parametrize("seed", range(scaled(1, 30)))
def test_no_key_exceeds_its_limit_as_parts_go_and_come_back(seed: int, window: bool) -> None:
    random_ = random.Random(seed)
    limit = SlidingWindow(100, SECOND) if window else (100, 100)
    machine = machine_of(limit, members=3, lasts=200 * MS)
    seen = set()

    def each(step: int) -> None:
        large = step % 4_000 < 400
        for member in machine.members.values():
            if random_.random() < 0.3:
                cost = random_.randint(1, 100 if large else 10)
                member.ask_for(random_.choice("abc"), cost)
        seen.update(parts(machine))

    machine.run(9 * SECOND, each)
    assert seen == {(True, False), (False, True), (False, False)}


def test_parts_come_back_only_after_a_generation_without_them_that_lends_less() -> None:
    machine = machine_of((100, 100), members=1)
    (member,) = machine.members.values()
    limits = member.limits
    (pool,) = limits.in_force()
    limits.lend_whole({pool})
    member.publish(member.sizes)
    assert parts(machine) == {(False, True)}
    limits.lend_whole(set())
    assert limits.is_share_due
    assert not limits.are_leaving, "the whole is lent still"
    member.publish(member.sizes)
    assert parts(machine) == {(False, False)}
    assert limits.are_leaving
    limits.settle(machine.now)
    assert not limits.are_leaving
    member.publish(member.sizes)
    assert parts(machine) == {(True, False)}


# Which requests are large ---------------------------------------------------------------------


def noted(
    costs: LargeCosts, least: int, lent: Lent, now: int = 0, name: PoolId = KEYED
) -> tuple[str, ...]:
    account = Account(1)
    account.least = least
    costs.note(name, Pool(0), account, lent, now)
    return costs.whole(now)


def lent(share: int = WHOLE, burst: int = 50) -> Lent:
    lent = Lent()
    lent.add(Size(0, burst), share)
    return lent


@pytest.mark.parametrize(
    ("least", "share", "whole"),
    [(50, WHOLE, False), (51, WHOLE, True), (101, WHOLE, True), (102, WHOLE, False),
     (40, 600_000, False), (60, 600_000, True), (10**40, WHOLE, False), (60, 0, False),
     (60, WHOLE // 2, False)],
)  # fmt: skip
def test_requests_for_more_than_all_members_lend(least: int, share: int, whole: bool) -> None:
    """Half of the shares is not enough: one member alone may say that there is such a limit."""
    assert bool(noted(LargeCosts(100), least, lent(share))) is whole


def test_a_limit_with_one_bucket_has_no_parts() -> None:
    assert noted(LargeCosts(100), 60, lent(), name=ONE) == ()


def test_a_limit_that_is_lent_whole_stays_so_for_large_requests_alone() -> None:
    costs = LargeCosts(100)
    assert noted(costs, 60, lent(), 0) == ("keyed",)
    assert noted(costs, 60, lent(burst=100), 90) == ("keyed",)
    assert noted(costs, 50, lent(burst=100), 189) == ("keyed",)
    assert noted(costs, 50, lent(burst=100), 190) == ()


def test_accounts_that_wait_in_vain_are_told_when_there_is_room() -> None:
    costs, pool = LargeCosts(100), Pool(0)
    account = pool.begin("m", 1)
    account.least = 60
    costs.note(KEYED, pool, account, lent(), 0)
    assert account.in_vain
    assert list(costs.changed("other", lent(burst=100))) == []
    assert list(costs.changed("keyed", lent())) == []
    assert list(costs.changed("keyed", lent(burst=100))) == [(KEYED, "m", account)]
    assert list(costs.changed("keyed", lent())) == [], "it is not known any more"


# What a process keeps -------------------------------------------------------------------------


def test_a_part_goes_at_once_and_comes_back_after_others_know() -> None:
    wholes = Wholes()
    assert wholes.is_kept("a")
    assert wholes.want({"a", "b"})
    assert not wholes.want({"a", "b"})
    assert (wholes.is_lent("a"), wholes.is_kept("a")) == (True, False)
    assert wholes.want({"b"})
    assert (wholes.is_lent("a"), wholes.is_kept("a"), wholes.are_leaving) == (False, False, True)
    assert wholes.since("a") is None
    assert wholes.settle(7)
    assert not wholes.settle(8)
    assert (wholes.is_lent("a"), wholes.is_kept("a"), wholes.since("a")) == (False, True, 7)


def test_a_part_that_was_to_come_back_is_lent_again() -> None:
    wholes = Wholes()
    wholes.want({"a"})
    wholes.want(set())
    wholes.want({"a"})
    assert not wholes.are_leaving
    assert wholes.is_lent("a")
