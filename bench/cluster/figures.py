"""Figures of answers: beside one central bucket on the same requests, and beside static parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bench.cluster.requests import SECOND, Requests
from bench.figures import percentile

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.cluster.processes import Answer

__all__ = ["Bucket", "Figures", "figures_of"]

_WARM: Final = 3
"""Seconds that are not measured."""
_BINS: Final = 20
"""In a second."""


@dataclass(frozen=True)
class Figures:
    """Admissions and refusals, compared with those of one central bucket on the same requests."""

    used: float
    """Admitted here, of what the central bucket admits."""
    static: float
    """What would be admitted if each process had rate ÷ processes."""
    refused_wrongly: float
    """Requests that the central bucket admits more of, as a part of all requests."""
    excess: float
    """Tokens beyond burst + rate · window in the worst window."""
    converged: float
    """Seconds after others became hot until 97 % are used again; the longest."""
    median: float
    """Nanoseconds of a decision."""
    p99: float


def figures_of(answers: Sequence[Answer], requests: Requests) -> Figures:
    """Compare answers, in the order of time, with central buckets of one second of the rate."""
    start, rate = answers[0].at, requests.rate
    part = rate / requests.processes
    ideal, ruler = Bucket(rate, rate, start), Bucket(rate, rate, start)
    parts = [Bucket(part, max(1, part), start) for _ in range(requests.processes)]
    here = there = static = offered = 0
    worst = 0.0
    bins = [[0, 0] for _ in range(int(requests.seconds + 60) * _BINS)]
    for answer in answers:
        best, alone = ideal.admits(answer.at), parts[answer.who].admits(answer.at)
        if answer.allowed:
            worst = min(worst, ruler.charge(answer.at))
        place = bins[(answer.at - start) * _BINS // SECOND]
        place[0] += answer.allowed
        place[1] += best
        if answer.at - start >= _WARM * SECOND:
            here, there, static = here + answer.allowed, there + best, static + alone
            offered += 1
    took = [float(answer.took) for answer in answers]
    return Figures(
        used=here / there,
        static=static / there,
        refused_wrongly=max(0, there - here) / offered,
        excess=max(0.0, -worst),
        converged=_converged(bins, requests),
        median=percentile(took, 0.5),
        p99=percentile(took, 0.99),
    )


def _converged(bins: list[list[int]], requests: Requests) -> float:
    every = int(requests.every * _BINS)
    moves = range(every, int(requests.seconds * _BINS), every)
    return max(_used_again(bins[move : move + every]) for move in moves)


def _used_again(bins: list[list[int]]) -> float:
    """Return the seconds until four bins use 97 % of what the central bucket does."""
    for first in range(len(bins) - 3):
        four = bins[first : first + 4]
        if sum(b[0] for b in four) >= 0.97 * sum(b[1] for b in four):
            return first / _BINS
    return float("inf")


class Bucket:
    """A token bucket of fractions."""

    def __init__(self, rate: float, burst: float, now: int) -> None:
        self._rate, self._burst, self._level, self._at = rate, burst, burst, now

    def _settle(self, now: int) -> None:
        self._level = min(self._burst, self._level + self._rate * (now - self._at) / SECOND)
        self._at = now

    def admits(self, now: int) -> bool:
        """Charge a request if there is a token for it."""
        self._settle(now)
        if self._level < 1:
            return False
        self._level -= 1
        return True

    def charge(self, now: int) -> float:
        """Charge a request; return the level, below 0 if it was too much."""
        self._settle(now)
        self._level -= 1
        return self._level
