"""Busiest keys of one limit, in bounded memory.

Space-Saving (Metwally et al., 2005): a held key counts every request; one that is not held takes
the place and the count of the least busy one. With many such requests, only a sample of them does
(sample and hold: Estan and Varghese, 2002), so that few take the time.

So a key that was held from its first request on is counted exactly. Of another, those since it is
held are counted; it may have had as many more as the key had whose place it took and, in 999 of
1,000 cases, at most seven times the number of requests of which one is sampled.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from ratectl.engine.buckets.counters import Key

__all__ = ["HALVED_NS", "MOST_HELD", "KeyTraffic", "Traffic", "missed"]

MOST_HELD: Final = 256
"""Keys that are held for each limit."""

MOST_SAMPLED: Final = 64
"""Of so many requests of keys that are not held, one is a sample; fewer while there were few."""

SAMPLED_LATER: Final = 4_096
"""Requests of keys that are not held until one in two is a sample, then one in three, and so on."""

HALVED_NS: Final = 300 * 10**9
"""Nanoseconds after which all counts are halved: so they are those of the last minutes."""


def missed(sampled: int) -> int:
    """Return the requests of a key before it is held: at most so many in 999 of 1,000 cases.

    ``sampled``: one in so many requests is a sample; 0 if all keys are held.
    """
    return 7 * sampled if sampled > 1 else 0


class KeyTraffic(NamedTuple):
    """A busy key."""

    key: str
    requests: int
    """At least so many, admitted or refused."""
    error: int
    """There may have been so many more, in 999 of 1,000 cases; 0 if ``requests`` is exact."""
    use: float | None = None
    """Share of its bucket that is used now, 0 to 1; None if it has none."""

    def joined(self, other: KeyTraffic) -> KeyTraffic:
        """Return the sum of two keys with one text. Their use is not known yet."""
        return KeyTraffic(self.key, self.requests + other.requests, self.error + other.error)


class Traffic:
    """Held keys of one limit, in pure Python."""

    __slots__ = ("_chance", "_misses", "_until", "held", "skipped")

    def __init__(self) -> None:
        self._chance = Random()  # noqa: S311  nothing depends on its being secret
        self._misses = 0
        self._until = 1
        self.skipped = 0
        """Requests that are in no count: of keys that are not held, and no samples."""
        self.held: dict[Key, list[int]] = {}
        """Count and error of each key."""

    @property
    def sampled(self) -> int:
        """One in so many requests of keys that are not held is a sample; 0 if all are held."""
        if len(self.held) < MOST_HELD:
            return 0
        return min(MOST_SAMPLED, 1 + self._misses // SAMPLED_LATER)

    def add(self, key: Key) -> None:
        """Count a request of a key."""
        held = self.held.get(key)
        if held is not None:
            held[0] += 1
        elif len(self.held) < MOST_HELD:
            self.held[key] = [1, 0]
        else:
            self._misses += 1
            self._until -= 1
            if self._until <= 0:
                self._until = self._chance.randrange(1, 2 * self.sampled)  # traffic may repeat
                self._replace(key)
            else:
                self.skipped += 1

    def _replace(self, key: Key) -> None:
        # Of a copy: another thread may replace a key meanwhile.
        least, (count, _) = min(self.snapshot(), key=lambda item: item[1][0])
        self.held.pop(least, None)
        self.held[key] = [count + 1, count]

    def snapshot(self) -> list[tuple[Key, list[int]]]:
        """Return the keys with count and error, as they are at one moment."""
        return list(self.held.items())

    def halve(self) -> None:
        """Halve all counts."""
        self._misses //= 2
        self.skipped //= 2
        for _, held in self.snapshot():
            held[:] = held[0] // 2, held[1] // 2
