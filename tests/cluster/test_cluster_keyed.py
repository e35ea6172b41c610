"""Limits that count per key, on a machine of members with real engines and a fake clock.

Each admission is compared with one central bucket of its key: ``ask_for`` fails on the first that
it would not admit.
"""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from machine import Machine

from engine.engines import ENGINES
from ratectl.cluster.entries import RosterState
from ratectl.cluster.protocol.capacity import WHOLE
from ratectl.cluster.protocol.timing import MILLISECOND as MS
from ratectl.cluster.protocol.timing import SECOND
from soak import scaled

if TYPE_CHECKING:
    from collections.abc import Callable

    from machine import Member

RATE, BURST = 100, 100


@pytest.fixture(params=sorted(ENGINES))
def machine(request: pytest.FixtureRequest) -> Machine:
    """A machine with one limit of 100/s for each tenant."""
    machine = Machine()
    machine.make_engine = ENGINES[request.param]
    machine.by_tenant = {"each": (RATE, BURST)}
    return machine


def settled(machine: Machine, count: int) -> list[Member]:
    """Start members, and wait until each has its share: it does not move any more."""
    members = machine.start(count)
    machine.run(2 * SECOND)
    assert all(abs(each.limits.share_in_force - WHOLE // count) <= 1 for each in members)
    return members


def asking(machine: Machine, tenants: list[str], admitted: dict[str, int]) -> Callable[[int], None]:
    """Return a step in which every member asks once for every tenant."""

    def each(step: int) -> None:
        for member in list(machine.members.values()):
            for tenant in tenants:
                admitted[tenant] = admitted.get(tenant, 0) + member.ask_for(tenant)

    return each


def used(machine: Machine, tenants: list[str], duration: int) -> list[float]:
    """Return the part of each tenant's rate that is used if all members ask all the time."""
    admitted: dict[str, int] = {}
    machine.run(duration, asking(machine, tenants, admitted))
    return [admitted[tenant] * SECOND / (RATE * duration) for tenant in tenants]


def test_every_key_is_one_limit(machine: Machine) -> None:
    settled(machine, 3)
    used(machine, ["a", "b"], 3 * SECOND)
    assert min(used(machine, ["a", "b"], 4 * SECOND)) > 0.97


def test_a_key_that_one_member_asks_for(machine: Machine) -> None:
    first, *_ = settled(machine, 4)
    admitted = 0

    def each(step: int) -> None:
        nonlocal admitted
        admitted += first.ask_for("a")

    machine.run(3 * SECOND, each)
    admitted = 0
    machine.run(4 * SECOND, each)
    assert admitted > 0.97 * 4 * RATE


def test_rare_keys_need_no_other_process(machine: Machine) -> None:
    """Half of the burst is never lent: of 100 tokens, each of four members has twelve."""
    members = settled(machine, 4)
    for member in members:
        for n in range(20):
            assert [member.ask_for(f"rare-{n}") for _ in range(12)] == [True] * 12
        assert member.ask_for("rare-0") is False


def test_a_key_that_is_asked_for_now_and_then_is_never_refused(machine: Machine) -> None:
    """A wallet that nobody needs any more fills the own part, which accrues nothing in that time:
    alone it would fill in 500 seconds."""
    machine.timing = replace(machine.timing, longest_interest=machine.timing.interest)
    machine.by_tenant = {"each": (1, 12)}
    members = settled(machine, 5)
    for _ in range(6):
        assert [member.ask_for("rare") for member in members] == [True] * 5
        machine.run(6 * SECOND)


def test_without_an_owner_own_parts_are_filled_as_well(machine: Machine) -> None:
    machine.by_tenant = {"each": (1, 8)}
    members = settled(machine, 2)
    machine.cut = {member.links.name for member in members}
    machine.run(8 * SECOND)
    for _ in range(5):
        assert [member.ask_for("rare") for member in members] == [True] * 2
        machine.run(5 * SECOND)


def test_requests_below_the_rate_are_rarely_refused(machine: Machine) -> None:
    members = settled(machine, 4)
    tenants = [f"t{n}" for n in range(5)]
    random_ = random.Random(1)
    asked = refused = 0

    def each(step: int) -> None:
        nonlocal asked, refused
        for tenant in tenants:
            if random_.random() < 0.07:  # 0.7 of 100/s
                asked += 1
                refused += not random_.choice(members).ask_for(tenant)

    machine.run(SECOND, each)
    asked = refused = 0
    machine.run(6 * SECOND, each)
    assert refused / asked <= 0.02


def test_keys_that_nobody_asks_for_are_forgotten(machine: Machine) -> None:
    members = settled(machine, 3)
    machine.run(SECOND, asking(machine, [f"t{n}" for n in range(50)], {}))
    limits = [limit for owner in machine.owners for limit in owner.limits.values()]
    assert sum(len(limit.pools) for limit in limits) >= 50
    assert all(10 < len(limit.pools) < 40 for limit in limits)
    machine.run(30 * SECOND)
    assert [len(limit.pools) for limit in limits] == [0, 0]
    for member in members:
        for shard in member.node.shards:
            assert shard.lender.session is not None
            assert not shard.lender.session.draws
        assert [each.wallets.count for each in member.limits.in_force().values()] == [0]  # type: ignore[union-attr]


def test_a_process_that_joins_serves_rare_keys_at_once(machine: Machine) -> None:
    """Its part of a key that it has not been asked for is full, and not what was left elsewhere."""
    machine.moved = 20
    members = settled(machine, 4)
    asking(machine, ["a"], {})(0)
    (new,) = machine.start()
    machine.run(2 * SECOND)
    assert [new.ask_for(f"rare-{n}") for n in range(20)] == [True] * 20
    assert [members[0].ask_for(f"rare-{n}") for n in range(20)] == [True] * 20


def test_the_first_member_begins_full(machine: Machine) -> None:
    (first,) = machine.start()
    machine.run(100 * MS)
    assert [first.ask_for("a") for _ in range(50)] == [True] * 50
    admitted = 0

    def each(step: int) -> None:
        nonlocal admitted
        admitted += first.ask_for("a")

    machine.run(200 * MS, each)
    assert admitted >= 50


def test_without_an_owner_members_use_their_shares(machine: Machine) -> None:
    members = settled(machine, 4)
    used(machine, ["a"], 3 * SECOND)
    machine.cut = {member.links.name for member in members}
    used(machine, ["a"], 3 * SECOND)
    assert min(used(machine, ["a"], 4 * SECOND)) > 0.9
    machine.cut = set()
    used(machine, ["a"], 3 * SECOND)
    assert min(used(machine, ["a"], 4 * SECOND)) > 0.97


@pytest.mark.parametrize("seed", range(scaled(2, 30)))
def test_no_key_exceeds_its_limit_whatever_happens(machine: Machine, seed: int) -> None:
    """Members come, are killed, cut off and stopped, owners hand over, and shares move."""
    random_ = random.Random(seed)
    rate, burst = random_.choice([(100, 100), (20, 8), (50, 200)])
    machine.by_tenant = {"each": (rate, burst)}
    machine.moved = burst // 2
    machine.timing = replace(machine.timing, whole_for=300 * MS)
    machine.start(3)
    tenants = ["a", "b", "c"]

    def each(step: int) -> None:
        for member in list(machine.members.values()):
            if not member.frozen and random_.random() < 0.3:
                large = random_.random() < 0.1 and step % 2_500 < 500
                cost = random_.randint(1, burst) if large else random_.choice((1, 1, 1, 3))
                member.ask_for(random_.choice(tenants), cost)
        if random_.random() < 0.005:
            happen(machine, random_)

    machine.run(5 * SECOND, each)


def happen(machine: Machine, random_: random.Random) -> None:
    members = list(machine.members.values())
    member = random_.choice(members) if members else None
    what = random_.randrange(6)
    if member is None or (what == 0 and len(members) < 6):
        machine.start()
    elif what == 1 and len(members) > 1:
        machine.members.pop(member.links.name)  # killed
    elif what == 2:
        member.frozen = not member.frozen
    elif what == 3:
        machine.cut ^= {member.links.name}
    elif what == 4:
        member.keeper.hand_over()
    else:
        member.publish(member.sizes)


def test_a_limit_that_was_gone_for_a_while(machine: Machine) -> None:
    """Its wallets are gone: what was in them is void, or owners would wait for it for ever."""
    members = settled(machine, 3)
    used(machine, ["a", "b"], 2 * SECOND)
    limits = machine.by_tenant
    for pause in (300 * MS, 3 * SECOND):
        machine.by_tenant = {}
        for member in members:
            member.publish({})
        machine.run(pause)
        machine.by_tenant = limits
        for member in members:
            member.publish({})
        used(machine, ["a", "b"], 3 * SECOND)
        assert min(used(machine, ["a", "b"], 3 * SECOND)) > 0.9
    owner = machine.owner.shard.owner
    assert owner is not None
    assert not any(limit.lent.recalling for limit in owner.limits.values())


def test_a_part_that_belongs_to_somebody_else_is_not_used(machine: Machine) -> None:
    """A forked child has the plans of its parent for a moment, and no share."""
    member, *_ = settled(machine, 2)
    used(machine, ["a"], 2 * SECOND)
    standing = member.keeper.standing
    assert standing is not None
    assert member.ask_for("rare")
    nobody = RosterState({}, {}, 0, 0, 0)
    member.keeper.standing = standing._replace(share=0, roster=nobody)
    member.node.round(0)
    assert not member.engine.check("/", {"tenant": "other"}).allowed


def test_a_fork_is_a_member_of_its_own(machine: Machine) -> None:
    parent, *_ = settled(machine, 2)
    used(machine, ["a"], 2 * SECOND)
    parent.engine.after_fork_in_child()
    parent.limits.after_fork_in_child()
    assert not any(parent.engine.check("/", {"tenant": f"t{n}"}).allowed for n in range(5))
    assert not parent.engine.check("/", {"tenant": "a"}).allowed
    assert parent.limits.share_in_force > 0
    assert parent.limits.is_share_due
