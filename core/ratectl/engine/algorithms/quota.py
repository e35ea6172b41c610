"""Quota: at most n in each calendar window. Exact integer counts.

The one algorithm that follows the wall clock. An engine runs on a clock that never jumps; how far
the wall clock is ahead of it stands in a ``WallOffset`` that the engine's owner keeps up to date.
A wall clock that steps back never reopens a window: a bucket stays in the latest one it has seen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ratectl.engine.decision import NEVER

if TYPE_CHECKING:
    from ratectl.engine.algorithms.calendar import CalendarWindow

__all__ = ["Quota", "QuotaState", "WallOffset"]

_HOUR_NS: Final = 3_600 * 10**9
_LONGEST: Final = {
    "min": _HOUR_NS // 60,
    "h": _HOUR_NS,
    "day": 50 * _HOUR_NS,  # zones have skipped whole days
    "week": 194 * _HOUR_NS,
    "month": 770 * _HOUR_NS,
}
"""No window of a unit is longer."""


class WallOffset:
    """``ns``: what to add to the engine's clock for nanoseconds since 1970 in UTC."""

    __slots__ = ("ns",)

    def __init__(self, ns: int = 0) -> None:
        self.ns = ns


QuotaState = tuple[int, int, int, int]
"""Count of one calendar window, ``(start, end, since, used)``; a charge makes another.

``start`` and ``end``: first instant of the window and first one after it, by the wall clock.
``since``: instant of the first count, by the engine's clock, as far as anything is counted: an
empty window might as well be a new one. ``used``: cost admitted in this window.
"""


class Quota:
    """Parameters: at most ``most`` in each ``window``. ``now`` is the engine's clock."""

    __slots__ = ("_key", "blocked", "most", "offset", "window")

    holds: Final = False

    def __init__(
        self, most: int, window: CalendarWindow, offset: WallOffset, *, blocked: bool = False
    ) -> None:
        """``blocked`` refuses even a cost of zero: the written rate was 0."""
        if most < 0:
            raise ValueError("a count is not negative")
        self.most = most
        self.window = window
        self.blocked = blocked
        self.offset = offset
        self._key = (most, window, blocked)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Quota) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def fixed(self) -> Quota:
        """The same, with the wall clock as far ahead for ever as it is now."""
        return Quota(self.most, self.window, WallOffset(self.offset.ns), blocked=self.blocked)

    def full(self, now: int) -> QuotaState:
        """A window in which nothing was admitted."""
        return (*self.window.around(now + self.offset.ns), now, 0)

    def spent(self, used: int, now: int) -> QuotaState:
        """A window in which ``used`` was admitted already."""
        # Nobody knows whose requests are counted: none so far is refunded.
        return (*self.window.around(now + self.offset.ns), now + 1, used)

    def advance(self, state: QuotaState, now: int) -> QuotaState:
        """Begin the window that has come by ``now``."""
        return self._present(state, now)[0]

    def attempt(self, state: QuotaState, cost: int, now: int) -> tuple[int, QuotaState, int, None]:
        """Count ``cost`` if there is room (see ``Algorithm.attempt``)."""
        state, wall = self._present(state, now)
        start, end, since, used = state
        left = self.most - used - cost
        if cost > self.most or self.blocked:
            return NEVER, state, 0, None
        if left < 0:
            return end - wall, state, 0, None
        if not used:
            since = now
        return 0, (start, end, since, used + cost), left, None

    def settle(self, state: QuotaState, more: int, now: int, since: int, cost: int) -> QuotaState:  # noqa: ARG002
        """Count ``more``, above ``most`` if need be; or refund what this window counted.

        What was counted before the window began is none of its own.
        """
        start, end, began, used = self.advance(state, now)
        if more > 0 and not used:
            began = now
        if more > 0 or since >= began:
            used = max(0, used + more)
        return start, end, began, used

    def remaining(self, state: QuotaState, now: int) -> int:
        """What the window still admits."""
        return max(0, self.most - self.used(state, now))

    def reset_after(self, state: QuotaState, now: int) -> int:
        """Nanoseconds until nothing is counted any more."""
        (_, end, _, used), wall = self._present(state, now)
        return end - wall if used else 0

    def settled_after(self, owed: int = 0) -> int:  # noqa: ARG002
        """Nanoseconds after which every window is empty again."""
        return _LONGEST[self.window.unit]

    def used(self, state: QuotaState, now: int) -> int:
        """What is counted now."""
        *_, used = self.advance(state, now)
        return used

    def at(self, state: QuotaState, now: int) -> int:
        """``now``, or when the bucket's window began, if the wall clock has stepped back since."""
        start, *_ = state
        return max(now, start - self.offset.ns)

    def same_window(self, other: object) -> bool:
        """Whether ``other`` is a quota over the same windows, of whatever count."""
        return isinstance(other, Quota) and other.window == self.window

    def same(self, one: QuotaState, other: QuotaState, now: int) -> bool:
        """Whether two windows answer alike from ``now`` on."""
        _, end, _, used = self.advance(one, now)
        _, other_end, _, other_used = self.advance(other, now)
        return used == other_used and (not used or end == other_end)

    def stricter(self, one: QuotaState, other: QuotaState, now: int) -> QuotaState:
        """A window that admits no more than either."""
        start, end, _, used = self.advance(one, now)
        other_start, other_end, _, other_used = self.advance(other, now)
        if other_end > end:
            start, end = other_start, other_end
        return start, end, now + 1, max(used, other_used)  # since: as in ``spent``

    def _present(self, state: QuotaState, now: int) -> tuple[QuotaState, int]:
        """The window at ``now``, and the wall clock, which is read just once."""
        wall = now + self.offset.ns
        _, end, _, _ = state
        if wall >= end:
            state = (*self.window.around(wall), now, 0)
        return state, wall
