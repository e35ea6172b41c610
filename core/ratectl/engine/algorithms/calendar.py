"""Calendar windows: a second, minute, hour, day, week or month of a time zone, as instants.

A window begins at a local time of day. If a change of the clocks skips that time, it begins at the
first instant after the gap; if the time comes twice, at the first. A month that begins on day 31
begins on the last day of shorter months.
"""

from __future__ import annotations

import calendar
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["CalendarWindow", "Unit"]

Unit = Literal["s", "min", "h", "day", "week", "month"]

_NS: Final = 1_000_000_000
_EVEN: Final = {"s": _NS, "min": 60 * _NS, "h": 3_600 * _NS}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class CalendarWindow:
    """Division of time into windows: their ``unit``, and when in ``zone`` a day or longer begins.

    ``weekday``: 0 is Monday (weeks only). ``day``: of the month, 1 to 31 (months only). Seconds,
    minutes and hours are those of UTC.
    """

    unit: Unit
    zone: tzinfo = field(default=UTC)
    at: time = time(0, 0)
    weekday: int = 0
    day: int = 1

    @property
    def even_ns(self) -> int:
        """Length of a window in nanoseconds if all are equal and aligned to 1970; otherwise 0."""
        return _EVEN.get(self.unit, 0)

    def around(self, now: int) -> tuple[int, int]:
        """Return start (inclusive) and end (exclusive) of the window that holds ``now``.

        All are nanoseconds since 1970 in UTC.
        """
        even = self.even_ns
        if even:
            start = now - now % even
            return start, start + even
        return _around(self, now // _NS // 3_600, now)

    def _starts_near(self, now: int) -> Iterator[int]:
        """Yield the starts of at least the windows before, at and after ``now``."""
        local = (_EPOCH + timedelta(seconds=now // _NS)).astimezone(self.zone).date()
        if self.unit == "month":
            months = [local.year * 12 + local.month - 1 + step for step in (-2, -1, 0, 1, 2)]
            for month in months:
                year, index = divmod(month, 12)
                last = calendar.monthrange(year, index + 1)[1]
                yield _instant(date(year, index + 1, min(self.day, last)), self.at, self.zone)
            return
        step = timedelta(days=7 if self.unit == "week" else 1)
        middle = local
        if self.unit == "week":
            middle = local - timedelta(days=(local.weekday() - self.weekday) % 7)
        for number in (-2, -1, 0, 1, 2):
            yield _instant(middle + number * step, self.at, self.zone)


@lru_cache(maxsize=4_096)
def _window_starts(window: CalendarWindow, hour: int) -> tuple[int, ...]:
    """Return the starts near an hour since 1970: all of its instants have the same ones."""
    return tuple(sorted(set(window._starts_near(hour * 3_600 * _NS))))  # noqa: SLF001


def _around(window: CalendarWindow, hour: int, now: int) -> tuple[int, int]:
    starts = _window_starts(window, hour)
    start = max(instant for instant in starts if instant <= now)
    end = min(instant for instant in starts if instant > now)
    return start, end


def _instant(day: date, at: time, zone: tzinfo) -> int:
    """Return the nanoseconds since 1970 of a local time, by the rules of the module's docstring."""
    local = datetime.combine(day, at, tzinfo=zone)  # fold 0: the first of two
    there = local.astimezone(UTC)
    if there.astimezone(zone).replace(tzinfo=None) != local.replace(tzinfo=None):
        there = _after_gap(local.replace(fold=1).astimezone(UTC), there, zone)
    return int((there - _EPOCH) / timedelta(seconds=1)) * _NS


def _after_gap(before: datetime, after: datetime, zone: tzinfo) -> datetime:
    """Return the instant between two, to the second, at which the zone's offset changes."""
    new = after.astimezone(zone).utcoffset()
    while after - before > timedelta(seconds=1):
        middle = before + (after - before) // 2
        middle = middle.replace(microsecond=0)
        if middle <= before:
            break
        if middle.astimezone(zone).utcoffset() == new:
            after = middle
        else:
            before = middle
    return after
