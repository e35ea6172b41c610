"""Sliding window: never more than ``capacity`` in any window of the stated length.

The state is a ring of sub-windows. A request is counted in the sub-window that it falls into, and
is forgotten only when that whole sub-window is older than the window, so the promise holds for
*every* window, not only for aligned ones. The price: a request may be refused up to one sub-window
(a fifteenth of the window) longer than with a log of exact times.

The well-known "sliding window counter", which weighs the previous fixed window, keeps less state
but assumes an even spread, and so breaks the promise. An exact log needs memory for each admitted
request.
"""

from __future__ import annotations

from typing import Final

from ratectl.engine.algorithms.protocol import NEVER, Algorithm, Extent

__all__ = ["SlidingWindow", "WindowState"]

SLOTS: Final = 16
"""Sub-windows in a ring: fifteen cover the window, and one more is being filled."""


WindowState = tuple[int, int, tuple[int, ...], int]
"""Counts of one window, ``(head, since, ring, total)``. Immutable.

``ring[i % SLOTS]`` counts sub-window i, for the ``SLOTS`` that end with number ``head``; ``total``
is their sum. ``since``: the instant at which the window began. An empty window begins with its next
request. Requests that were charged before that instant cannot be told apart.
"""

_EMPTY: Final = (0,) * SLOTS


