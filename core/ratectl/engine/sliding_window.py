"""Sliding window: never more than ``most`` in any window of the stated length.

A ring of sub-windows. A request is counted in the sub-window it falls into, and is forgotten only
when that whole sub-window is older than the window, so the promise holds for *every* window, not
only for aligned ones. The price: a request may be refused up to one sub-window (a fifteenth of the
window) longer than a log of exact times would.

The well-known "sliding window counter", which weighs the previous fixed window, keeps less state
but assumes an even spread and so breaks the promise; an exact log costs memory by admitted request.
"""

from __future__ import annotations

from typing import Final

from ratectl.engine.decision import NEVER

__all__ = ["SlidingWindow", "WindowState"]

SLOTS: Final = 16
"""Sub-windows kept: fifteen cover the window, one more is being filled."""


class WindowState:
    """A window: ``ring[i % SLOTS]`` counts sub-window i, for the SLOTS ending at ``head``.

    ``since``: when it began, as far as anything is counted: a window in which nothing is might as
    well be a new one. What was charged before is not told apart.
    """

    __slots__ = ("epoch", "head", "ring", "serial", "since", "total")

    def __init__(self, head: int, since: int) -> None:
        self.head = head
        self.since = since
        self.ring = [0] * SLOTS
        self.total = 0
        self.epoch = 0
        self.serial = 0

    def copy(self) -> WindowState:
        twin = WindowState(self.head, self.since)
        twin.ring = self.ring.copy()
        twin.total = self.total
        twin.epoch = self.epoch
        return twin


class SlidingWindow:
    """Parameters: at most ``most`` in any ``window_ns`` nanoseconds.

    All methods take ``now`` in nanoseconds; a ``now`` before the window's own time counts as it.
    """

    __slots__ = ("_key", "blocked", "most", "slot_ns", "window_ns")

    def __init__(self, most: int, window_ns: int, *, blocked: bool = False) -> None:
        """``blocked`` refuses even a cost of zero: the written rate was 0."""
        if most < 0 or window_ns <= 0:
            raise ValueError("a count is not negative and a window is not empty")
        self.most = most
        self.window_ns = window_ns
        self.slot_ns = -(-window_ns // (SLOTS - 1))
        self.blocked = blocked
        self._key = (most, window_ns, blocked)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SlidingWindow) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def full(self, now: int) -> WindowState:
        """A window in which nothing was admitted: all of ``most`` is free."""
        return WindowState(now // self.slot_ns, now)

    def spent(self, used: int, now: int) -> WindowState:
        """A window in which ``used`` was admitted just now."""
        state = self.full(now)
        state.since = now + 1  # whose requests are counted, nobody knows: none so far is refunded
        state.ring[state.head % SLOTS] = state.total = used
        return state

    def at(self, state: WindowState, now: int) -> int:
        """``now``, or the window's own time if that is later."""
        return max(now, state.head * self.slot_ns)

    def wait(self, state: WindowState, cost: int, now: int) -> int:
        """Nanoseconds until ``cost`` is admitted: 0 is now, ``NEVER`` is never."""
        self._advance(state, now)
        if cost > self.most or self.blocked:
            return NEVER
        excess = state.total + cost - self.most
        if excess <= 0:
            return 0
        for slot in range(state.head - SLOTS + 1, state.head + 1):
            excess -= state.ring[slot % SLOTS]
            if excess <= 0:
                return self._forgotten(slot) - now
        raise AssertionError("a ring's counts add up to its total")

    def charge(self, state: WindowState, cost: int, now: int) -> int:
        """Count ``cost``, which ``wait`` just admitted; returns what is left of ``most``."""
        self._advance(state, now)
        if not state.total:
            state.since = now
        state.ring[state.head % SLOTS] += cost
        state.total += cost
        return self.most - state.total

    def settle(self, state: WindowState, more: int, now: int, since: int, cost: int) -> None:  # noqa: ARG002
        """Count ``more`` now, above ``most`` if need be; or refund what was counted at ``since``.

        There is nothing to refund once the window has passed that, and where it began as something
        else since.
        """
        self._advance(state, now)
        slot = state.head
        if more < 0:
            slot = since // self.slot_ns
            if since < state.since or slot <= state.head - SLOTS:
                return
            more = -min(-more, state.ring[slot % SLOTS])
        elif not state.total:
            state.since = now
        state.ring[slot % SLOTS] += more
        state.total += more

    def remaining(self, state: WindowState, now: int) -> int:
        """What the window still admits at once."""
        self._advance(state, now)
        return max(0, self.most - state.total)

    def reset_after(self, state: WindowState, now: int) -> int:
        """Nanoseconds until nothing is counted any more."""
        self._advance(state, now)
        if not state.total:
            return 0
        for slot in range(state.head, state.head - SLOTS, -1):
            if state.ring[slot % SLOTS]:
                return self._forgotten(slot) - now
        raise AssertionError("a ring's counts add up to its total")

    def settled_after(self, owed: int = 0) -> int:  # noqa: ARG002
        """Nanoseconds after which every window is empty again."""
        return SLOTS * self.slot_ns

    def used(self, state: WindowState, now: int) -> int:
        """What is counted now."""
        self._advance(state, now)
        return state.total

    def same(self, one: WindowState, other: WindowState, now: int) -> bool:
        """Whether two windows answer alike from ``now`` on."""
        if not one.total and not other.total:
            return True
        one, other = one.copy(), other.copy()  # a look leaves no trace: the clock may step back
        self._advance(one, now)
        self._advance(other, now)
        return one.total == other.total == 0 or (one.head == other.head and one.ring == other.ring)

    def stricter(self, one: WindowState, other: WindowState, now: int) -> WindowState:
        """A window that admits no more than either."""
        now = max(now, one.head * self.slot_ns, other.head * self.slot_ns)
        one, other = one.copy(), other.copy()
        self._advance(one, now)
        self._advance(other, now)
        merged = self.full(now)
        merged.since = now + 1  # as in ``spent``
        merged.ring = [max(pair) for pair in zip(one.ring, other.ring, strict=True)]
        merged.total = sum(merged.ring)
        return merged

    def _forgotten(self, slot: int) -> int:
        """The instant at which sub-window ``slot`` is no longer counted."""
        return (slot + SLOTS) * self.slot_ns

    def _advance(self, state: WindowState, now: int) -> None:
        """Forget the sub-windows that have passed by ``now``."""
        head = now // self.slot_ns
        passed = head - state.head
        if passed <= 0:
            return
        if not state.total:
            state.head = head
            return
        if passed >= SLOTS:
            state.ring = [0] * SLOTS
            state.total = 0
        else:
            for slot in range(state.head + 1, head + 1):
                state.total -= state.ring[slot % SLOTS]
                state.ring[slot % SLOTS] = 0
        state.head = head
