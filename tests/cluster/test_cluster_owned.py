"""The report of an owner about its limits, compared with one central bucket."""

from __future__ import annotations

from typing import TYPE_CHECKING

from machine import Machine

from ratectl.cluster.owned import OwnedLimits
from ratectl.cluster.protocol.capacity import GRAINS, WHOLE, Size
from ratectl.cluster.protocol.messages import OwnerId
from ratectl.cluster.protocol.owner import Owner
from ratectl.cluster.protocol.pool import LentLimit
from ratectl.cluster.protocol.timing import MILLISECOND as MS
from ratectl.cluster.protocol.timing import SECOND, Timing

if TYPE_CHECKING:
    from machine import Member

    from ratectl.cluster.owned import OwnedLimit

ONE = {"one": (50, 100)}


def full(members: int) -> Machine:
    """Return members that have joined, and whose bucket is full again."""
    machine = Machine(**ONE)
    machine.start(members)
    machine.run(4 * SECOND)
    return machine


def taken(member: Member) -> tuple[OwnedLimit, ...]:
    return tuple(member.node.owned(member.machine.now))


def ask_in_turn(machine: Machine, count: int) -> None:
    """Let every member admit so many requests, slowly enough that its wallet is filled again."""
    for _ in range(count):
        for member in machine.members.values():
            while not member.ask():
                machine.run(MS)
        machine.run(MS)


def test_the_use_is_that_of_one_central_bucket() -> None:
    machine = full(3)
    taken(machine.owner)
    ask_in_turn(machine, 20)
    machine.run(200 * MS)
    (row,) = taken(machine.owner)
    assert (row.capacity, row.members, row.keys) == (100, 3, 1)
    central = machine.central["one"]
    central.admit(0, machine.now)
    used = row.capacity - row.free - row.held
    assert used > 20
    assert abs(used - (100 - central.level // GRAINS)) <= 3
    assert row.fullest > (used - 1) / 100  # whole tokens are counted


def test_idle_tokens_of_members_are_not_used() -> None:
    machine = full(3)
    taken(machine.owner)
    (row,) = taken(machine.owner)
    assert row.held > 0
    assert (row.free + row.held, row.fullest, row.keys) == (100, 0, 0)


def test_a_short_peak_is_remembered_until_the_rows_are_taken() -> None:
    machine = full(2)
    taken(machine.owner)
    ask_in_turn(machine, 40)
    machine.run(3 * SECOND)  # it is full again
    (row,) = taken(machine.owner)
    assert row.keys == 0
    assert row.fullest > 0.2
    (row,) = taken(machine.owner)
    assert row.fullest == 0
    machine.run(SECOND)
    assert [row.fullest for row in taken(machine.owner)] == [0]


def test_only_the_owner_has_rows_and_none_of_a_thread_that_stands_still() -> None:
    machine = Machine(**ONE)
    members = machine.start(3)
    machine.run(2 * SECOND)
    owner = machine.owner
    assert [len(taken(member)) for member in members] == [member is owner for member in members]
    machine.now += 6 * SECOND
    assert taken(owner) == ()


def test_a_process_that_owns_nothing_any_more_has_no_rows() -> None:
    machine = Machine(**ONE)
    machine.start(2)
    machine.run(2 * SECOND)
    owned = machine.owner.shard.owning.limits
    owned.look(None, machine.now)
    assert owned.take(machine.now) == ()


def test_totals_of_keys_add_up() -> None:
    """Soon a limit has many keys."""
    owner = Owner(OwnerId("o", 1), Timing(), 0, lambda member: WHOLE)
    limit = owner.limits["one"] = LentLimit(0)
    limit.change(Size(0, 10), WHOLE, 0)
    limit.untouched.level = limit.lent.capacity
    for key, tokens in (("a", 0), ("b", 1), ("c", 2), ("d", 4), ("e", 9), ("f", 10)):
        limit.pool(key, 0).level = tokens * limit.lent.capacity // 10
    owned = OwnedLimits()
    owned.look(owner, 0)
    (row,) = owned.take(0)
    assert (row.pool, row.owner, row.capacity, row.free, row.held) == ("one", "o", 60, 26, 0)
    assert (row.keys, row.by_use, row.fullest) == (5, (1, 1, 1, 1, 1), 1)
    (row,) = owned.take(0)
    assert row.fullest == 1  # it is still full


def test_a_peak_before_another_process_owned_the_limit_is_forgotten() -> None:
    owner = Owner(OwnerId("o", 1), Timing(), 0, lambda member: WHOLE)
    limit = owner.limits["one"] = LentLimit(0)
    limit.change(Size(0, 10), WHOLE, 0)
    owned = OwnedLimits()
    owned.look(owner, 0)
    owned.look(None, SECOND)
    limit.fill()
    owned.look(owner, 2 * SECOND)
    assert [row.fullest for row in owned.take(2 * SECOND)] == [0]


def test_members_that_hold_more_than_they_lend_use_nothing() -> None:
    """Capacity is recalled: a member that lent a part of it has left."""
    owner = Owner(OwnerId("o", 1), Timing(), 0, lambda member: WHOLE)
    limit = owner.limits["one"] = LentLimit(0)
    limit.change(Size(0, 10), WHOLE, 0)
    limit.untouched.held = 12
    owned = OwnedLimits()
    owned.look(owner, 0)
    assert [(row.fullest, row.held) for row in owned.take(0)] == [(0, 12)]


def test_a_limit_of_which_nobody_lends_anything_has_no_row() -> None:
    owner = Owner(OwnerId("o", 1), Timing(), 0, lambda member: WHOLE)
    limit = owner.limits["one"] = LentLimit(0)
    owned = OwnedLimits()
    owned.look(owner, 0)
    assert owned.take(0) == ()
    limit.change(Size(0, 10), WHOLE // 11, 0)  # less than a token
    owned.look(owner, SECOND)
    assert owned.take(SECOND) == ()


def test_many_pools_are_read_more_rarely() -> None:
    """Reading them must not take the time of the thread that answers members."""
    owner = Owner(OwnerId("o", 1), Timing(), 0, lambda member: WHOLE)
    for name in ("one", "other"):
        limit = owner.limits[name] = LentLimit(0)
        limit.change(Size(0, 10), WHOLE, 0)
        for key in range(1_500):
            limit.pool(str(key), 0)
    owned = OwnedLimits()
    owned.look(owner, 0)
    assert {row.keys for row in owned.take(0)} == {1_000}  # all are empty, and so many are read
    assert len(owned.take(5 * SECOND + 100 * MS)) == 2
    assert owned.take(5 * SECOND + 100 * MS + 1) == ()
    owner.limits.clear()
    owned.look(owner, 99 * MS)
    assert len(owned.take(99 * MS)) == 2
    owned.look(owner, 100 * MS)
    assert owned.take(100 * MS) == ()
