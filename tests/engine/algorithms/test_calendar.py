"""Calendar windows: known dates, a slow second implementation of the rules, and their laws."""

from __future__ import annotations

from calendar import monthrange
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ratectl.engine.algorithms.calendar import CalendarWindow
from ratectl.engine.algorithms.quota import _LONGEST

SECOND = 10**9
HOUR = 3_600 * SECOND
ZONES = (
    "UTC", "Europe/Berlin", "Europe/London", "America/New_York", "America/St_Johns",
    "America/Sao_Paulo", "America/Havana", "America/Asuncion", "Asia/Kathmandu", "Asia/Tehran",
    "Asia/Beirut", "Asia/Gaza", "Australia/Lord_Howe", "Africa/Cairo", "Africa/Casablanca",
    "Antarctica/Troll", "Pacific/Apia", "Pacific/Chatham", "Pacific/Kwajalein",
    "Pacific/Kiritimati", "Atlantic/Azores",
)  # fmt: skip


def ns(written: str) -> int:
    return (
        (datetime.fromisoformat(written) - datetime(1970, 1, 1, tzinfo=UTC))
        // timedelta(microseconds=1)
        * 1_000
    )


def window(unit: str, zone: str = "UTC", at: str = "00:00", **day: int) -> CalendarWindow:
    return CalendarWindow(unit, ZoneInfo(zone), time.fromisoformat(at), **day)  # type: ignore[arg-type]


BERLIN, NEW_YORK, LORD_HOWE = "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"

