"""Busiest keys of one limit, in bounded memory.

Sample and hold (Estan and Varghese, "New Directions in Traffic Measurement and Accounting", 2002):
a held key counts every request. A key that is not held becomes so at once while there is room, and
later with a chance of one in ``SAMPLED``; it then takes the place and the count of the least busy
one (Space-Saving, Metwally et al., 2005).

So the count of a key that was held from its first request on is exact. Other counts are too large
by at most ``error``, and too small by at most ``MISSED`` in 999 of 1,000 cases.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from ratectl.engine.buckets.counters import Key

__all__ = ["MISSED", "MOST_HELD", "SAMPLED", "Busy", "Traffic"]

MOST_HELD: Final = 256
"""Keys that are held for each limit."""

SAMPLED: Final = 64
"""Average number of requests of other keys until one of them becomes held."""

MISSED: Final = 440
"""Requests of a key before it is held, at most so many in 999 of 1,000 cases: (63/64)^440."""


class Busy(NamedTuple):
    """A busy key."""

    key: str
    requests: int
    """Admitted or refused."""
    error: int
    """Part of the count that may be other keys'."""
    use: float | None = None
    """Share of its bucket that is used now, 0 to 1; None if it has none."""

    def joined(self, other: Busy) -> Busy:
        """Return the sum of two keys with one text."""
        used = [use for use in (self.use, other.use) if use is not None]
        return Busy(
            self.key,
            self.requests + other.requests,
            self.error + other.error,
            max(used, default=None),
        )


class Traffic:
    """Held keys of one limit, in pure Python."""

    __slots__ = ("_chance", "_until", "held")

    def __init__(self) -> None:
        self._chance = Random()  # noqa: S311  nothing depends on its being secret
        self._until = self._gap()
        self.held: dict[Key, list[int]] = {}
        """Count and error of each key."""

    def _gap(self) -> int:
        """Return the requests until the next sample: no fixed number, as traffic may repeat."""
        return self._chance.randrange(1, 2 * SAMPLED)

    def add(self, key: Key) -> None:
        """Count a request of a key."""
        held = self.held.get(key)
        if held is not None:
            held[0] += 1
        elif len(self.held) < MOST_HELD:
            self.held[key] = [1, 0]
        else:
            self._until -= 1
            if self._until <= 0:
                self._until = self._gap()
                self._replace(key)

    def _replace(self, key: Key) -> None:
        least = min(self.held, key=lambda held: self.held[held][0])
        count, _ = self.held.pop(least, (0, 0))  # another thread may have removed it
        self.held[key] = [count + 1, count]
