"""Counts of one limit over the last minute."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from ratectl.agent.usage.counts import Counts, fell, gained

if TYPE_CHECKING:
    from ratectl.engine.api import LimitCounts

__all__ = ["RECENT_SECONDS", "TREND_MINUTES", "Decided", "History", "Minute", "empty_minutes"]

RECENT_SECONDS: Final = 60.0

TREND_MINUTES: Final = 15


class Decided(NamedTuple):
    """Numbers of requests, without those that a shadow limit refused."""

    allowed: int = 0
    refused: int = 0

    def plus(self, other: Decided) -> Self:
        return self.__class__(self.allowed + other.allowed, self.refused + other.refused)

    def or_more(self, other: Decided) -> Self:
        """Return the larger one of each number."""
        return self.__class__(max(self.allowed, other.allowed), max(self.refused, other.refused))


class _Sample(NamedTuple):
    """Counts of one limit between two reads."""

    at: float
    """Time of the later read (monotonic seconds)."""
    allowed: int
    refused: int
    """Refused, or refused by a shadow limit."""
    fullness: float | None
    """Use of the fullest bucket, 0 to 1; None if unknown."""

    def joined(self, later: _Sample) -> _Sample:
        """Return one sample of two that follow each other."""
        known = [full for full in (self.fullness, later.fullness) if full is not None]
        return _Sample(
            later.at,
            self.allowed + later.allowed,
            self.refused + later.refused,
            max(known, default=None),
        )


class Minute(NamedTuple):
    """Counts of one limit in one minute of the clock."""

    number: int
    allowed: int
    refused: int
    peak: float | None
    """Use of the fullest bucket, 0 to 1; None if nothing was admitted."""


def empty_minutes(at: float) -> tuple[Minute, ...]:
    """Return minutes without requests: the last 15 at a time (seconds), the one under way last."""
    last = int(at // 60)
    return tuple([Minute(last - back, 0, 0, None) for back in reversed(range(TREND_MINUTES))])


class History:
    """Counts of one limit over the last minute, and by minutes over the last quarter of an hour.

    Reads without any request leave nothing behind.
    """

    __slots__ = ("_last", "_uncounted", "decided", "minutes", "samples")

    def __init__(self, before: LimitCounts | None = None) -> None:
        """``before``: counts that do not count."""
        self.samples: deque[_Sample] = deque()
        self._last = self._uncounted = Counts() if before is None else Counts.of(before)
        self.decided = Decided()
        """Decided between the last two reads."""
        self.minutes: deque[Minute] = deque(maxlen=TREND_MINUTES)

    def add(self, at: float, now: Counts, fullness: float | None, joins: float | None) -> None:
        """Add a read: the counts, and the use of the fullest bucket since the read before.

        ``joins``: time of an earlier read whose sample this one is joined to.
        """
        if fell(now, self._last):
            self._uncounted = Counts()
        more, self._last = gained(now, self._last), now
        self.decided = Decided(more.allowed, more.refused + more.never)
        refused = self.decided.refused + more.shadow_refused
        sample = _Sample(at, more.allowed, refused, fullness)
        samples = self.samples
        if sample.allowed or sample.refused or sample.fullness is not None:
            joined = samples and samples[-1].at == joins
            samples.append(samples.pop().joined(sample) if joined else sample)
            self._add_to_minute(sample)
        while samples and samples[0].at <= at - RECENT_SECONDS:
            samples.popleft()

    @property
    def counts(self) -> Counts:
        """Counts of the last read, without those that do not count."""
        return gained(self._last, self._uncounted)

    def _add_to_minute(self, sample: _Sample) -> None:
        number = int(sample.at // 60)
        known = Minute(number, 0, 0, None)
        if self.minutes and self.minutes[-1].number == number:
            known = self.minutes.pop()
        peaks = [peak for peak in (known.peak, sample.fullness) if peak is not None]
        allowed, refused = known.allowed + sample.allowed, known.refused + sample.refused
        self.minutes.append(Minute(number, allowed, refused, max(peaks, default=None)))

    def trend(self, empty: tuple[Minute, ...]) -> tuple[Minute, ...]:
        """Return the minutes of the last quarter of an hour. ``empty``: see ``empty_minutes``."""
        if not self.minutes or self.minutes[-1].number < empty[0].number:
            return empty
        known = {minute.number: minute for minute in self.minutes}
        return tuple([known.get(minute.number, minute) for minute in empty])

    def peak(self) -> float | None:
        """Return the use of the fullest bucket, 0 to 1; None if unknown."""
        known = (sample.fullness for sample in self.samples if sample.fullness is not None)
        return max(known, default=None)
