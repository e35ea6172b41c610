"""Quota: at most n in each calendar window. Exact integer counts.

The one algorithm that follows the wall clock. An engine runs on a clock that never jumps; how far
the wall clock is ahead of it stands in a ``WallOffset`` that the engine's owner keeps up to date.
A wall clock that steps back never reopens a window: a bucket stays in the latest one it has seen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ratectl.engine.decision import NEVER

if TYPE_CHECKING:
    from ratectl.engine.calendar import CalendarWindow

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


class QuotaState:
    """``used`` of the window from ``start`` to ``end`` (wall clock).

    ``since``: when it was first counted in, by the engine's clock, as far as anything is counted:
    a window in which nothing is might as well be a new one.
    """

    __slots__ = ("end", "epoch", "serial", "since", "start", "used")

    def __init__(self, start: int, end: int, since: int, used: int = 0) -> None:
        self.start = start
        self.end = end
        self.since = since
        self.used = used
        self.epoch = 0
        self.serial = 0

    def copy(self) -> QuotaState:
        twin = QuotaState(self.start, self.end, self.since, self.used)
        twin.epoch = self.epoch
        return twin


class Quota:
    """Parameters: at most ``most`` in each ``window``. ``now`` is the engine's clock."""

    __slots__ = ("_key", "blocked", "most", "offset", "window")

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
        return QuotaState(*self.window.around(now + self.offset.ns), now)

    def spent(self, used: int, now: int) -> QuotaState:
        """A window in which ``used`` was admitted already."""
        state = self.full(now)
        state.since = now + 1  # whose requests are counted, nobody knows: none so far is refunded
        state.used = used
        return state

    def wait(self, state: QuotaState, cost: int, now: int) -> int:
        """Nanoseconds until ``cost`` is admitted: 0 is now, ``NEVER`` is never."""
        if cost > self.most or self.blocked:
            return NEVER
        wall = self._advance(state, now)
        return 0 if state.used + cost <= self.most else state.end - wall

    def charge(self, state: QuotaState, cost: int, now: int) -> int:
        """Count ``cost``, which ``wait`` just admitted; returns what is left."""
        self._advance(state, now)
        if not state.used:
            state.since = now
        state.used += cost
        return self.most - state.used

    def settle(self, state: QuotaState, more: int, now: int, since: int, cost: int) -> None:  # noqa: ARG002
        """Count ``more``, above ``most`` if need be; or refund what this window counted.

        What was counted before the window began is none of its own.
        """
        self._advance(state, now)
        if more > 0 and not state.used:
            state.since = now
        if more > 0 or since >= state.since:
            state.used = max(0, state.used + more)

    def remaining(self, state: QuotaState, now: int) -> int:
        """What the window still admits."""
        self._advance(state, now)
        return max(0, self.most - state.used)

    def reset_after(self, state: QuotaState, now: int) -> int:
        """Nanoseconds until nothing is counted any more."""
        wall = self._advance(state, now)
        return state.end - wall if state.used else 0

    def settled_after(self, owed: int = 0) -> int:  # noqa: ARG002
        """Nanoseconds after which every window is empty again."""
        return _LONGEST[self.window.unit]

    def used(self, state: QuotaState, now: int) -> int:
        """What is counted now."""
        self._advance(state, now)
        return state.used

    def at(self, state: QuotaState, now: int) -> int:
        """``now``, or when the bucket's window began, if the wall clock has stepped back since."""
        return max(now, state.start - self.offset.ns)

    def same_window(self, other: object) -> bool:
        """Whether ``other`` is a quota over the same windows, of whatever count."""
        return isinstance(other, Quota) and other.window == self.window

    def same(self, one: QuotaState, other: QuotaState, now: int) -> bool:
        """Whether two windows answer alike from ``now`` on."""
        one, other = one.copy(), other.copy()  # a look leaves no trace: the clock may step back
        self._advance(one, now)
        self._advance(other, now)
        return one.used == other.used and (not one.used or one.end == other.end)

    def stricter(self, one: QuotaState, other: QuotaState, now: int) -> QuotaState:
        """A window that admits no more than either."""
        one, other = one.copy(), other.copy()
        self._advance(one, now)
        self._advance(other, now)
        later = one if one.end >= other.end else other
        since = now + 1  # as in ``spent``
        return QuotaState(later.start, later.end, since, max(one.used, other.used))

    def _advance(self, state: QuotaState, now: int) -> int:
        """Begin the window that has come; returns the wall clock, which is read just once."""
        wall = now + self.offset.ns
        if wall >= state.end:
            state.start, state.end = self.window.around(wall)
            state.since = now
            state.used = 0
        return wall
