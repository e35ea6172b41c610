"""Sliding window: never more than ``capacity`` in any window of the stated length.

The state is a short log: cells of admitted cost, each with the instant of its *latest* admission.
A cell is forgotten when the window has passed since that instant, so nothing is forgotten too
early, and the promise holds for *every* window. Up to ``exact`` cells, two thirds of the most, hold
one instant each: the log is exact. Then requests are added to the newest cell until it holds
``quantum``, the capacity divided by the most cells. At any instant only the oldest cell can hold
cost that an exact log would have forgotten, so a window refuses early only if an exact log had less
than one cell's cost left.

So that a cell fits four bytes, the closed cells of a log of ``CELLS`` with more than ``exact`` have
instants that are rounded up, to a millionth of the window or less, and counts of whole grains: what
a cell has beyond them counts in the next cell. A grain is 1 if the capacity is at most 4,000. So
the total is exact until something expires. Finer logs round nothing.

An exact log of any length needs memory for each admitted request. A ring of sub-windows of equal
length refuses half of the requests if all of them come in one short burst in each window.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Final

from ratectl.engine.algorithms.protocol import NEVER, Algorithm, Extent

__all__ = ["CELLS", "SlidingWindow", "WindowState"]

CELLS: Final = 24
"""Most cells of a log by default: 23 closed ones, and the newest."""

_CELL_BITS: Final = 32
_COUNT_BITS: Final = 12
_MOST_GRAINS: Final = 4_000
"""Capacity in grains, at most: with what rounding may add, it fits ``_COUNT_BITS``."""

Cell = tuple[int, int]
"""Instant of the latest admission, and admitted cost."""

WindowState = tuple[tuple[Cell, ...], int, int]
"""Log of one window, ``(cells, opaque, total)``. Immutable.