class SlidingWindow(Algorithm[WindowState]):
    """Parameters: at most ``capacity`` in any ``window_ns`` nanoseconds.

    A ``now`` before the window's own time is taken as that time.
    """

    __slots__ = ("_key", "blocked", "capacity", "slot_ns", "window_ns")

    def __init__(self, capacity: int, window_ns: int, *, blocked: bool = False) -> None:
        """``blocked``: the written rate was 0, and even a cost of zero is refused."""
        if capacity < 0 or window_ns <= 0:
            raise ValueError("a count is not negative and a window is not empty")
        self.capacity = capacity
        self.window_ns = window_ns
        self.slot_ns = -(-window_ns // (SLOTS - 1))
        self.blocked = blocked
        self._key = (capacity, window_ns, blocked)

    def full(self, now: int) -> WindowState:
        """Return a window in which nothing was admitted."""
        return now // self.slot_ns, now, _EMPTY, 0

    def spent(self, used: int, now: int) -> WindowState:
        """Return a window in which ``used`` was admitted just now."""
        head = now // self.slot_ns
        # ``since`` is after ``now``: it is not known which requests are counted, so that none of
        # them is refunded.
        return head, now + 1, _added(_EMPTY, head, used), used

    def at(self, state: WindowState, now: int) -> int:
        """Return ``now``, or the window's own time if that is later."""
        head, *_ = state
        return max(now, head * self.slot_ns)

    def advance(self, state: WindowState, now: int) -> WindowState:
        """Return the window without the sub-windows that have expired by ``now``."""
        head = now // self.slot_ns
        before, since, ring, total = state
        if head <= before:
            return state
        if not total or head - before >= SLOTS:
            return head, since, _EMPTY, 0
        counts = list(ring)
        for slot in range(before + 1, head + 1):
            counts[slot % SLOTS] = 0
        return head, since, tuple(counts), sum(counts)

    def wait(self, state: WindowState, cost: int, now: int) -> int:
        """Return the nanoseconds until ``cost`` is admitted; 0 for now, or ``NEVER``."""
        head, _, ring, total = self.advance(state, now)
        if cost > self.capacity or self.blocked:
            return NEVER
        excess = total + cost - self.capacity
        if excess <= 0:
            return 0
        for slot in range(head - SLOTS + 1, head + 1):
            excess -= ring[slot % SLOTS]
            if excess <= 0:
                return self._forgotten(slot) - now
        raise AssertionError("a ring's counts add up to its total")

    def attempt(
        self, state: WindowState, cost: int, now: int
    ) -> tuple[int, WindowState, int, None]:
        """Count ``cost`` if the window has room (see ``Algorithm.attempt``)."""
        head, since, ring, total = state
        if now // self.slot_ns > head:
            head, since, ring, total = state = self.advance(state, now)
        left = self.capacity - total - cost
        if left < 0 or self.blocked:
            return self.wait(state, cost, now), state, 0, None
        if not total:
            since = now
        at = head % SLOTS
        counts = list(ring)
        counts[at] += cost
        return 0, (head, since, tuple(counts), total + cost), left, None

    def settle(self, state: WindowState, more: int, now: int, since: int, cost: int) -> WindowState:  # noqa: ARG002
        """Count ``more`` now, above ``capacity`` if necessary; or refund what ``since`` counted.

        Nothing is refunded if the sub-window of ``since`` has expired, or if the bucket was
        converted from another algorithm after ``since``.
        """
        state = self.advance(state, now)
        head, began, ring, total = state
        slot = head
        if more < 0:
            slot = since // self.slot_ns
            if since < began or slot <= head - SLOTS:
                return state
            more = -min(-more, ring[slot % SLOTS])
        elif not total:
            began = now
        return head, began, _added(ring, slot, more), total + more

    def remaining(self, state: WindowState, now: int) -> int:
        """Return the cost that the window still admits at once."""
        return max(0, self.capacity - self.used(state, now))

    def reset_after(self, state: WindowState, now: int) -> int:
        """Return the nanoseconds until nothing is counted any more."""
        head, _, ring, total = self.advance(state, now)
        if not total:
            return 0
        for slot in range(head, head - SLOTS, -1):
            if ring[slot % SLOTS]:
                return self._forgotten(slot) - now
        raise AssertionError("a ring's counts add up to its total")

    def extent(self) -> Extent:
        """See ``Algorithm.extent``."""
        return Extent(self.capacity, 0, SLOTS * self.slot_ns)

    def used(self, state: WindowState, now: int) -> int:
        """Return the cost that is counted at ``now``."""
        *_, total = self.advance(state, now)
        return total

    def same(self, one: WindowState, other: WindowState, now: int) -> bool:
        """Return True if two windows have equal counts from ``now`` on."""
        head, _, ring, total = self.advance(one, now)
        against, _, counts, count = self.advance(other, now)
        return total == count == 0 or (head == against and ring == counts)

    def stricter(self, one: WindowState, other: WindowState, now: int) -> WindowState:
        """Return a window that counts, at every later instant, as much as either of two."""
        now = max(self.at(one, now), self.at(other, now))
        _, _, first, _ = self.advance(one, now)
        _, _, second, _ = self.advance(other, now)
        head = now // self.slot_ns
        ring = [0] * SLOTS
        # What still counts at a later instant are the newest sub-windows, from some one on.
        total = one_total = other_total = 0
        for slot in range(head, head - SLOTS, -1):
            one_total += first[slot % SLOTS]
            other_total += second[slot % SLOTS]
            ring[slot % SLOTS] = max(one_total, other_total) - total
            total = max(one_total, other_total)
        return head, now + 1, tuple(ring), total  # since: as in ``spent``

    def continued(self, old: SlidingWindow, state: WindowState, now: int) -> WindowState:
        """Return the counts in sub-windows of this length, each as late as it may have come."""
        state = old.advance(state, now)
        if old.slot_ns == self.slot_ns:
            return state
        newest, since, ring, _ = state
        now = old.at(state, now)
        head = now // self.slot_ns
        moved = [0] * SLOTS
        for slot in range(newest - SLOTS + 1, newest + 1):
            latest = min((slot + 1) * old.slot_ns - 1, now)
            if latest // self.slot_ns > head - SLOTS:
                moved[latest // self.slot_ns % SLOTS] += ring[slot % SLOTS]
        return head, since, tuple(moved), sum(moved)

    def _forgotten(self, slot: int) -> int:
        """Return the instant from which sub-window ``slot`` is no longer counted."""
        return (slot + SLOTS) * self.slot_ns


def _added(ring: tuple[int, ...], slot: int, count: int) -> tuple[int, ...]:
    """Return the ring with ``count`` more in one sub-window."""
    at = slot % SLOTS
    return (*ring[:at], ring[at] + count, *ring[at + 1 :])
