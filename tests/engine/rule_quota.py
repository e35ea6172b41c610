"""The oracle's quotas: counts by calendar window, on a wall clock that may step.

The calendar is read a third time here, by hand: minutes and hours of UTC, and days of a zone that
follows the rule of the European Union. Its clocks stand an hour (of winter) ahead of UTC, and two
from the last Sunday of March to the last of October, both at one o'clock UTC.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple

SECOND = 10**9
MINUTE, HOUR, DAY = 60 * SECOND, 3_600 * SECOND, 86_400 * SECOND
EVEN = {"min": MINUTE, "h": HOUR}
LONGEST = {"min": MINUTE, "h": HOUR, "day": 50 * HOUR}
"""Longest window of each unit in any zone: some zones have skipped a whole day."""

_EPOCH = date(1970, 1, 1)


class Wall:
    """Offset of the wall clock from the engine's clock."""

    def __init__(self, ns: int = 0) -> None:
        self.ns = ns
        self.shown = -(10**30)
        """Latest time that it showed before it stepped back."""

    def move(self, ns: int, now: int) -> None:
        self.shown = max(self.shown, now + self.ns)
        self.ns = ns

    def latest(self, now: int) -> int:
        """Return the time by which windows are chosen."""
        return max(self.shown, now + self.ns)


class Used(NamedTuple):
    """Count of the window from ``start`` to ``end``, by the wall clock.

    ``since``: when it was first counted in, by the engine's clock. Where nothing is, the window
    might as well not have been seen: the next to be counted is the first.
    """

    start: int
    end: int
    used: int
    since: int


@dataclass(frozen=True)
class Quota:
    """At most ``most`` in each ``unit``; a day begins at minute ``at`` of Berlin's clocks."""

    most: int
    unit: str
    wall: Wall = field(compare=False, repr=False)
    at: int = 0

    @property
    def blocked(self) -> bool:
        """True for a rate of 0, which refuses everything."""
        return not self.most

    def _window(self, wall: int, used: int, since: int) -> Used:
        even = EVEN.get(self.unit)
        if even is None:
            start, end = _day_around(wall, self.at)
        else:
            start = wall // even * even
            end = start + even
        return Used(start, end, used, since)

    def full(self, now: int) -> Used:
        return self._window(self.wall.latest(now), 0, now)

    def spent(self, missing: int, now: int) -> Used:
        """Return counts whose requests are unknown: none up to ``now`` is told apart."""
        return self._window(self.wall.latest(now), missing, now + 1)

    def same(self, one: Used, other: Used, now: int) -> bool:
        one, other = self.look(one, now), self.look(other, now)
        return one.used == other.used and (not one.used or one.end == other.end)

    def look(self, bucket: Used, now: int) -> Used:
        """Start the current window; an ended window never comes back."""
        wall = self.wall.latest(now)
        return bucket if wall < bucket.end else self._window(wall, 0, now)

    def looked(self, bucket: Used, cost: int, now: int) -> Used:
        """Return the state after a decision without a charge: the window that it read, if any."""
        return bucket if cost > self.most or self.blocked else self.look(bucket, now)

    def reported(self, bucket: Used, now: int) -> Used:
        """Return the state after a decision that reports what is left."""
        return self.look(bucket, now)

    def wait(self, bucket: Used, cost: int, now: int) -> int | None:
        if cost > self.most or self.blocked:
            return None
        here = self.look(bucket, now)
        return 0 if here.used + cost <= self.most else here.end - now - self.wall.ns

    def take(self, bucket: Used, cost: int, now: int) -> Used:
        here = self._counted_in(self.look(bucket, now), now)
        return here._replace(used=here.used + cost)

    def _counted_in(self, here: Used, now: int) -> Used:
        return here if here.used else here._replace(since=now)

    def remaining(self, bucket: Used, now: int) -> int:
        return max(0, self.most - self.look(bucket, now).used)

    def reset(self, bucket: Used, now: int) -> int:
        here = self.look(bucket, now)
        return here.end - now - self.wall.ns if here.used else 0

    def missing(self, bucket: Used, now: int) -> int:
        return self.look(bucket, now).used

    def own_time(self, bucket: Used, now: int) -> int:
        return max(now, bucket.start - self.wall.ns)

    def same_windows(self, other: Quota) -> bool:
        return (self.unit, self.at) == (other.unit, other.at)

    def moved(self, old: Quota, bucket: Used, now: int) -> Used:
        """Keep the count; in another window it counts as if admitted now."""
        here = old.look(bucket, now)
        if self.same_windows(old):
            return here
        return self.spent(here.used, old.own_time(here, now))

    def carried(self, old: Quota, bucket: Used, now: int) -> Used:
        """Return what a request carries over to a bucket in use."""
        return self.moved(old, bucket, now)

    def absolute(self, bucket: Used, untouched: Used, now: int) -> Used:
        return bucket

    relative = absolute

    def stricter(self, one: Used, other: Used, now: int) -> Used:
        one, other = self.look(one, now), self.look(other, now)
        later = one if one.end >= other.end else other
        return Used(later.start, later.end, max(one.used, other.used), now + 1)

    def corrected(self, bucket: Used, more: int, now: int, since: int, least: int) -> Used:
        """Count more in the current window; or less, if it is the window of the request."""
        here = self.look(bucket, now)
        if more < 0 and since < here.since:
            return here
        if more > 0:
            here = self._counted_in(here, now)
        return here._replace(used=max(0, here.used + more))


@lru_cache(maxsize=65_536)
def _days_near(hour: int, at: int) -> tuple[int, ...]:
    """Return the starts of the days around an hour since 1970."""
    day = _EPOCH + timedelta(hours=hour)
    return tuple(_begins(day + timedelta(days=step), at) for step in (-2, -1, 0, 1, 2))


def _day_around(wall: int, at: int) -> tuple[int, int]:
    starts = _days_near(wall // HOUR, at)
    return max(s for s in starts if s <= wall), min(s for s in starts if s > wall)


def _begins(day: date, at: int) -> int:
    """Return the first instant at which Berlin's clocks show that day's minute ``at``, or later."""
    local = (day - _EPOCH).days * DAY + at * MINUTE
    forward, back = _changes(day.year)
    early, late = local - 2 * HOUR, local - HOUR
    if forward <= early < back:
        return early
    if early < forward <= late:  # the time is skipped
        return forward
    return late


@lru_cache(maxsize=512)
def _changes(year: int) -> tuple[int, int]:
    """Return the start and end of summer time."""
    return _last_sunday(year, 3) + HOUR, _last_sunday(year, 10) + HOUR


def _last_sunday(year: int, month: int) -> int:
    day = date(year, month, 31)
    day -= timedelta(days=(day.weekday() + 1) % 7)
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
    return int(midnight.timestamp()) * SECOND
