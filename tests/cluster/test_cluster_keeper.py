"""The thread that keeps a member's entry in the roster, on a clock that stands still."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, cast

import pytest

from ratectl.cluster.keeper import Keeper
from ratectl.cluster.protocol.timing import MILLISECOND as MS
from ratectl.cluster.protocol.timing import SECOND, Timing
from ratectl.cluster.roster import Roster
from ratectl.cluster.sharding import SHARDS
from ratectl.errors import StoreError
from ratectl.stores.memory import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from ratectl.cluster.keeper import Standing
    from ratectl.stores.base import Store

LASTS = 30 * SECOND
TIMING = Timing()
_numbers = itertools.count()


class World:
    """A clock and a store; ``reads`` and ``writes`` of the store may fail or take time."""

    def __init__(self) -> None:
        self.now = 0
        self.down = False
        self.delay = 0
        self.calls = 0
        self._store = MemoryStore(f"memory://keeper-{next(_numbers)}")

    def __getattr__(self, name: str) -> Any:
        self.calls += 1
        self.now += self.delay
        if self.down:
            raise StoreError("the store does not answer")
        return getattr(self._store, name)

    def keeper(self, member: str, *, dedicated: bool = False) -> Keeper:
        roster = Roster(cast("Store", self), member, LASTS, TIMING, dedicated=dedicated)
        return Keeper(roster, f"unix:/{member}", LASTS, lambda: self.now)


@pytest.fixture
def world() -> World:
    return World()


def standing(keeper: Keeper) -> Standing:
    assert keeper.standing is not None
    return keeper.standing


def owners(keeper: Keeper) -> set[str | None]:
    """Return the members that own the shards, as a member has read it."""
    return {hint.owner and hint.owner.member for hint in standing(keeper).hints}


def rounds(keeper: Keeper, count: int, each: Callable[[int], None]) -> None:
    """Let the thread run so many rounds, in the calling thread."""
    numbers = iter(range(count))

    class Stopped:
        def is_set(self) -> bool:
            return self.number is None

        def wait(self, seconds: float) -> None:
            self.number = next(numbers, None)
            if self.number is not None:
                each(self.number)

        number: int | None = 0

    keeper._stopped = Stopped()  # type: ignore[assignment]
    keeper.run()


def test_the_first_member_has_all_and_owns_the_limits(world: World) -> None:
    keeper = world.keeper("a")
    keeper.step(0)
    assert keeper.starts_full
    assert standing(keeper).share == 1_000_000
    assert owners(keeper) == {"a"}


def test_a_renewal_that_failed_is_tried_again_soon(world: World) -> None:
    """Two failures were enough to lose the entry: the next attempt came ten seconds later."""
    keeper = world.keeper("a")
    keeper.step(0)
    world.down = True
    for world.now in (10 * SECOND, 20 * SECOND):
        with pytest.raises(StoreError):
            keeper.step(world.now)
    world.down = False
    world.now = 20 * SECOND + 250 * MS
    keeper.step(world.now)
    assert standing(keeper).use_until == world.now + LASTS


def test_a_store_that_is_busy_for_a_moment_is_no_problem(world: World) -> None:
    keeper = world.keeper("a")
    keeper.step(0)
    problems = []

    def each(number: int) -> None:
        world.now += 250 * MS
        world.down = number < 12
        problems.append(keeper.problem)

    rounds(keeper, 16, each)
    told = [problem for problem in problems if problem]
    assert problems[:8] == [None] * 8
    assert set(told) == {"the roster cannot be kept: the store does not answer"}
    assert problems[-1] is None


def test_an_unexpected_error_does_not_end_the_thread(world: World) -> None:
    keeper = world.keeper("a")
    keeper.step(0)
    steps = []

    def step(now: int) -> None:
        steps.append(now)
        raise ZeroDivisionError("odd")

    keeper.step = step  # type: ignore[method-assign]

    def each(number: int) -> None:
        world.now += SECOND

    rounds(keeper, 5, each)
    assert len(steps) == 6
    assert keeper.problem == "the roster cannot be kept: ZeroDivisionError: odd"


def test_a_share_is_given_when_nobody_counts_it_any_more(world: World) -> None:
    first, second = world.keeper("a"), world.keeper("b")
    first.step(0)
    second.step(0)
    first.step(0)
    assert standing(first).share == 500_000
    number = standing(first).number
    for seen in ((number - 1, 500_000), (number, 1_000_000)):
        first.seen = seen
        first.step(0)
        second.step(0)
        assert standing(second).share == 0
    first.seen = (number, 500_000)
    first.step(0)
    second.step(0)
    assert (standing(first).share, standing(second).share) == (500_000, 500_000)
    first.seen = (standing(first).number, 500_000)
    first.step(0)
    assert standing(first).share == 500_000  # nothing goes back and forth


def test_a_gift_for_a_member_that_has_gone_is_kept(world: World) -> None:
    first, second = world.keeper("a"), world.keeper("b")
    first.step(0)
    second.step(0)
    first.step(0)
    second.leave(0)
    first.seen = (standing(first).number, 500_000)
    first.step(0)
    first.step(0)
    assert standing(first).share == 1_000_000


def test_a_silent_owner_is_replaced(world: World) -> None:
    first, second = world.keeper("a"), world.keeper("b")
    first.step(0)
    second.step(0)
    second.step(SECOND)
    assert owners(second) == {"a"}
    second.reached_at = [SECOND] * SHARDS
    second.step(2 * SECOND)
    second.step(2 * SECOND + 1)
    assert owners(second) == {"b"}


def test_an_entry_that_is_gone_is_lost(world: World) -> None:
    keeper = world.keeper("a")
    keeper.step(0)
    world.keeper("b").step(0)
    other = Roster(cast("Store", world), "a", LASTS, TIMING)
    other._numbers = keeper._roster._numbers
    other.leave(0)
    keeper.step(10 * SECOND)
    assert keeper.lost
    calls = world.calls
    keeper.step(20 * SECOND)
    assert world.calls == calls
    keeper.leave(20 * SECOND)


def test_a_dedicated_owner_keeps_no_share_for_others(world: World) -> None:
    first, dedicated = world.keeper("a"), world.keeper("d", dedicated=True)
    first.step(0)
    dedicated.step(0)
    first.hand_over()
    first.leave(0)
    for now in (0, SECOND, 2 * SECOND):
        dedicated.step(now)
        assert (standing(dedicated).share, standing(dedicated).roster.unowned) == (0, 1_000_000)
    second = world.keeper("b")
    second.step(2 * SECOND)
    assert standing(second).share == 1_000_000


def test_a_dedicated_owner_takes_over_and_hands_over_to_one_that_it_has_heard(
    world: World,
) -> None:
    dedicated = world.keeper("d", dedicated=True)
    for keeper in (world.keeper("a"), world.keeper("b"), dedicated):
        keeper.step(0)
    assert owners(dedicated) == {"d"}
    dedicated.heard = lambda member: member == "b"
    dedicated.hand_over()
    assert owners(dedicated) == {"b"}, "nobody knows if the other one runs"


def test_all_leave_at_once_and_one_comes_back(world: World) -> None:
    members = [world.keeper(name) for name in "abc"]
    for keeper in members:
        keeper.step(0)
    for keeper in members:
        keeper.hand_over()
    for keeper in members:
        keeper.leave(0)
    late = world.keeper("d")
    late.step(0)
    assert standing(late).share == 1_000_000
    assert not late.starts_full
    late.step(SECOND + 1)
    assert owners(late) == {"d"}


@pytest.mark.parametrize("outage", [25, 580])
def test_nobody_is_removed_when_a_store_comes_back(world: World, outage: int) -> None:
    """The first member that reached it again removed the others, though they were alive."""
    back = 20 + outage
    first, second = world.keeper("a"), world.keeper("b")
    for now in range(0, 20 * SECOND, SECOND):
        first.step(now)
        second.step(now)
    world.down = True
    for now in range(20 * SECOND, back * SECOND, 5 * SECOND):
        with pytest.raises(StoreError):
            first.step(now)
    world.down = False
    for now in range(back * SECOND, (back + 29) * SECOND, SECOND):
        first.step(now)
    assert set(standing(first).roster.entries) == {"a", "b"}
    second.step((back + 29) * SECOND)
    assert not second.lost
    for now in range((back + 30) * SECOND, (back + 65) * SECOND, SECOND):
        first.step(now)  # "b" has ended meanwhile
    assert set(standing(first).roster.entries) == {"a"}


def test_a_slow_store_makes_no_entry_old(world: World) -> None:
    """An entry that was renewed while another member waited for the store looked older than it was:
    two members used its share."""
    first, second = world.keeper("a"), world.keeper("b")
    first.step(0)
    second.step(0)
    world.now = 10 * SECOND
    first.step(world.now)  # its last renewal
    seen = Roster(cast("Store", world), "c", LASTS, TIMING)
    assert not seen.read(1 * SECOND).overdue  # it was asked at 1 s, and answered after 10 s
    assert not seen.read(35 * SECOND).overdue  # the entry of "a" may be used until 40 s
    assert standing(first).use_until == 40 * SECOND
    assert len(seen.read(66 * SECOND).overdue) == 2
