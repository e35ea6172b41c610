"""Results of a run, and figures computed from them."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bench.figures import spread

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bench.deciding.hot import Missed

__all__ = ["Results", "Rounds"]

Rounds = dict[str, list[float]]
"""Nanoseconds per decision of each candidate, by round."""


@dataclass(slots=True)
class Results:
    """All figures of one run, by the names of the candidates; missing ones are None."""

    sides: dict[str, str] = field(default_factory=dict)
    alone: Rounds = field(default_factory=dict)
    threaded: Rounds = field(default_factory=dict)
    missed: dict[str, Missed] = field(default_factory=dict)
    unlocked: set[str] = field(default_factory=set)
    many: dict[str, dict[str, Any]] = field(default_factory=dict)

    def ns(self, name: str) -> float | None:
        """Return the nanoseconds for one key and one thread."""
        return _median(self.alone.get(name))

    def ratio(self, slow: str, *fast: str) -> float | None:
        """Return the time of ``slow`` as a multiple of the sum of ``fast``: the rounds' median."""
        if not {slow, *fast} <= self.alone.keys():
            return None
        rounds = zip(self.alone[slow], *(self.alone[name] for name in fast), strict=True)
        return statistics.median(time / sum(floors) for time, *floors in rounds)

    def millions(self, name: str) -> float | None:
        """Return the millions of decisions a second for one key and four threads."""
        return _millions(self.threaded.get(name))

    def zipf(self, name: str) -> float | None:
        """Return the nanoseconds for many keys and one thread."""
        return _median(self.many.get(name, {}).get("zipf_ns"))

    def zipf_millions(self, name: str) -> float | None:
        """Return the millions of decisions a second for many keys and four threads."""
        return _millions(self.many.get(name, {}).get("zipf_threads_ns"))

    def bytes_per_key(self, name: str) -> float | None:
        return self.many.get(name, {}).get("bytes_per_key")

    def fastest_peer(self, *, exact: bool) -> str | None:
        """Return the fastest peer made for threads; ``exact``: of those that kept to the limit."""
        peers = [
            name
            for name, side in self.sides.items()
            if side == "peer" and name not in self.unlocked
            if not exact or (name in self.missed and self.missed[name].by <= 0)
        ]
        return min(peers, key=lambda name: self.ns(name) or 0.0, default=None)

    def as_json(self) -> dict[str, object]:
        return {
            "one key, ns": _spreads(self.alone),
            "one key, 4 threads, ns by the wall": _spreads(self.threaded),
            "4 threads and a limit of 200": {
                name: missed._asdict() for name, missed in self.missed.items()
            },
            "many keys": {
                name: {
                    what: spread(value) if isinstance(value, list) else round(value, 1)
                    for what, value in figures.items()
                    if value != []
                }
                for name, figures in self.many.items()
            },
        }


def _spreads(rounds: Mapping[str, list[float]]) -> dict[str, object]:
    return {name: spread(values) for name, values in rounds.items()}


def _median(values: list[float] | None) -> float | None:
    return statistics.median(values) if values else None


def _millions(values: list[float] | None) -> float | None:
    return 1e3 / statistics.median(values) if values else None
