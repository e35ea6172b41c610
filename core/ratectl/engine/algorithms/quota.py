"""Quota: at most n in each calendar window. Exact integer counts.

This is the only algorithm that follows the wall clock. An engine runs on a clock that never jumps;
a ``WallOffset``, which the engine's owner keeps up to date, holds how far the wall clock is ahead.
A wall clock that steps back never reopens a window: windows are chosen by the latest time that it
has shown. So a bucket that was evicted begins again in the window in which it ended.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ratectl.engine.algorithms.protocol import NEVER, Algorithm, Extent

if TYPE_CHECKING:
    from ratectl.engine.algorithms.calendar import CalendarWindow

__all__ = ["Quota", "QuotaState", "WallOffset"]

_HOUR_NS: Final = 3_600 * 10**9
_LONGEST: Final = {
    "s": 10**9,
    "min": _HOUR_NS // 60,
    "h": _HOUR_NS,
    "day": 50 * _HOUR_NS,  # zones have skipped whole days
    "week": 194 * _HOUR_NS,
    "month": 770 * _HOUR_NS,
}
"""Longest possible window of each unit, in nanoseconds."""


_LONG_AGO: Final = -(1 << 61)


class WallOffset:
    """Clock difference: ``ns`` plus the engine's clock is the time since 1970 in UTC."""

    __slots__ = ("floor", "ns")

    def __init__(self, ns: int = 0, floor: int = _LONG_AGO) -> None:
        self.ns = ns
        self.floor = floor
        """Latest time that the wall clock has shown before it stepped back."""

    def move(self, ns: int, now: int) -> None:
        """Change the offset to ``ns`` at ``now``, the present or a later time of the engine."""
        if ns < self.ns:
            self.floor = max(self.floor, now + self.ns)
        self.ns = ns


QuotaState = tuple[int, int, int, int]
"""Count of one calendar window, ``(start, end, since, used)``. Immutable.

``start`` and ``end``: the first instant of the window and the first one after it, by the wall
clock. ``since``: the instant of the first count, by the engine's clock; an empty window begins with
its next request. ``used``: cost admitted in this window.
"""


class Quota(Algorithm[QuotaState]):
    """Parameters: at most ``capacity`` in each ``window``. ``now`` is the engine's clock."""

    __slots__ = ("_key", "blocked", "capacity", "offset", "window")

    def __init__(
        self, capacity: int, window: CalendarWindow, offset: WallOffset, *, blocked: bool = False
    ) -> None:
        """``blocked``: the written rate was 0, and even a cost of zero is refused."""
        if capacity < 0:
            raise ValueError("a count is not negative")
        self.capacity = capacity
        self.window = window
        self.blocked = blocked
        self.offset = offset
        self._key = (capacity, window, blocked)

    def fixed(self) -> Quota:
        """Return a quota that keeps the wall clock's present offset."""
        offset = WallOffset(self.offset.ns, self.offset.floor)
        return Quota(self.capacity, self.window, offset, blocked=self.blocked)

    def full(self, now: int) -> QuotaState:
        """Return a window in which nothing was admitted."""
        return (*self._around(now + self.offset.ns), now, 0)

    def spent(self, used: int, now: int) -> QuotaState:
        """Return a window in which ``used`` was admitted already."""
        # ``since`` is after ``now``: it is not known which requests are counted, so that none of
        # them is refunded.
        return (*self._around(now + self.offset.ns), now + 1, used)

    def advance(self, state: QuotaState, now: int) -> QuotaState:
        """Return the bucket in the window that holds ``now``."""
        return self._present(state, now)[0]

    def attempt(self, state: QuotaState, cost: int, now: int) -> tuple[int, QuotaState, int, None]:
        """Count ``cost`` if the window has room (see ``Algorithm.attempt``)."""
        state, wall = self._present(state, now)
        start, end, since, used = state
        left = self.capacity - used - cost
        if cost > self.capacity or self.blocked:
            return NEVER, state, 0, None
        if left < 0:
            return end - wall, state, 0, None
        if not used:
            since = now
        return 0, (start, end, since, used + cost), left, None

    def settle(self, state: QuotaState, more: int, now: int, since: int, cost: int) -> QuotaState:  # noqa: ARG002
        """Count ``more``, above ``capacity`` if necessary; or refund what this window counted.

        Nothing is refunded for a charge of an earlier window.
        """
        start, end, began, used = self.advance(state, now)
        if more > 0 and not used:
            began = now
        if more > 0 or since >= began:
            used = max(0, used + more)
        return start, end, began, used

    def remaining(self, state: QuotaState, now: int) -> int:
        """Return the cost that the window still admits."""
        return max(0, self.capacity - self.used(state, now))

    def reset_after(self, state: QuotaState, now: int) -> int:
        """Return the nanoseconds until nothing is counted any more."""
        (_, end, _, used), wall = self._present(state, now)
        return end - wall if used else 0

    def extent(self) -> Extent:
        """See ``Algorithm.extent``."""
        return Extent(self.capacity, 0, _LONGEST[self.window.unit])

    def used(self, state: QuotaState, now: int) -> int:
        """Return the cost that is counted at ``now``."""
        *_, used = self.advance(state, now)
        return used

    def moved(self, state: QuotaState, by: int) -> QuotaState:
        """See ``Algorithm.moved``. The window is one of the wall clock."""
        start, end, since, used = state
        return start, end, since + by, used

    def at(self, state: QuotaState, now: int) -> int:
        """Return ``now``; if the wall clock stepped back, at least when the window began."""
        start, *_ = state
        return max(now, start - self.offset.ns)

    def continues(self, old: Algorithm[Any]) -> bool:
        """Return True if ``old`` is a quota over the same windows; the counts may differ."""
        return isinstance(old, Quota) and old.window == self.window

    def continued(self, old: Quota, state: QuotaState, now: int) -> QuotaState:
        """Return the present window as it is."""
        return old.advance(state, now)

    def same(self, one: QuotaState, other: QuotaState, now: int) -> bool:
        """Return True if two buckets have equal counts from ``now`` on."""
        _, end, _, used = self.advance(one, now)
        _, other_end, _, other_used = self.advance(other, now)
        return used == other_used and (not used or end == other_end)

    def stricter(self, one: QuotaState, other: QuotaState, now: int) -> QuotaState:
        """Return the later of two windows with the larger of the two counts."""
        start, end, _, used = self.advance(one, now)
        other_start, other_end, _, other_used = self.advance(other, now)
        if other_end > end:
            start, end = other_start, other_end
        return start, end, now + 1, max(used, other_used)  # since: as in ``spent``

    def _present(self, state: QuotaState, now: int) -> tuple[QuotaState, int]:
        """Return the window at ``now``, and the wall clock's time, which is read only once."""
        wall = now + self.offset.ns
        _, end, _, _ = state
        if wall >= end or self.offset.floor >= end:
            state = (*self._around(wall), now, 0)
        return state, wall

    def _around(self, wall: int) -> tuple[int, int]:
        """Return the window in force when the wall clock shows ``wall``."""
        return self.window.around(max(wall, self.offset.floor))
