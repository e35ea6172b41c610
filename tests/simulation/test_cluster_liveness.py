"""A cluster comes back when faults are over, and a healthy one wastes next to nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ratectl.cluster.protocol.timing import MILLISECOND as MS
from ratectl.cluster.protocol.timing import SECOND
from simulation.invariants import World
from simulation.schedule import Schedule, Step, random_schedule
from simulation.traffic import Traffic
from simulation.world import ENTRY_LASTS, LEASE, POOLS, Member
from soak import scaled

FAULTS = 1_500 * MS


class Healed(World):
    """A world whose faults end."""

    def heal(self, true: int) -> int:
        """End the faults; return when the last of them is over."""
        self.schedule = replace(self.schedule, steps=(), loss=0, slow=0)
        self._cuts.clear()
        for node in self._nodes():
            node.no_store_until = 0
        for member in self.members:
            member.hint = 0
        return max([true, *(node.paused_until for node in self._nodes())])

    def alive(self) -> list[Member]:
        return [each for each in self.members if each.is_member and each.name in self.roster]

    def shares(self) -> int:
        """Return the millionths that members may lend."""
        return sum(member.lender.share for member in self.alive())

    def pooled(self, true: int) -> int:
        """Return the millionths that owners count."""
        return sum(
            session.share
            for owner, node in zip(self.owners, self.owner_nodes, strict=True)
            for session in owner.sessions.values()
            if session.lending and session.lend_until > node.clock.at(true)
        )


def healed(seed: int, *, roster: bool = False) -> tuple[Healed, int]:
    """Run a random schedule until its faults end, and as long as the members need afterwards."""
    schedule = replace(
        random_schedule(seed, FAULTS),
        rate=1_000, burst=200, gap=2 * MS, stock=None, roster=roster,
    )  # fmt: skip
    world = Healed(schedule)
    world.run(FAULTS)
    end = world.heal(FAULTS) + 3 * world.timing.resume_after
    if roster:
        end += 2 * world.timing.stretched(ENTRY_LASTS)  # entries of dead members end
    world.run(end)
    return world, end


@pytest.mark.parametrize("seed", range(scaled(12, 300)))
def test_all_is_pooled_again_when_the_faults_are_over(seed: int) -> None:
    world, end = healed(seed, roster=seed % 2 == 1)
    assert world.pooled(end) == world.shares()
    assert world.shares() > 0.6 * world.schedule.whole


@pytest.mark.parametrize("seed", range(scaled(12, 300)))
def test_rate_is_admitted_again_when_the_faults_are_over(seed: int) -> None:
    world, start = healed(seed)
    before, end = world.admitted, start + 20 * LEASE
    hot = world.alive()[seed % len(world.alive())]

    def flood(true: int) -> None:
        for _ in range(100):
            if not world.ask(hot, POOLS[0], 1, true):
                break
        world._look(hot, true)
        world.at(true + MS, flood)

    world.at(start, flood)
    world.run(end)
    # A member may be in an older generation than others: each lends by its own sizes.
    lent = sum(each.own.sizes["one"].rate * each.lender.share for each in world.alive())
    slowest = 1 - world.schedule.drift / 10**6  # tokens accrue by the owner's clock
    rate = lent / 10**6 / SECOND * slowest  # tokens a second
    assert world.admitted - before >= 0.9 * rate * (end - start) / SECOND


# Traffic ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("round_trip", [2, 10, 50])
@pytest.mark.parametrize("members", [2, 5, 20, 100])
def test_rate_is_used_wherever_the_requests_are(members: int, round_trip: int) -> None:
    result = Traffic(members, round_trip=round_trip * MS, seconds=10, every=4).run()
    assert result.used >= 0.97
    assert result.excess == 0
    assert max(result.converged) <= 0.5


@pytest.mark.parametrize("members", [2, 5, 20, 100])
def test_members_that_are_busy_at_times_are_seldom_refused(members: int) -> None:
    result = Traffic(members, load=0.7, pattern="onoff", seconds=10).run()
    assert result.wrongly_refused <= 0.02
    assert result.excess == 0


@pytest.mark.parametrize("round_trip", [100, 200])
def test_slow_network_is_used_as_well(round_trip: int) -> None:
    result = Traffic(5, round_trip=round_trip * MS, seconds=10, every=4).run()
    assert result.used >= 0.97
    assert result.excess == 0


@pytest.mark.parametrize("members", [5, 20])
def test_rate_is_used_again_soon_after_the_owner_died(members: int) -> None:
    result = Traffic(members, seconds=11, every=5, owner_dies_at=5).run()
    assert result.excess == 0
    assert result.converged[0] <= 2


# Windows ------------------------------------------------------------------------------------------


def used_of_a_window(members: int, *, pattern: str, count: int, window: int = 10) -> float:
    """Return the part of what one central window admits, on the average.

    A cluster is some hundredths of a second behind after each window. What is measured depends on
    the end: the mean of an end amid the requests that are admitted at once, and of one afterwards.
    """
    used = 0.0
    for seconds in (42, 48):
        traffic = Traffic(
            members, rate=count // window, burst=count, window=window * SECOND,
            pattern=pattern, seconds=seconds,
        )  # fmt: skip
        result = traffic.run()
        assert result.excess == 0
        used += result.used / 2
    return used


@pytest.mark.parametrize("pattern", ["move", "even"])
@pytest.mark.parametrize("members", [2, 20])
def test_window_is_used_wherever_the_requests_are(members: int, pattern: str) -> None:
    assert used_of_a_window(members, pattern=pattern, count=1_000) >= 0.97


def test_members_that_are_busy_at_times_are_seldom_refused_by_a_window() -> None:
    traffic = Traffic(
        20, rate=100, burst=1_000, window=10 * SECOND, load=0.7, pattern="onoff", seconds=30
    )
    result = traffic.run()
    assert result.wrongly_refused <= 0.02
    assert result.excess == 0


def admitted_by_windows(*hints: int) -> int:
    """Let members ask all the time, and go from owner to owner at some milliseconds."""
    asks = [Step(ms * MS, "ask", (ms, 0, 1, 400)) for ms in range(5, 3_900, 2)]
    moves = [Step(ms * MS, "hint_all", (i % 2, 0, 0, 0)) for i, ms in enumerate(hints, 1)]
    steps = tuple(sorted([*asks, *moves]))
    world = World(Schedule(1, owners=2, burst=400, window=500 * MS, steps=steps))
    world.run(4_000 * MS)
    return world.admitted


def test_a_new_owner_of_windows_goes_on_where_the_old_one_ended() -> None:
    """Nothing was admitted for a window after each hand-over."""
    assert admitted_by_windows(1_100, 1_800, 2_500, 3_200) == admitted_by_windows() > 1_500