``cells``: oldest first; expired ones remain until the next charge. ``opaque``: number of the oldest
cells from which nothing is refunded: it is not known which requests they count. An opaque cell may
have a count of zero: it then only says that requests up to its instant are unknown. ``total``: the
sum of all counts.
"""

_EMPTY: Final[WindowState] = ((), 0, 0)


class SlidingWindow(Algorithm[WindowState]):
    """Parameters: at most ``capacity`` in any ``window_ns`` nanoseconds.

    A charge at an instant before the window's own time, that of its newest cell, counts at that
    time.
    """

    __slots__ = (
        "_key", "blocked", "capacity", "cells", "exact", "grain_bits", "quantum", "unit_bits",
        "window_ns",
    )  # fmt: skip

    def __init__(
        self, capacity: int, window_ns: int, *, blocked: bool = False, cells: int = CELLS
    ) -> None:
        """``blocked``: the written rate was 0, and even a cost of zero is refused."""
        if capacity < 0 or window_ns <= 0:
            raise ValueError("a count is not negative and a window is not empty")
        if cells < CELLS:
            raise ValueError(f"a log has {CELLS} cells or more")
        self.capacity = capacity
        self.window_ns = window_ns
        self.blocked = blocked
        self.cells = cells
        self.exact = cells * 2 // 3
        self.unit_bits = self.grain_bits = 0
        if cells == CELLS:
            count_bits = min(_COUNT_BITS, max(1, capacity.bit_length()))
            self.unit_bits = max(0, (window_ns + 1).bit_length() - (_CELL_BITS - count_bits))
            self.grain_bits = (max(0, capacity - 1) // _MOST_GRAINS).bit_length()
        self.quantum = self._whole(-(-capacity // cells) + (1 << self.grain_bits) - 1)
        self._key = (capacity, window_ns, blocked, cells)

    def full(self, now: int) -> WindowState:  # noqa: ARG002
        """Return a window in which nothing was admitted."""
        return _EMPTY

    def spent(self, used: int, now: int) -> WindowState:
        """Return a window in which ``used`` was admitted just now."""
        return ((now, used),), 1, used

    def at(self, state: WindowState, now: int) -> int:
        """Return ``now``, or the window's own time if that is later."""
        cells, *_ = state
        return max(now, cells[-1][0]) if cells else now

    def wait(self, state: WindowState, cost: int, now: int) -> int:
        """Return the nanoseconds until ``cost`` is admitted; 0 for now, or ``NEVER``."""
        if cost > self.capacity or self.blocked:
            return NEVER
        cells, _, total = self._live(state, now)
        excess = total + cost - self.capacity
        if excess <= 0:
            return 0
        for instant, count in cells:
            excess -= count
            if excess <= 0:
                return instant + self.window_ns - now
        raise AssertionError("the counts of cells add up to their total")

    def attempt(
        self, state: WindowState, cost: int, now: int
    ) -> tuple[int, WindowState, int, None]:
        """Count ``cost`` if the window has room (see ``Algorithm.attempt``)."""
        live = state
        cells = state[0]
        if cells and cells[0][0] <= now - self.window_ns:  # most often not: the call is spared
            live = self._live(state, now)
        left = self.capacity - live[2] - cost
        if left < 0 or self.blocked:
            return self.wait(live, cost, now), state, 0, None
        if cost:
            return 0, self._charged(live, cost, now), left, None
        return 0, state, left, None

    def settle(self, state: WindowState, more: int, now: int, since: int, cost: int) -> WindowState:  # noqa: ARG002
        """Count ``more`` now, above ``capacity`` if necessary; or refund what ``since`` counted.

        Nothing is refunded if the request has expired, or if its cell is opaque; nor to a request
        before the first cell's instant: it may be older than the bucket, or than a shorter window.
        """
        cells, opaque, _ = state = self._live(state, now)
        if more > 0:
            return self._charged(state, more, now)
        if not more or since + self.window_ns <= now:
            return state
        for i, (instant, count) in enumerate(cells):
            if instant >= since:
                left = max(0, count + more)
                if i < opaque or (i == 0 and since < instant):
                    return state
                changed = ((instant, left),) if left else ()
                return self._fitted((*cells[:i], *changed, *cells[i + 1 :]), opaque)
        return state

    def remaining(self, state: WindowState, now: int) -> int:
        """Return the cost that the window still admits at once."""
        return max(0, self.capacity - self.used(state, now))

    def reset_after(self, state: WindowState, now: int) -> int:
        """Return the nanoseconds until nothing is counted any more."""
        cells, *_ = state
        for instant, count in reversed(cells):
            if count:
                return max(0, instant + self.window_ns - now)
        return 0

    def extent(self) -> Extent:
        """See ``Algorithm.extent``."""
        return Extent(self.capacity, 0, self.window_ns)

    def used(self, state: WindowState, now: int) -> int:
        """Return the cost that is counted at ``now``."""
        *_, total = self._live(state, now)
        return total

    def moved(self, state: WindowState, by: int) -> WindowState:
        """See ``Algorithm.moved``. Rounded instants are rounded up again."""
        cells, opaque, _ = state
        return self._fitted(tuple([(at + by, count) for at, count in cells]), opaque)

    def same(self, one: WindowState, other: WindowState, now: int) -> bool:
        """Return True if two windows have equal cells from ``now`` on."""
        first, _, total = self._live(one, now)
        second, _, count = self._live(other, now)
        return first == second or total == count == 0

    def stricter(self, one: WindowState, other: WindowState, now: int) -> WindowState:
        """Return a window that counts, at every later instant, the larger of two counts.

        It is the first one if the other adds nothing, and no refund can change that.
        """
        later = max(self.at(one, now), self.at(other, now))
        mine, others = self._live(one, now), self._live(other, now)[0]
        lasting = tuple([cell for cell in mine[0][: mine[1]] if cell[1]])
        if _larger(lasting, others) == lasting:
            return mine
        return self._unknown(_larger(mine[0], others), later)

    def continued(self, old: SlidingWindow, state: WindowState, now: int) -> WindowState:
        """Return the cells that this length holds. A longer one does not know older requests."""
        now = old.at(state, now)
        cells, opaque, _ = state = self._live(old._live(state, now), now)
        if len(cells) > self.exact and self._key != old._key:
            return self._fitted(cells, opaque)
        return state

    def _live(self, state: WindowState, now: int) -> WindowState:
        """Return the window without the cells that have expired by ``now``."""
        cells, opaque, total = state
        start = now - self.window_ns
        if not cells or cells[0][0] > start:
            return state
        expired = 0
        for instant, count in cells:
            if instant > start:
                break
            expired += 1
            total -= count
        return cells[expired:], max(0, opaque - expired), total

    def _unknown(self, cells: tuple[Cell, ...], now: int) -> WindowState:
        """Return a window that knows no request up to ``now``."""
        if not cells or cells[-1][0] < now:
            cells = (*cells, (now, 0))
        return self._fitted(cells, len(cells))

    def _charged(self, state: WindowState, cost: int, now: int) -> WindowState:
        """Add ``cost`` to a window without expired cells."""
        cells, opaque, total = state
        if not total:
            return ((now, cost),), 0, cost
        total += cost
        *others, (latest, count) = cells
        if now <= latest:
            now = latest
        elif len(others) < self.exact - 1 or not (
            count + cost <= self.quantum or now < self._late(latest)
        ):
            return self._fitted((*cells, (now, cost)), opaque)
        return (*others, (now, count + cost)), opaque, total

    def _fitted(self, cells: tuple[Cell, ...], opaque: int) -> WindowState:
        """Round closed cells, and merge the smallest neighbours, if there are too many."""
        total = sum(count for _, count in cells)
        if len(cells) <= self.exact:
            return cells, opaque, total
        latest, count = cells[-1]
        closed: list[Cell] = []
        rest = 0
        for at, more in cells[:-1]:
            instant, whole = self._late(at), self._whole(more + rest)
            rest += more
            if instant <= latest:
                closed.append((instant, whole))
                rest -= whole
        opaque = opaque if opaque <= len(closed) else len(closed) + 1
        while len(closed) >= self.cells:
            sums = [older[1] + newer[1] for older, newer in pairwise(closed)]
            i = sums.index(min(sums))
            closed[i : i + 2] = [(closed[i + 1][0], sums[i])]
            opaque -= i + 1 < opaque
        return (*closed, (latest, count + rest)), opaque, total

    def _late(self, instant: int) -> int:
        """Return an instant rounded up to whole units."""
        return -(-instant >> self.unit_bits) << self.unit_bits

    def _whole(self, count: int) -> int:
        """Return a count rounded down to whole grains."""
        return count >> self.grain_bits << self.grain_bits


def _larger(*logs: tuple[Cell, ...]) -> tuple[Cell, ...]:
    """Return cells that count, at every later instant, the largest count of several logs."""
    cells: list[Cell] = []
    counted = 0
    for instant in sorted({at for log in logs for at, _ in log}, reverse=True):
        largest = max(sum(count for at, count in log if at >= instant) for log in logs)
        if largest > counted:
            cells.append((instant, largest - counted))
            counted = largest
    return tuple(reversed(cells))
