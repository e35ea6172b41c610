"""Failing schedules: found, and shrunk to what they need."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratectl.cluster.protocol.timing import MILLISECOND as MS
from simulation.invariants import World
from simulation.schedule import DURATION, Schedule, random_schedule, window_schedule
from simulation.world import Parts, Violation

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["explained", "failure", "shrunk"]

_TRIES = 1_500


def failure(schedule: Schedule, parts: Parts | None = None) -> Violation | None:
    """Run a schedule; return what it violates."""
    try:
        World(schedule, parts).run(DURATION)
    except Violation as violation:
        return violation
    return None


def shrunk(schedule: Schedule, fails: Callable[[Schedule], bool]) -> Schedule:
    """Return a part of a failing schedule that still fails: delta debugging, within some tries."""
    steps, pieces, tries = schedule.steps, 2, 0
    while steps and pieces <= len(steps) and tries < _TRIES:
        size = -(-len(steps) // pieces)
        for start in range(0, len(steps), size):
            fewer = steps[:start] + steps[start + size :]
            tries += 1
            if fails(schedule.shrunk(fewer)):
                steps, pieces = fewer, max(2, pieces - 1)
                break
        else:
            if size == 1:
                break
            pieces = min(len(steps), 2 * pieces)
    return schedule.shrunk(steps)


def explained(seed: int, parts: Parts | None = None, *, windows: bool = False) -> str | None:
    """Run a seed; return its violation with the shortest schedule that was found."""
    schedule = window_schedule(seed) if windows else random_schedule(seed)
    violation = failure(schedule, parts)
    if violation is None:
        return None
    until = schedule.shrunk(tuple(s for s in schedule.steps if s.at / MS <= violation.at))
    small = shrunk(until, lambda tried: failure(tried, parts) is not None)
    return f"seed {seed}: {violation}\nin short: {failure(small, parts)}\n{small}"
