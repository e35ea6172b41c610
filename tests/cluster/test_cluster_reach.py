"""A member that cannot reach the owners of its limits says so; a killed owner is no reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from machine import Machine

from ratectl.cluster.protocol.timing import MILLISECOND as MS
from ratectl.cluster.protocol.timing import SECOND
from ratectl.cluster.reach import Reach
from ratectl.records import OwnerHint

if TYPE_CHECKING:
    from machine import Member

ONE = {"one": (200, 100)}


def hint(name: str) -> OwnerHint:
    return OwnerHint(member=name, owner=f"{name}-owner", address=f"unix:/{name}")


def cut_off(members: int = 2) -> tuple[Machine, list[Member]]:
    """Return members of which the last one reaches no other, and none of them reaches it."""
    machine = Machine(**ONE)
    started = machine.start(members)
    machine.run(2 * SECOND)
    machine.cut.add(started[-1].links.name)
    return machine, started


def test_members_that_reach_their_owner_have_no_problem() -> None:
    machine = Machine(**ONE)
    machine.start(3)
    for _ in range(4):
        machine.run(SECOND)
        assert {member.node.unreached() for member in machine.members.values()} == {None}


def test_a_member_that_is_cut_off_says_so_and_why() -> None:
    """Only its limits showed that: members and owners took turns without an end."""
    machine, (_, second) = cut_off()
    second.links.problems["unix:/m0"] = "no connection: Connection refused"
    machine.run(8 * SECOND)
    assert second.node.unreached() == (
        "the owner m0 at unix:/m0 does not answer: no connection: Connection refused"
    )


def test_the_problem_ends_when_the_owner_answers() -> None:
    machine, (_, second) = cut_off()
    machine.run(8 * SECOND)
    assert second.node.unreached() is not None
    machine.cut.clear()
    machine.run(4 * SECOND)
    assert [member.node.unreached() for member in machine.members.values()] == [None, None]


def test_a_killed_owner_is_no_problem_of_the_others() -> None:
    machine = Machine(**ONE)
    machine.start(3)
    machine.run(2 * SECOND)
    del machine.members[machine.owner.links.name]
    for _ in range(60):
        machine.run(100 * MS)
        assert {member.node.unreached() for member in machine.members.values()} == {None}


# Times --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("after", "found"), [(4_900, False), (5_000, True)])
def test_one_owner_that_does_not_answer_for_long(after: int, found: bool) -> None:
    reach = Reach()
    for now in range(0, after, 50):
        reach.asks(hint("a"), now * MS)
    assert (reach.unreached(after * MS) == hint("a")) is found
    reach.answered("a-owner")
    assert reach.unreached(after * MS) is None


def failed(reach: Reach, name: str, now: int) -> OwnerHint | None:
    """Let an owner be silent for a second, and the member take over."""
    reach.asks(hint(name), now)
    reach.asks(hint(name), now + SECOND)
    reach.left()
    return reach.unreached(now + SECOND)


def test_three_silent_owners_in_a_minute() -> None:
    reach = Reach()
    found = [failed(reach, name, at * SECOND) for at, name in enumerate("aba")]
    assert found == [None, None, hint("a")]
    assert reach.unreached(59 * SECOND) == hint("a")
    assert reach.unreached(61 * SECOND) is None


def test_failures_before_this_process_was_the_owner_do_not_count() -> None:
    reach = Reach()
    assert [failed(reach, "a", at * SECOND) for at in range(2)] == [None, None]
    reach.met()
    assert [failed(reach, "a", at * SECOND) for at in range(2, 4)] == [None, None]


def test_an_answer_of_an_owner_before_is_no_answer() -> None:
    reach = Reach()
    for at in range(0, 5_001, 50):
        reach.asks(hint("b"), at * MS)
    reach.answered("a-owner")
    assert reach.unreached(5 * SECOND) == hint("b")


def test_each_owner_has_its_own_time_to_answer() -> None:
    reach = Reach()
    for at in range(0, 6_000, 50):
        reach.asks(hint("a" if at < 3_000 else "b"), at * MS)
    assert reach.unreached(6 * SECOND) is None


def test_owners_that_end_now_and_then_are_no_problem() -> None:
    reach = Reach()
    assert [failed(reach, "a", at * 31 * SECOND) for at in range(6)] == [None] * 6


def test_an_owner_that_answers_in_time_does_not_count() -> None:
    reach = Reach()
    for at in range(5):
        reach.asks(hint("a"), at * SECOND)
        reach.asks(hint("a"), at * SECOND + 400 * MS)
        assert reach.unreached(at * SECOND + 400 * MS) is None
        reach.answered("a-owner")
