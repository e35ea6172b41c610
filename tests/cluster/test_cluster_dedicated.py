"""Dedicated owners among the processes of one machine, on a clock that stands still."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, cast

import pytest
from machine import TIMING, FakeLinks, Machine, Member
from test_cluster_node import ONE, ask_all, fault, used

from ratectl.cluster.dedicated import DedicatedNode
from ratectl.cluster.keeper import Keeper
from ratectl.cluster.protocol.capacity import GRAINS
from ratectl.cluster.protocol.messages import OwnerId, Welcome
from ratectl.cluster.protocol.timing import MILLISECOND as MS
from ratectl.cluster.protocol.timing import SECOND
from ratectl.cluster.roster import Roster
from soak import scaled

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ratectl.cluster.transport.links import Links
    from ratectl.stores.base import Store

RATE = ONE["one"][0]


class Dedicated(Member):
    """A process that owns limits for others."""

    def __init__(self, machine: Machine, name: str) -> None:
        self.machine = machine
        self.links = FakeLinks(machine, name)
        self.frozen = self.store_is_down = self.goes_on = False
        store = cast("Store", machine.store_of(self))
        roster = Roster(store, name, machine.lasts, TIMING, dedicated=True)
        self.keeper = Keeper(roster, f"unix:/{name}", machine.lasts, lambda: machine.now)
        self.keeper.step(machine.now)
        self.owning = DedicatedNode(
            self.keeper, cast("Links", self.links), TIMING, lambda: machine.now
        )
        machine.members[name] = self

    def ask(self, cost: int = 1) -> bool:
        return False

    def refund(self) -> None:
        pass

    def publish(self, sizes: Mapping[str, object]) -> None:
        pass

    def step(self) -> None:
        if self.machine.now // MS % 50 == 0:
            if not self.store_is_down:
                self.keeper.step(self.machine.now)
            if self.keeper.lost:
                del self.machine.members[self.links.name]
                return
        self.owning.round(0)

    @property
    def sessions_by_shard(self) -> list[int]:
        return [owning.sessions for owning in self.owning._ownings.each]

    @property
    def sessions(self) -> int:
        return self.owning._ownings.each[self.machine.shard].sessions


def owner_of(machine: Machine) -> str:
    hint = machine.hint.owner
    assert hint is not None
    return hint.member


def admitted(machine: Machine, duration: int) -> int:
    """Return how many requests are admitted if all members ask all the time."""
    return round(used(machine, duration) * RATE * duration / SECOND)


def test_it_takes_over_without_a_gap_and_has_no_share() -> None:
    machine = Machine(**ONE)
    members = machine.start(3)
    used(machine, 3 * SECOND)
    assert owner_of(machine) != "d"
    dedicated = Dedicated(machine, "d")
    quarters = [admitted(machine, SECOND // 4) for _ in range(12)]
    assert owner_of(machine) == "d"
    assert dedicated.sessions == 3
    assert not any(shard.owner for member in members for shard in member.node.shards)
    assert min(quarters) >= 0.9 * RATE / 4
    shares = [member.lender.share for member in members]
    assert sum(shares) == 1_000_000
    assert min(shares) > 333_000
    assert [member.node.members for member in members] == [3, 3, 3]


def test_it_takes_over_while_tokens_are_recalled() -> None:
    """The owner that it took over from ended before it had answered those that left: the shares of
    these were unused for a second."""
    machine = Machine(**ONE)
    machine.start()
    used(machine, SECOND)
    machine.start(2)
    Dedicated(machine, "d")  # the first member still has the whole share, and leaves first
    quarters = [admitted(machine, SECOND // 4) for _ in range(4)]
    assert min(quarters) >= 0.6 * RATE / 4  # members ask again after 60 ms
    assert sum(quarters) >= 0.88 * RATE


def unused(machine: Machine) -> int:
    """Return the tokens that one central bucket would have left."""
    return int(machine.central["one"].now(machine.now)) // GRAINS


def leave(machine: Machine, dedicated: Dedicated) -> None:
    """End a process as SIGTERM does, while the others ask all the time."""
    dedicated.keeper.hand_over()
    dedicated.step = lambda: dedicated.owning.round(0)  # type: ignore[method-assign]
    while not dedicated.owning._ownings.is_left:
        machine.run(MS, lambda _: ask_all(machine))
    dedicated.keeper.leave(machine.now)
    del machine.members[dedicated.links.name]


@pytest.mark.parametrize("other", [True, False])
def test_it_hands_over_without_a_gap(other: bool) -> None:
    machine = Machine(**ONE)
    machine.start(3)
    used(machine, SECOND)
    owners = {name: Dedicated(machine, name) for name in ("de" if other else "d")}
    used(machine, 3 * SECOND)
    first = owners.pop(owner_of(machine))
    assert unused(machine) < RATE // 10
    before = machine.now
    leave(machine, first)
    assert machine.now - before < SECOND // 2
    assert unused(machine) < RATE // 10
    assert (owner_of(machine) in owners) is other
    assert min(admitted(machine, SECOND // 4) for _ in range(4)) >= 0.9 * RATE / 4


def test_two_share_the_shards_and_one_takes_over_before_any_application() -> None:
    machine = Machine(**ONE)
    machine.start(3)
    both = {name: Dedicated(machine, name) for name in "de"}
    used(machine, 3 * SECOND)
    machine.members.pop(owner_of(machine))
    (other,) = (both[name] for name in both if name in machine.members)
    assert other.sessions_by_shard == [0, 3] or other.sessions_by_shard == [3, 0]
    used(machine, 1_250 * MS)
    assert owner_of(machine) == other.links.name
    used(machine, 500 * MS)
    assert other.sessions_by_shard == [3, 3]
    assert used(machine, SECOND) > 0.95


def test_without_dedicated_owners_applications_own_again() -> None:
    machine = Machine(**ONE)
    machine.start(3)
    Dedicated(machine, "d")
    used(machine, 3 * SECOND)
    del machine.members["d"]
    used(machine, 2 * SECOND)
    assert owner_of(machine).startswith("m")
    assert used(machine, SECOND) > 0.95


def test_an_owner_that_was_stopped_for_long_comes_back_later() -> None:
    machine = Machine(**ONE)
    machine.start(2)
    dedicated = Dedicated(machine, "d")
    used(machine, 2 * SECOND)
    dedicated.frozen = True
    used(machine, 4 * SECOND)
    dedicated.frozen = False
    assert owner_of(machine).startswith("m")
    used(machine, 5 * SECOND)
    assert owner_of(machine).startswith("m")
    used(machine, 6 * SECOND)
    assert owner_of(machine) == "d"
    assert dedicated.sessions == 2


def test_the_first_application_begins_with_full_buckets() -> None:
    """A dedicated owner that has joined before it has used nothing."""
    machine = Machine(**ONE)
    Dedicated(machine, "d")
    (member,) = machine.start()
    assert member.keeper.starts_full
    assert admitted(machine, 400 * MS) >= ONE["one"][1]
    assert owner_of(machine) == "d"


@pytest.mark.parametrize("seed", range(scaled(2, 40)))
def test_never_too_much_whatever_fails(seed: int) -> None:
    """Members and dedicated owners freeze, lose messages or the store, leave and come."""
    machine = Machine(lasts=3 * SECOND, **ONE)
    random_ = random.Random(seed)
    machine.start(3)
    Dedicated(machine, "d")
    handovers = set()

    def each(step: int) -> None:
        for member in list(machine.members.values()):
            if not member.frozen and random_.random() < 0.5:
                member.ask(random_.choice((1, 1, 2, 7)))
        if step % 50 == 0:
            _fault(machine, random_)
            handovers.add(owner_of(machine))

    machine.run(20 * SECOND, each)
    assert len(handovers) > 2


def _fault(machine: Machine, random_: random.Random) -> None:
    dedicated = [each for each in machine.members.values() if isinstance(each, Dedicated)]
    if len(dedicated) < 2 and random_.random() < 0.1:
        Dedicated(machine, f"d{random_.randrange(10**9)}")
        return
    if len(machine.members) == len(dedicated):
        machine.start()
    if dedicated and random_.random() < 0.3:
        one = random_.choice(dedicated)
        match random_.randrange(4):
            case 0:
                one.frozen = not one.frozen
            case 1:
                machine.cut ^= {one.links.name}
            case 2:
                one.store_is_down = not one.store_is_down
            case _ if random_.random() < 0.2:
                del machine.members[one.links.name]
        return
    saved = {each.links.name: machine.members.pop(each.links.name) for each in dedicated}
    fault(machine, random_)
    machine.members.update(saved)


def test_a_welcome_of_another_owner_does_not_tell_that_the_named_one_answers() -> None:
    machine = Machine(**ONE)
    machine.start(1)
    machine.run(SECOND)
    dedicated = Dedicated(machine, "d")
    other = Dedicated(machine, "e")
    used(machine, 2 * SECOND)
    shard = next(n for n, owning in enumerate(other.owning._ownings.each) if owning.owner)
    hints = [hint.owner for hint in dedicated.keeper.standing.hints]  # type: ignore[union-attr]
    named = hints[shard]
    assert named is not None
    assert named.member == "e"
    for owner, reached in ((f"{shard}.m0", False), (named.owner, True)):
        dedicated.keeper.reached_at[shard] = 0
        dedicated.owning._take(Welcome("d", 1, OwnerId(owner, 1), 1), hints, machine.now)
        assert bool(dedicated.keeper.reached_at[shard]) is reached
