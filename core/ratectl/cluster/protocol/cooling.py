"""Spent tokens of a sliding window, until each of them is free again."""

from __future__ import annotations

from bisect import bisect_left
from itertools import pairwise
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ratectl.cluster.protocol.messages import Lending

__all__ = ["Cooling", "Step", "coarse", "cooled_after", "fitting"]

_STEP_BITS: Final = 8
"""A window has at most 2⁸ steps: tokens are free again up to 1/128 of a window late."""
_STEPS_OF_A_POOL: Final = 32
_KEYS_OF_A_MESSAGE: Final = 4_000
_STEPS_OF_A_MESSAGE: Final = 2_048
"""About half of the bytes that a message may have."""


class Step(NamedTuple):
    """Tokens that are free again at the same time."""

    at: int
    """Nanoseconds: an instant, or in messages the time from now."""
    grains: int


class Cooling:
    """Grains that are not free yet, in steps of time: never free too early.

    There are few steps, however many tokens there are. The steps of all windows of about the same
    length are at the same instants.
    """

    __slots__ = ("steps", "total")

    def __init__(self, steps: Iterable[Step] = ()) -> None:
        self.steps = list(steps)
        """The earliest first."""
        self.total = sum(step.grains for step in self.steps)

    def add(self, grains: int, at: int, window: int) -> None:
        """Add grains that are free at an instant, or up to 1/128 of the window later."""
        if grains <= 0:
            return
        at = _rounded(at, window)
        steps = self.steps
        place = len(steps) if not steps or steps[-1].at < at else bisect_left(steps, (at,))
        if place < len(steps) and steps[place].at == at:
            steps[place] = Step(at, steps[place].grains + grains)
        else:
            steps.insert(place, Step(at, grains))
        self.total += grains

    def freed(self, now: int) -> int:
        """Take out the grains that are free by now."""
        steps = self.steps
        count = free = 0
        while count < len(steps) and steps[count].at <= now:
            free += steps[count].grains
            count += 1
        if count:
            del steps[:count]
            self.total -= free
        return free

    def free(self, grains: int, spent_at: int, window: int) -> int:
        """Take out so many grains at most that were spent by an instant, the latest ones first.

        Return how many.
        """
        until, left = _rounded(spent_at + window, window), grains
        place = bisect_left(self.steps, (until + 1,))
        while left > 0 and place:
            place -= 1
            at, there = self.steps[place]
            if there > left:
                self.steps[place] = Step(at, there - left)
            else:
                del self.steps[place]
            left -= min(there, left)
        self.total -= grains - left
        return grains - left

    def drop(self, grains: int) -> list[Step]:
        """Take out so many grains at most, those first that are free the latest."""
        dropped = []
        while grains > 0 and self.steps:
            at, there = self.steps.pop()
            if there > grains:
                self.steps.append(Step(at, there - grains))
            dropped.append(Step(at, min(there, grains)))
            self.total -= dropped[-1].grains
            grains -= dropped[-1].grains
        return dropped

    def bound(self, at: int, window: int) -> None:
        """Let nothing be free later than tokens that are spent now: the window is shorter now."""
        at, late = _rounded(at, window), 0
        while self.steps and self.steps[-1].at > at:
            late += self.steps.pop().grains
        self.total -= late
        self.add(late, at, window)


def _rounded(at: int, window: int) -> int:
    """Return an instant rounded up to a step of the window."""
    bits = _step_bits(window)
    return -(-at >> bits) << bits


def _step_bits(window: int) -> int:
    return max(0, window.bit_length() - _STEP_BITS)


def cooled_after(window: int) -> int:
    """Return the time after which a token that was spent is free again at the latest."""
    return window + (1 << _step_bits(window))


def coarse(steps: Iterable[Step], most: int = _STEPS_OF_A_POOL) -> tuple[Step, ...]:
    """Return few steps for a message, the earliest first. None is earlier than it was."""
    merged = sorted(steps)
    while len(merged) > most:
        sums = [one.grains * (two.at - one.at) for one, two in pairwise(merged)]
        place = sums.index(min(sums))
        one, two = merged[place : place + 2]
        merged[place : place + 2] = [Step(two.at, one.grains + two.grains)]
    return tuple(merged)


def fitting(lending: Mapping[str, Lending]) -> Mapping[str, Lending]:
    """Return what goes with a share, with so few keys and steps that they fit into one message."""
    most = max(1, _KEYS_OF_A_MESSAGE // max(1, len(lending)))
    lending = {name: _with_few_keys(lent, most) for name, lent in lending.items()}
    pools = sum(len(lent.cooling) for lent in lending.values())
    most = max(1, _STEPS_OF_A_MESSAGE // max(1, pools))
    if most >= _STEPS_OF_A_POOL:
        return lending
    return {
        name: lent._replace(cooling={key: coarse(s, most) for key, s in lent.cooling.items()})
        for name, lent in lending.items()
    }


def _with_few_keys(lent: Lending, most: int) -> Lending:
    """Return what goes with a share, with the keys that have the least.

    All others count as one that nobody has asked for, which has no more than any of them.
    """
    if len(lent.touched) <= most:
        return lent
    levels = sorted((level, key) for key, level in lent.touched.items())
    untouched = min(lent.untouched, levels[most][0])
    kept = {key: level for level, key in levels[:most]}
    cooling = {key: steps for key, steps in lent.cooling.items() if key in kept}
    return lent._replace(untouched=untouched, touched=kept, cooling=cooling)
