"""The part of engines that tells what was counted."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ratectl.engine.api import EngineCounts
from ratectl.engine.buckets.counters import shown
from ratectl.engine.buckets.reading import read_limits
from ratectl.engine.buckets.traffic import HALVED_NS
from ratectl.engine.control import ControlledEngine
from ratectl.engine.timings import Stopwatch
from ratectl.runtime.cooperative import breathe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ratectl.engine.api import LimitCounts
    from ratectl.engine.buckets.bucket_set import Maker
    from ratectl.engine.buckets.counters import Show
    from ratectl.engine.buckets.table import Table
    from ratectl.engine.timings import Timings

__all__ = ["CountingEngine"]


class CountingEngine(ControlledEngine):
    """An engine without ``check``, which can tell its counts."""

    def __init__(self, clock: Callable[[], int], maker: Maker, table: Table) -> None:
        super().__init__(clock, maker, table)
        self._stopwatch = Stopwatch()
        self._halved: int | None = None
        """Instant at which the counts of busy keys were halved last; None before the first read."""
        self.show_key: Show = shown

    def usage(self, *, fill: bool = False, pause: Callable[[], object] = breathe) -> EngineCounts:
        with self._swapping:
            now = self._alone(self._instant, None)
            limits: list[LimitCounts] = []
            self._tend(now, pause)
            self._piecewise(self._count(limits, fill), pause)
        return EngineCounts(
            generation=self._plans.generation,
            limits=tuple(limits),
            no_policy=self._count_no_policy(),
            buckets=len(self._table),
            overflowed=self._table.overflowed,
            evicted=self._table.evicted,
            bytes=self._table.bytes,
            max_bytes=self._table.max_bytes,
            timings=self._timings(),
        )

    def _timings(self) -> Timings:
        return self._stopwatch.read()

    def _count_no_policy(self) -> int:
        return self._no_policy

    def _count(self, limits: list[LimitCounts], fill: bool) -> Iterator[None]:
        """Append the counts of every limit. ``fill``: also halve those of busy keys, if due."""
        now = self._instant(None)
        if self._halved is None:
            self._halved = now
        halves = fill and now >= self._halved + HALVED_NS
        if halves:
            self._halved = now
        instant = partial(self._instant, None)
        groups = self._groups.in_force()
        yield from read_limits(groups, limits, self.show_key, instant if fill else None)
        if halves:
            for group in self._groups.in_force():
                group.counters.halve()
                yield
