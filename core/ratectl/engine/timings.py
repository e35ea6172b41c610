"""Times that sampled decisions took: one call of ``check`` in 1,024."""

from __future__ import annotations

from bisect import bisect_left
from typing import Final, NamedTuple

__all__ = ["BOUNDS_NS", "NO_TIMINGS", "TIMED", "Stopwatch", "Timings"]

BOUNDS_NS: Final = (
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 100_000, 1_000_000, 10_000_000, 100_000_000,
)  # fmt: skip
"""Upper bounds of the counts, in nanoseconds; the same numbers as ``time_bounds`` of timing.h."""

TIMED: Final = 1_024
"""One call of ``check`` in so many is timed."""


class Timings(NamedTuple):
    """Number of timed decisions by their time."""

    counts: tuple[int, ...]
    """By the first of ``BOUNDS_NS`` that holds; the last count: beyond all bounds."""
    sum_ns: int
    """Sum of the times, in nanoseconds."""

    def since(self, before: Timings) -> Timings:
        """Return the times that came after ``before``."""
        counts = (now - then for now, then in zip(self.counts, before.counts, strict=True))
        return Timings(tuple(counts), self.sum_ns - before.sum_ns)


NO_TIMINGS: Final = Timings((0,) * (len(BOUNDS_NS) + 1), 0)


class Stopwatch:
    """Times of one engine in pure Python."""

    __slots__ = ("_counts", "_sum")

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS_NS) + 1)
        self._sum = 0

    def add(self, taken: int) -> None:
        """Count a decision that took so many nanoseconds."""
        self._counts[bisect_left(BOUNDS_NS, taken)] += 1
        self._sum += taken

    def read(self) -> Timings:
        return Timings(tuple(self._counts), self._sum)
