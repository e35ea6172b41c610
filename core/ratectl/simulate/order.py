"""Sorter of calls by time, within bounds of time and memory.

It sorts batches: to sort nearly sorted calls takes a quarter of the time of a heap. A batch is a
number of calls, so the order of a log does not depend on how its bytes arrive.
"""

from __future__ import annotations

from bisect import bisect_right
from operator import itemgetter
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ratectl.simulate.calls import Call

__all__ = ["BATCH", "Sorter"]

BATCH: Final = 4096
_MAX_HELD: Final = 100_000

_at = itemgetter(0)


class Sorter:
    """Sorter of calls by time; calls of one instant keep their order of arrival.

    A call is held until the log is ``window_ns`` past it (or up to a batch longer). A call that
    comes later than that is moved to the time of the last call that was yielded, and counted in
    ``late``. About ``max_held`` calls are held at most (half as many again while they wait to be
    sorted): with more, the window shrinks.
    """

    def __init__(self, window_ns: int, *, batch: int = BATCH, max_held: int = _MAX_HELD) -> None:
        self._window_ns = window_ns
        self._batch = batch
        self._max_held = max_held
        self._yielded_ns = 0
        self.late = 0
        self.most_late_ns = 0

    def ordered(self, calls: Iterable[list[Call]]) -> Iterator[list[Call]]:
        """Yield the calls in time order, in lists of other lengths."""
        held: list[Call] = []
        coming: list[Call] = []
        for batch in self._batches(calls):
            coming += batch
            if len(coming) < len(held) // 2:
                continue  # too few to sort everything again
            held += self._clamped(coming)
            coming = []
            held.sort(key=_at)
            cut = bisect_right(held, held[-1][0] - self._window_ns, key=_at)
            cut = max(cut, len(held) - self._max_held)
            if cut > 0:
                self._yielded_ns = held[cut - 1][0]
                yield held[:cut]
                held = held[cut:]
        if coming:
            held += self._clamped(coming)
            held.sort(key=_at)
        if held:
            yield held

    def _batches(self, calls: Iterable[list[Call]]) -> Iterator[list[Call]]:
        pending: list[Call] = []
        for some in calls:
            pending += some
            if len(pending) < self._batch:
                continue
            whole = len(pending) - len(pending) % self._batch
            for start in range(0, whole, self._batch):
                yield pending[start : start + self._batch]
            pending = pending[whole:]
        if pending:
            yield pending

    def _clamped(self, batch: list[Call]) -> list[Call]:
        yielded = self._yielded_ns
        earliest = min(map(_at, batch))
        if earliest >= yielded:
            return batch
        self.most_late_ns = max(self.most_late_ns, yielded - earliest)
        self.late += sum(1 for call in batch if call[0] < yielded)
        return [(yielded, *call[1:]) if call[0] < yielded else call for call in batch]
