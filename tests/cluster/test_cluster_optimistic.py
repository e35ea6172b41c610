"""Limits of which processes may admit a little more than their shares, and windows per key.

Each admission is compared with one central bucket, or the log of one window.
"""

from __future__ import annotations

import random
from fractions import Fraction
from typing import TYPE_CHECKING

import pytest
from machine import Machine, bucket
from test_cluster_keyed import happen

from engine.engines import ENGINES
from ratectl.cluster.keyed import lent_size, own_part
from ratectl.cluster.protocol.capacity import WHOLE, Size
from ratectl.cluster.protocol.timing import SECOND
from ratectl.engine.algorithms.sliding_window import SlidingWindow
from ratectl.engine.algorithms.token_bucket import TokenBucket
from soak import scaled
from support import once

if TYPE_CHECKING:
    from machine import Limit, Member

    from ratectl.cluster.pools import Local


@pytest.fixture(params=sorted(ENGINES))
def machine(request: pytest.FixtureRequest) -> Machine:
    machine = Machine()
    machine.make_engine = ENGINES[request.param]
    return machine


def window(capacity: int, seconds: int = 2) -> SlidingWindow:
    return SlidingWindow(capacity, seconds * SECOND)


def started(machine: Machine, count: int, limit: Limit, *, optimistic: bool) -> list[Member]:
    """Start members with a limit for each tenant, and wait until each has its share."""
    machine.by_tenant, machine.optimistic = {"each": limit}, optimistic
    machine.moved = count * optimistic
    members = machine.start(count)
    machine.run(2 * SECOND)
    return members


def admitted(machine: Machine, members: list[Member], duration: int) -> int:
    """Return how many requests of one tenant are admitted while members ask all the time."""
    count = 0

    def ask(step: int) -> None:
        nonlocal count
        count += sum([member.ask_for("a") for member in members])

    machine.run(duration, ask)
    return count


@pytest.mark.parametrize("optimistic", [False, True])
def test_a_window_of_a_key_is_one_for_all_members(machine: Machine, optimistic: bool) -> None:
    members = started(machine, 3, window(300), optimistic=optimistic)
    admitted(machine, members, 2 * SECOND)
    assert admitted(machine, members, 4 * SECOND) >= 2 * 300 * 0.95


@pytest.mark.parametrize(("optimistic", "most"), [(False, 296), (True, 300)])
def test_a_window_of_a_key_that_one_member_asks_for(
    machine: Machine, optimistic: bool, most: int
) -> None:
    """The other members keep a place each, or have one beside the window."""
    members = started(machine, 4, window(300), optimistic=optimistic)
    admitted(machine, members[:1], 2 * SECOND)
    assert most * 2 * 0.95 <= admitted(machine, members[:1], 4 * SECOND) <= (most + 2) * 2


@pytest.mark.parametrize("limit", [window(8), (1, 12)])
def test_each_member_admits_a_first_request_at_once(machine: Machine, limit: Limit) -> None:
    members = started(machine, 4, limit, optimistic=False)
    for n in range(20):
        assert [member.ask_for(f"rare-{n}") for member in members] == [True] * 4


@pytest.mark.parametrize("limit", [window(7), (1, 7), window(1), (1, 1)])
@pytest.mark.parametrize("optimistic", [False, True])
def test_members_of_a_small_limit(machine: Machine, limit: Limit, optimistic: bool) -> None:
    """With fewer than two tokens for each member, only optimistic ones have one for each key."""
    members = started(machine, 4, limit, optimistic=optimistic)
    for n in range(5):
        assert [member.ask_for(f"rare-{n}") for member in members] == [optimistic] * 4


