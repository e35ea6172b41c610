"""Processes of one machine, their threads and their store, on a clock that stands still."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from machine import LASTS, Machine, central, name_of

from ratectl.cluster.peers import UnixPeers
from ratectl.cluster.protocol.timing import MILLISECOND as MS
from ratectl.cluster.protocol.timing import SECOND
from ratectl.cluster.sharding import SHARD_NAMES
from ratectl.records import owner_name
from soak import scaled

if TYPE_CHECKING:
    from machine import Member

ONE = {"one": (200, 100)}
OTHER = {"one": (200, 100), "other": (50, 50)}


def ask_all(machine: Machine) -> int:
    """Let every member ask once; return how many were admitted."""
    return sum(member.ask() for member in machine.members.values() if not member.frozen)


def used(machine: Machine, duration: int) -> float:
    """Return the part of the rate that is used if all members ask all the time."""
    admitted = 0

    def each(step: int) -> None:
        nonlocal admitted
        admitted += ask_all(machine)

    machine.run(duration, each)
    return admitted / (machine.sizes["one"][0] * duration / SECOND)


def test_members_share_one_limit() -> None:
    machine = Machine(**ONE)
    machine.start(4)
    assert used(machine, 2 * SECOND) > 0.9
    assert used(machine, 2 * SECOND) > 0.95


def test_shares_become_equal() -> None:
    machine = Machine(**ONE)
    machine.start(4)
    used(machine, 4 * SECOND)
    assert {member.lender_share for member in map(_View, machine.members.values())} == {250_000}
    assert used(machine, 1 * SECOND) > 0.95


class _View:
    def __init__(self, member: Member) -> None:
        self.lender_share = member.lender.share


def test_a_limit_that_is_gone_leaves_nothing_behind() -> None:
    """Totals of its wallet became negative in polls, and its tokens stayed recalled for ever."""
    machine = Machine(**ONE)
    members = machine.start(3)
    for member in members:
        member.publish(OTHER)
    machine.run(SECOND)
    for member in members:
        member.publish(ONE)
    assert used(machine, 2 * SECOND) > 0.9
    owner = machine.owner.shard.owner
    assert owner is not None
    assert not any(limit.lent.recalling for limit in owner.limits.values())
    for member in members:
        assert member.lender.session is not None
        assert len(member.lender.session.draws) == 1
        assert member.lender.counted == member.lender.share


def test_a_limit_comes_back() -> None:
    machine = Machine(**ONE)
    members = machine.start(3)
    for member in members:
        member.publish({})
    machine.run(100 * MS)
    for _ in range(3):
        for member in members:
            member.publish(ONE)
        assert used(machine, 1 * SECOND) > 0
        for member in members:
            member.publish({})
        machine.run(50 * MS)
    for member in members:
        member.publish(ONE)
    used(machine, SECOND)
    assert used(machine, 2 * SECOND) > 0.95


@pytest.mark.parametrize("of_all", [True, False])
def test_nothing_changes_while_the_store_is_lost_and_owners_answer(of_all: bool) -> None:
    """Members went back to their own shares after 30 s: requests that are not spread evenly were
    refused, although all members could still reach their owner."""
    machine = Machine(**ONE)
    members = machine.start(2)
    used(machine, 2 * SECOND)
    for member in members if of_all else members[1:]:
        member.store_is_down = member.goes_on = True
    assert used(machine, 26 * SECOND) > 0.95
    admitted = 0

    def each(step: int) -> None:
        nonlocal admitted
        admitted += members[0].ask()  # the other one has no requests

    machine.run(20 * SECOND, each)
    assert admitted > 0.95 * ONE["one"][0] * 20
    for member in members:
        member.store_is_down = False
    if of_all:
        used(machine, SECOND)
        assert used(machine, SECOND) > 0.95
        assert list(machine.members.values()) == members  # nobody was taken for gone


def test_a_member_without_the_store_and_an_owner_goes_on_with_its_own_share() -> None:
    machine = Machine(**ONE)
    first, second = machine.start(2)
    used(machine, 2 * SECOND)
    second.store_is_down = second.goes_on = True
    machine.cut = {second.links.name}
    machine.run(2 * SECOND)
    assert used(machine, 24 * SECOND) > 0.9  # each has half
    # Whoever reaches the store takes the share of the other one after 30 s: it is used twice.
    machine.central["one"] = central((300, 150))
    machine.central["one"].admit(100, machine.now)
    assert 1.4 < used(machine, 20 * SECOND) <= 1.51
    assert first.node.share == 1_000_000
    assert not all(shard.lender.lent for shard in second.node.shards)


def test_a_member_that_was_stopped_waits_for_the_store_before_it_uses_its_share() -> None:
    machine = Machine(**ONE)
    first, second = machine.start(2)
    machine.run(2 * SECOND)
    second.frozen = True
    machine.run(45 * SECOND)
    second.frozen, second.goes_on = False, True
    assert not second.ask()
    second.node.round(0)
    assert not second.ask()
    assert first.ask()


def test_an_old_entry_means_a_lost_store_only_after_a_while() -> None:
    machine = Machine(**ONE)
    (first,) = machine.start(1)
    standing = first.keeper.standing
    assert standing is not None
    old = standing.use_until
    late = [old - 1, old, old + 2 * SECOND - 1, old + 2 * SECOND]
    assert [first.node._is_store_lost(standing, now) for now in late] == [False, False, False, True]
    renewed = standing._replace(use_until=old + 10 * SECOND)
    assert not first.node._is_store_lost(renewed, old + 3 * SECOND)


def test_an_owner_without_requests_of_its_own_shares_out_what_others_wait_for() -> None:
    """Its thread slept for 100 ms: members got what had accrued as seldom as that."""
    machine = Machine(**ONE)
    machine.start(2)
    machine.run(11 * SECOND)
    owner = machine.owner
    (other,) = [member for member in machine.members.values() if member is not owner]
    assert owner.node._pause() == 100 * MS
    machine.run(2 * SECOND, lambda _: other.ask())
    assert owner.node._pause() == 4 * MS


def test_the_end_of_a_membership_is_no_problem_if_the_entry_is_lost() -> None:
    machine = Machine(**ONE)
    (first,) = machine.start(1)
    machine.store.txn([], [])
    first.keeper.lost = True
    assert first.node.run(lambda problem: None, UnixPeers()) is None


def test_without_limits_the_membership_ends() -> None:
    machine = Machine(**ONE)
    (first,) = machine.start(1)
    machine.run(SECOND)
    first.publish({})
    polls = first.links.polls
    assert first.node.run(lambda problem: None, UnixPeers()) is None
    assert first.links.polls == polls


def test_problems_of_the_store_are_noted_once() -> None:
    machine = Machine(**ONE)
    (first,) = machine.start(1)
    noted: list[str | None] = []
    first.keeper.problem = "slow"
    rounds = iter([None, "slow too", None])

    def round_of(wait: int) -> None:
        first.keeper.problem = next(rounds)
        if first.keeper.problem is None and len(noted) > 2:
            first.node.stop()

    first.node.round = round_of  # type: ignore[method-assign]
    first.node.run(noted.append, UnixPeers())
    assert noted == ["slow", None, "slow too"]


@pytest.mark.parametrize("address", ["", "nonsense", "unix:", "host:99999", "unix:/nobody"])
def test_an_owner_that_cannot_be_reached_is_replaced(address: str) -> None:
    machine = Machine(**ONE)
    machine.start(2)
    machine.run(SECOND)
    assert machine.name_owner(machine.owner.keeper._roster, "ghost")
    if address != "unix:/nobody":
        ghost = owner_name(SHARD_NAMES[machine.shard], "ghost")
        for member in machine.members.values():
            member.shard._addresses[ghost] = address
    machine.run(2 * SECOND)
    assert machine.owner.shard.owner is not None
    assert used(machine, 1 * SECOND) > 0.9


def test_each_owner_of_a_process_is_another_incarnation() -> None:
    machine = Machine(**ONE)
    first, second = machine.start(2)
    machine.run(SECOND)
    seen = set()
    for _ in range(3):
        for claimer, other in ((second, first), (first, second)):
            machine.name_owner(claimer.keeper._roster, claimer.links.name)
            machine.name_owner(claimer.keeper._roster, other.links.name, of_other=True)
            used(machine, 2 * SECOND)
            assert claimer.shard.owner is not None
            assert machine.owner is claimer
            seen.add(claimer.shard.owner.id)
    assert len(seen) == 6


@pytest.mark.parametrize("seed", range(scaled(2, 60)))
def test_never_too_much_whatever_fails(seed: int) -> None:
    """Members freeze, lose messages or the store, leave and come; limits come and go."""
    machine = Machine(lasts=3 * SECOND, **ONE)
    random_ = random.Random(seed)
    machine.start(3)

    def each(step: int) -> None:
        for member in list(machine.members.values()):
            if not member.frozen and random_.random() < 0.5:
                member.ask(random_.choice((1, 1, 2, 7)))
                if random_.random() < 0.1:
                    member.refund()
        if step % 50 == 0 and machine.members:
            fault(machine, random_)
        if not machine.members:
            _start_another(machine, random_)

    machine.run(20 * SECOND, each)


def fault(machine: Machine, random_: random.Random) -> None:
    member = random_.choice(list(machine.members.values()))
    name = member.links.name
    match random_.randrange(12):
        case 0:
            member.frozen = not member.frozen
        case 1:
            machine.cut ^= {name}
        case 2 if len(machine.members) > 1:
            del machine.members[name]
        case 3 if len(machine.members) < 5:
            _start_another(machine, random_)
        case 4:
            member.publish(random_.choice([{}, ONE, OTHER, {"one": (20, 10)}]))
        case 5:
            member.store_is_down = not member.store_is_down
        case 6 if not member.frozen and len(machine.members) > 1:
            _close(machine, member)
        case 7:
            machine.cut.clear()  # all is well
            for each in machine.members.values():
                each.frozen = each.store_is_down = False
        case _:
            return


def _start_another(machine: Machine, random_: random.Random) -> None:
    from machine import Member

    name = f"x{random_.randrange(10**9)}"
    machine.members[name] = Member(machine, name)


def _close(machine: Machine, member: Member) -> None:
    """Close a process as an agent does, with the time that it takes."""
    if member.store_is_down or member.links.name in machine.cut:
        return
    member.keeper.hand_over()
    node = member.node
    for shard in node.shards:
        shard.close(machine.now)
        shard._wallets.deadline = -(1 << 62)
    until = machine.now + 1100 * MS
    frozen, member.frozen = member.frozen, True
    while machine.now < until and node.is_lent:
        machine.run(MS)
        for _, message in member.links.poll(0):
            node._take(message, machine.now)
        for shard in node.shards:
            shard.drain(machine.now)
    member.frozen = frozen
    assert member.engine.spent(name_of("one")) is not None or not member.limits.in_force()
    if not node.is_lent and not member.keeper.lost:
        member.keeper.leave(machine.now)
    machine.members.pop(member.links.name, None)


def test_entries_last_long_enough_for_these_tests() -> None:
    assert LASTS == 30 * SECOND
