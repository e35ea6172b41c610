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


WindowState = tuple[int, int, tuple[int, ...], int]
"""Counts of one window, ``(head, since, ring, total)``; a charge makes another.

``ring[i % SLOTS]`` counts sub-window i, for the SLOTS that end with number ``head``; ``total`` is
their sum. ``since``: instant when the window began, as far as anything is counted: an empty window
might as well be a new one. Requests charged before that instant cannot be told apart.
"""

_EMPTY: Final = (0,) * SLOTS


class SlidingWindow:
    """Parameters: at most ``most`` in any ``window_ns`` nanoseconds.

    All methods take ``now`` in nanoseconds; a ``now`` before the window's own time counts as it.
    """

    __slots__ = ("_key", "blocked", "most", "slot_ns", "window_ns")

    holds: Final = False

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
        return now // self.slot_ns, now, _EMPTY, 0

    def spent(self, used: int, now: int) -> WindowState:
        """A window in which ``used`` was admitted just now."""
        head = now // self.slot_ns
        # Nobody knows whose requests are counted: none so far is refunded.
        return head, now + 1, _added(_EMPTY, head, used), used

    def at(self, state: WindowState, now: int) -> int:
        """``now``, or the window's own time if that is later."""
        head, *_ = state
        return max(now, head * self.slot_ns)

    def advance(self, state: WindowState, now: int) -> WindowState:
        """Forget the sub-windows that have passed by ``now``."""
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
        """Nanoseconds until ``cost`` is admitted: 0 is now, ``NEVER`` is never."""
        head, _, ring, total = self.advance(state, now)
        if cost > self.most or self.blocked:
            return NEVER
        excess = total + cost - self.most
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
        """Count ``cost`` if there is room (see ``Algorithm.attempt``)."""
        head, since, ring, total = state
        if now // self.slot_ns > head:
            head, since, ring, total = state = self.advance(state, now)
        left = self.most - total - cost
        if left < 0 or self.blocked:
            return self.wait(state, cost, now), state, 0, None
        if not total:
            since = now
        at = head % SLOTS
        counts = list(ring)
        counts[at] += cost
        return 0, (head, since, tuple(counts), total + cost), left, None

    def settle(self, state: WindowState, more: int, now: int, since: int, cost: int) -> WindowState:  # noqa: ARG002
        """Count ``more`` now, above ``most`` if need be; or refund what was counted at ``since``.

        There is nothing to refund once the window has passed that, and where it began as something
        else since.
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
        """What the window still admits at once."""
        return max(0, self.most - self.used(state, now))

    def reset_after(self, state: WindowState, now: int) -> int:
        """Nanoseconds until nothing is counted any more."""
        head, _, ring, total = self.advance(state, now)
        if not total:
            return 0
        for slot in range(head, head - SLOTS, -1):
            if ring[slot % SLOTS]:
                return self._forgotten(slot) - now
        raise AssertionError("a ring's counts add up to its total")

    def settled_after(self, owed: int = 0) -> int:  # noqa: ARG002
        """Nanoseconds after which every window is empty again."""
        return SLOTS * self.slot_ns

    def used(self, state: WindowState, now: int) -> int:
        """What is counted now."""
        *_, total = self.advance(state, now)
        return total

    def same(self, one: WindowState, other: WindowState, now: int) -> bool:
        """Whether two windows answer alike from ``now`` on."""
        head, _, ring, total = self.advance(one, now)
        against, _, counts, count = self.advance(other, now)
        return total == count == 0 or (head == against and ring == counts)

    def stricter(self, one: WindowState, other: WindowState, now: int) -> WindowState:
        """A window that admits no more than either."""
        now = max(self.at(one, now), self.at(other, now))
        _, _, first, _ = self.advance(one, now)
        _, _, second, _ = self.advance(other, now)
        ring = tuple(map(max, first, second))
        return now // self.slot_ns, now + 1, ring, sum(ring)  # since: as in ``spent``

    def _forgotten(self, slot: int) -> int:
        """The instant at which sub-window ``slot`` is no longer counted."""
        return (slot + SLOTS) * self.slot_ns


def _added(ring: tuple[int, ...], slot: int, count: int) -> tuple[int, ...]:
    """The ring with ``count`` more in one sub-window."""
    at = slot % SLOTS
    return (*ring[:at], ring[at] + count, *ring[at + 1 :])