def test_a_place_is_used_once_in_a_window(machine: Machine) -> None:
    first, *_ = started(machine, 4, window(8, seconds=1), optimistic=False)
    assert [first.ask_for("a"), first.ask_for("a")] == [True, False]
    for member in machine.members.values():
        member.frozen = True  # nobody fills a wallet
    machine.run(SECOND)
    assert [first.ask_for("a"), first.ask_for("a")] == [False, False]
    machine.run(SECOND // 100)  # clocks may differ, and places are counted in steps
    assert [first.ask_for("a"), first.ask_for("a")] == [True, False]


@once
@pytest.mark.parametrize("period", [SECOND, 7 * 60 * SECOND, 86_400 * SECOND])
@pytest.mark.parametrize(("burst", "added"), [(60, 0), (1, 1)])
def test_an_own_part_accrues_a_fiftieth_of_the_rate(period: int, burst: int, added: int) -> None:
    """Otherwise a key that has used it up would never have a token for its first request again."""
    local, members = TokenBucket(5, period, burst), 50
    size = Size(5 * SECOND * SECOND // period, burst, added=added)
    part = own_part(local, size, WHOLE // members, 500)
    exact = Fraction(5, period * 50 * members)
    assert exact * 9 / 10 <= Fraction(part.per_ns, part.per_token) <= exact
    assert lent_size(size).rate * 50 <= size.rate * 49


@pytest.mark.parametrize("is_late", [False, True])
def test_a_session_that_ends_fills_own_parts_in_time(machine: Machine, is_late: bool) -> None:
    """Too late, the owner has taken the tokens for spent: their places are free a window later."""
    member, *_ = started(machine, 2, window(40, seconds=60), optimistic=False)
    assert member.ask_for("a")
    machine.run(SECOND // 10)
    machine.cut = set(machine.members)
    before = machine.now
    machine.now += is_late * 2 * SECOND  # the thread has read the clock, and was stopped
    for shard in member.node.shards:
        shard.lender.close(before)
    assert [member.ask_for("a"), member.ask_for("a")] == [not is_late, False]


@pytest.mark.parametrize("limit", [window(40), (20, 40)])
@pytest.mark.parametrize("cost", [0, 1])
def test_what_a_request_has_cost_in_the_end_is_spent(
    machine: Machine, limit: Limit, cost: int
) -> None:
    member, other, *_ = started(machine, 2, limit, optimistic=False)
    spent = 0

    def ask(step: int) -> None:
        nonlocal spent
        for each in (member, other):
            decision = each.engine.check("/", {"tenant": "a"}, cost)
            if decision.allowed:
                decision.settle(10)
                spent += 10

    machine.run(4 * SECOND, ask)
    most = 40 + 4 * 20 if isinstance(limit, tuple) else 2 * 40
    assert most * 0.8 <= spent <= most + 2 * 10


@pytest.mark.parametrize("limit", [window(0), (0, 5), window(3)])
def test_what_never_passes(machine: Machine, limit: Limit) -> None:
    first, *_ = started(machine, 2, limit, optimistic=True)
    refused = first.engine.check("/", {"tenant": "a"}, 4)
    assert (refused.allowed, refused.reason) == (False, "never")
    is_none = not isinstance(limit, SlidingWindow) or not limit.capacity
    assert first.ask_for("a") is not is_none


@pytest.mark.parametrize("name", ENGINES)
def test_small_limits_of_many_members_are_used(name: str) -> None:
    """A burst of 2 for 8 members: strictly, at most two of them have a token at a time."""
    machine = Machine(more=16, fleet=(50, 2))
    machine.optimistic = True
    machine.make_engine = ENGINES[name]
    members = machine.start(8)
    machine.run(SECOND)
    count = 0

    def ask(step: int) -> None:
        nonlocal count
        count += sum([member.ask() for member in members])

    machine.run(2 * SECOND, ask)
    count = 0
    machine.run(4 * SECOND, ask)
    assert count >= 4 * 50 * 0.97


def test_no_request_costs_more_than_the_burst(machine: Machine) -> None:
    machine = Machine(more=8, fleet=(50, 2))
    machine.optimistic = True
    (member, *_) = machine.start(2)
    machine.run(SECOND)
    decision = member.engine.check("/", {}, 3)
    assert (decision.allowed, decision.reason, decision.capacity) == (False, "never", 2)
    assert member.engine.check("/", {}, 0).remaining <= 2


@pytest.mark.parametrize("optimistic", [False, True])
@pytest.mark.parametrize("seed", range(scaled(2, 30)))
def test_no_window_of_a_key_holds_too_many(machine: Machine, seed: int, optimistic: bool) -> None:
    """Members come, are killed, cut off and stopped, owners hand over, and shares move."""
    random_ = random.Random(f"{seed} {optimistic}")
    machine.by_tenant = {"each": window(random_.choice([20, 60, 4]), random_.choice([1, 2]))}
    machine.optimistic = optimistic
    machine.start(3)

    def each(step: int) -> None:
        for member in list(machine.members.values()):
            if not member.frozen and random_.random() < 0.3:
                member.ask_for(random_.choice("abc"), random_.choice((1, 1, 1, 3)))
        if random_.random() < 0.005:
            happen(machine, random_)

    machine.moved = 16  # each process that was there in a window has one place of its own
    machine.run(5 * SECOND, each)


@pytest.mark.parametrize("local", [window(9), bucket(1, 9)])
def test_a_process_without_a_share_has_no_part_of_a_key(local: Local) -> None:
    """Others count what it has been given: it has just joined, or its parent has forked it."""
    whole = Size(0 if isinstance(local, SlidingWindow) else SECOND, 9, local_window(local), added=1)
    assert own_part(local, whole, 0, 0).capacity == 0
    assert own_part(local, whole, 1, 0).capacity > 0


def local_window(local: Local) -> int:
    return local.window_ns if isinstance(local, SlidingWindow) else 0