TABLE = {
    "a minute": (window("min"), "2026-11-24T10:59:59.999999+00:00",
                 "2026-11-24T10:59:00+00:00", "2026-11-24T11:00:00+00:00"),
    "an hour": (window("h"), "2026-11-24T10:59:59+00:00",
                "2026-11-24T10:00:00+00:00", "2026-11-24T11:00:00+00:00"),
    "a day": (window("day"), "2026-11-24T10:59:59+00:00",
              "2026-11-24T00:00:00+00:00", "2026-11-25T00:00:00+00:00"),
    "its first instant": (window("day"), "2026-11-24T00:00:00+00:00",
                          "2026-11-24T00:00:00+00:00", "2026-11-25T00:00:00+00:00"),
    "before the time of day": (window("day", at="06:30"), "2026-11-24T06:29:59.999999+00:00",
                               "2026-11-23T06:30:00+00:00", "2026-11-24T06:30:00+00:00"),
    "Kathmandu": (window("day", "Asia/Kathmandu"), "2026-11-24T18:14:59+00:00",
                  "2026-11-24T00:00:00+05:45", "2026-11-25T00:00:00+05:45"),
    # days around a change of the clocks
    "Berlin, 23 hours": (window("day", BERLIN), "2026-03-29T12:00:00+02:00",
                         "2026-03-29T00:00:00+01:00", "2026-03-30T00:00:00+02:00"),
    "Berlin, 25 hours": (window("day", BERLIN), "2026-10-25T02:30:00+01:00",
                         "2026-10-25T00:00:00+02:00", "2026-10-26T00:00:00+01:00"),
    "Berlin, begins in a gap": (window("day", BERLIN, "02:30"), "2026-03-29T03:00:00+02:00",
                                "2026-03-29T03:00:00+02:00", "2026-03-30T02:30:00+02:00"),
    "Berlin, ends in a gap": (window("day", BERLIN, "02:30"), "2026-03-29T01:59:59+01:00",
                              "2026-03-28T02:30:00+01:00", "2026-03-29T03:00:00+02:00"),
    "Berlin, the gap's first minute": (window("day", BERLIN, "02:00"), "2026-03-29T03:00:00+02:00",
                                       "2026-03-29T03:00:00+02:00", "2026-03-30T02:00:00+02:00"),
    "Berlin, begins twice": (window("day", BERLIN, "02:30"), "2026-10-25T02:30:00+01:00",
                             "2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"),
    "Berlin, before the first of two": (
        window("day", BERLIN, "02:30"), "2026-10-25T02:29:59+02:00",
        "2026-10-24T02:30:00+02:00", "2026-10-25T02:30:00+02:00"),
    "Berlin, the hour between two": (window("day", BERLIN, "02:30"), "2026-10-25T02:10:00+01:00",
                                     "2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"),
    "New York, 23 hours": (window("day", NEW_YORK), "2026-03-08T12:00:00-04:00",
                           "2026-03-08T00:00:00-05:00", "2026-03-09T00:00:00-04:00"),
    "New York, a gap": (window("day", NEW_YORK, "02:15"), "2026-03-08T04:00:00-04:00",
                        "2026-03-08T03:00:00-04:00", "2026-03-09T02:15:00-04:00"),
    "New York, twice": (window("day", NEW_YORK, "01:15"), "2026-11-01T01:15:00-05:00",
                        "2026-11-01T01:15:00-04:00", "2026-11-02T01:15:00-05:00"),
    "Lord Howe, 23.5 hours": (window("day", LORD_HOWE), "2026-10-04T12:00:00+11:00",
                              "2026-10-04T00:00:00+10:30", "2026-10-05T00:00:00+11:00"),
    "Lord Howe, a gap": (window("day", LORD_HOWE, "02:15"), "2026-10-04T02:31:00+11:00",
                         "2026-10-04T02:30:00+11:00", "2026-10-05T02:15:00+11:00"),
    "Lord Howe, twice": (window("day", LORD_HOWE, "01:45"), "2026-04-05T01:45:00+10:30",
                         "2026-04-05T01:45:00+11:00", "2026-04-06T01:45:00+10:30"),
    "Apia, before the skipped day": (window("day", "Pacific/Apia"), "2011-12-29T23:59:59-10:00",
                                     "2011-12-29T00:00:00-10:00", "2011-12-31T00:00:00+14:00"),
    "Apia, noon of the skipped day": (
        window("day", "Pacific/Apia", "12:00"), "2011-12-31T00:00:00+14:00",
        "2011-12-31T00:00:00+14:00", "2011-12-31T12:00:00+14:00"),
    "Apia, a month from the skipped day": (
        window("month", "Pacific/Apia", day=30), "2012-01-15T00:00:00+14:00",
        "2011-12-31T00:00:00+14:00", "2012-01-30T00:00:00+14:00"),
    # weeks
    "a week": (window("week"), "2026-11-29T23:59:59+00:00",
               "2026-11-23T00:00:00+00:00", "2026-11-30T00:00:00+00:00"),
    "a week from Saturday": (window("week", at="18:00", weekday=5), "2026-11-28T17:59:59+00:00",
                             "2026-11-21T18:00:00+00:00", "2026-11-28T18:00:00+00:00"),
    "Berlin, a short week": (window("week", BERLIN), "2026-03-29T12:00:00+02:00",
                             "2026-03-23T00:00:00+01:00", "2026-03-30T00:00:00+02:00"),
    "Berlin, a long week": (window("week", BERLIN), "2026-10-25T12:00:00+01:00",
                            "2026-10-19T00:00:00+02:00", "2026-10-26T00:00:00+01:00"),
    "New York, a week from a gap": (
        window("week", NEW_YORK, "02:30", weekday=6), "2026-03-08T03:00:00-04:00",
        "2026-03-08T03:00:00-04:00", "2026-03-15T02:30:00-04:00"),
    "Lord Howe, a week from a fold": (
        window("week", LORD_HOWE, "01:45", weekday=6), "2026-04-05T01:50:00+10:30",
        "2026-04-05T01:45:00+11:00", "2026-04-12T01:45:00+10:30"),
    # months
    "a month": (window("month"), "2026-11-30T23:59:59+00:00",
                "2026-11-01T00:00:00+00:00", "2026-12-01T00:00:00+00:00"),
    "over the new year": (window("month", day=15), "2027-01-01T00:00:00+00:00",
                          "2026-12-15T00:00:00+00:00", "2027-01-15T00:00:00+00:00"),
    "Berlin, March": (window("month", BERLIN), "2026-03-31T23:00:00+02:00",
                      "2026-03-01T00:00:00+01:00", "2026-04-01T00:00:00+02:00"),
    "Berlin, a month from a gap": (window("month", BERLIN, "02:30", day=29),
                                   "2026-04-01T00:00:00+02:00",
                                   "2026-03-29T03:00:00+02:00", "2026-04-29T02:30:00+02:00"),
    "the 31st, February": (window("month", day=31), "2026-02-27T23:59:59+00:00",
                           "2026-01-31T00:00:00+00:00", "2026-02-28T00:00:00+00:00"),
    "the 31st, March": (window("month", day=31), "2026-03-30T12:00:00+00:00",
                        "2026-02-28T00:00:00+00:00", "2026-03-31T00:00:00+00:00"),
    "the 31st, April": (window("month", day=31), "2026-04-30T00:00:00+00:00",
                        "2026-04-30T00:00:00+00:00", "2026-05-31T00:00:00+00:00"),
    "the 31st, a leap year": (window("month", day=31), "2028-02-28T12:00:00+00:00",
                              "2028-01-31T00:00:00+00:00", "2028-02-29T00:00:00+00:00"),
    "the 29th, a leap year": (window("month", day=29), "2028-03-01T00:00:00+00:00",
                              "2028-02-29T00:00:00+00:00", "2028-03-29T00:00:00+00:00"),
    "the 29th, no leap year": (window("month", day=29), "2027-03-01T00:00:00+00:00",
                               "2027-02-28T00:00:00+00:00", "2027-03-29T00:00:00+00:00"),
    "the 30th, a leap year": (window("month", day=30), "2028-03-01T00:00:00+00:00",
                              "2028-02-29T00:00:00+00:00", "2028-03-30T00:00:00+00:00"),
    "no leap year: 2100": (window("month", day=29), "2100-02-28T00:00:00+00:00",
                           "2100-02-28T00:00:00+00:00", "2100-03-29T00:00:00+00:00"),
}  # fmt: skip


