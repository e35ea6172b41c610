"""Requests for one limit, spread unevenly over processes."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["SECOND", "Requests"]

SECOND: Final = 10**9


@dataclass(frozen=True)
class Requests:
    """Random requests: a tenth of the processes is hot, and another tenth after a while."""

    processes: int
    rate: int
    """Tokens of the limit in a second."""
    load: float = 3
    """Requests of all processes, as a multiple of ``rate``."""
    seconds: float = 15
    every: float = 5
    """Seconds after which others are hot."""
    hot: float = 0.9
    """Part of the requests that come to hot processes."""

    def instants(self, process: int) -> Iterator[int]:
        """Return the nanoseconds after the start at which requests of one process come."""
        chance = random.Random(process)
        others = self.processes - self._hot_processes
        epoch = 0
        while epoch * self.every < self.seconds:
            if self._is_hot(process, epoch):
                part = (self.hot if others else 1) / self._hot_processes
            else:
                part = (1 - self.hot) / others
            pace = part * self.load * self.rate
            now, end = epoch * self.every, min(self.seconds, (epoch + 1) * self.every)
            while pace and (now := now + chance.expovariate(pace)) < end:
                yield int(now * SECOND)
            epoch += 1

    @property
    def _hot_processes(self) -> int:
        return max(1, self.processes // 10)

    def _is_hot(self, process: int, epoch: int) -> bool:
        turns = random.Random(self.processes).sample(range(self.processes), self.processes)
        first = epoch * self._hot_processes
        return process in {turns[(first + n) % len(turns)] for n in range(self._hot_processes)}