@pytest.mark.parametrize(("of", "now", "start", "end"), TABLE.values(), ids=TABLE.keys())
def test_windows_of_known_calendar_dates(
    of: CalendarWindow, now: str, start: str, end: str
) -> None:
    assert of.around(ns(now)) == (ns(start), ns(end))
    assert of.around(ns(start)) == of.around(ns(end) - 1) == (ns(start), ns(end))


# -- second implementation: a day's window begins at the first instant that shows its time or later


@lru_cache(maxsize=65_536)
def first_instant(day: date, at: time, zone: str) -> int:
    """Return the first instant, to the minute, by reading the local clock of each minute."""
    asked = datetime.combine(day, at)
    instant = asked.replace(tzinfo=UTC) - timedelta(hours=15)
    local = ZoneInfo(zone)
    step = timedelta(hours=1)
    # Whole hours while the time is far off (clocks go back 2 hours at most), then each minute.
    while (instant + step).astimezone(local).replace(tzinfo=None) < asked - timedelta(hours=2):
        instant += step
    while instant.astimezone(local).replace(tzinfo=None) < asked:
        instant += timedelta(minutes=1)
    return int((instant - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()) * SECOND


def begins(of: CalendarWindow, day: date) -> bool:
    """Return True if a window begins on a day of the calendar."""
    if of.unit == "week":
        return day.weekday() == of.weekday
    if of.unit == "month":
        return day.day == min(of.day, monthrange(day.year, day.month)[1])
    return True


def second_reading(of: CalendarWindow, zone: str, now: int) -> tuple[int, int]:
    reach = {"day": 3, "week": 9, "month": 34}[of.unit]
    middle = datetime.fromtimestamp(now // SECOND, UTC).date()
    days = [middle + timedelta(days=number) for number in range(-reach, reach + 1)]
    starts = [first_instant(day, of.at, zone) for day in days if begins(of, day)]
    return (
        max(start for start in starts if start <= now),
        min(start for start in starts if start > now),
    )


@pytest.mark.parametrize("zone", ZONES)
def test_second_implementation_agrees_around_every_clock_change(zone: str) -> None:
    local = ZoneInfo(zone)
    for year in (2011, 2026):
        noons = [datetime(year, 1, 1, 12, tzinfo=UTC) + timedelta(days=n) for n in range(366)]
        changes = [
            noon for noon in noons
            if noon.astimezone(local).utcoffset()
            != (noon + timedelta(days=1)).astimezone(local).utcoffset()
        ]  # fmt: skip
        for noon in changes[:4] or noons[:1]:
            for at in ("00:00", "00:30", "01:59", "02:15", "23:45"):
                of = window("day", zone, at)
                for hours in range(-14, 40, 3):
                    now = int((noon + timedelta(hours=hours)).timestamp()) * SECOND
                    assert of.around(now) == second_reading(of, zone, now), (noon, at, hours)


nows = st.integers(ns("1975-01-01T00:00:00+00:00"), ns("2099-12-31T00:00:00+00:00"))
times = st.builds(time, st.integers(0, 23), st.sampled_from((0, 1, 15, 30, 45, 59)))
zones = st.sampled_from(ZONES)


@given(
    zones, times, st.sampled_from(("day", "week", "month")), st.integers(0, 6),
    st.integers(1, 31), nows,
)  # fmt: skip
def test_second_implementation_agrees(
    zone: str, at: time, unit: str, weekday: int, day: int, now: int
) -> None:
    of = window(unit, zone, str(at), weekday=weekday, day=day)
    assert of.around(now) == second_reading(of, zone, now)


# -- laws


@given(
    st.builds(
        CalendarWindow,
        st.sampled_from(("min", "h", "day", "week", "month")),
        st.builds(ZoneInfo, zones),
        times,
        st.integers(0, 6),
        st.integers(1, 31),
    ),
    st.lists(nows, min_size=1, max_size=4),
    st.floats(0, 1),
)
@example(window("day", "Pacific/Apia"), [ns("2011-12-29T12:00:00-10:00")], 0.5)
def test_windows_tile_time(of: CalendarWindow, instants: list[int], where: float) -> None:
    for now in instants:
        start, end = of.around(now)
        assert start <= now < end
        assert end - start <= _LONGEST[of.unit]
        within = start + int((end - start - 1) * where)
        for same in (start, end - 1, within):
            assert of.around(same) == (start, end)
        assert of.around(start - 1)[1] == start
        assert of.around(end)[0] == end


@pytest.mark.parametrize("zone", ["Europe/Berlin", "Pacific/Apia", "Australia/Lord_Howe"])
@pytest.mark.parametrize("unit", ["day", "week", "month"])
def test_window_after_window_for_decades(zone: str, unit: str) -> None:
    """One window for each day, Sunday or month end, and none longer than promised."""
    of = window(unit, zone, "02:15", weekday=6, day=31)
    at, end, count = ns("1990-01-15T00:00:00+00:00"), ns("2030-01-15T00:00:00+00:00"), 0
    while at < end:
        start, after = of.around(at)
        assert after - start <= _LONGEST[of.unit]
        at, count = after, count + 1
    days = {"day": 14_610, "week": 2_087, "month": 480}[unit]
    assert abs(count - days) <= 2


def test_minutes_and_hours_ignore_zone_and_time() -> None:
    for unit in ("min", "h"):
        odd = window(unit, "Asia/Kathmandu", "06:30", weekday=3, day=9)
        assert odd.around(ns("2026-11-24T10:20:30+00:00")) == window(unit).around(
            ns("2026-11-24T10:20:30+00:00")
        )


def test_before_1970() -> None:
    assert window("day").around(-1) == (-24 * HOUR, 0)
    assert window("h").around(-1) == (-HOUR, 0)
