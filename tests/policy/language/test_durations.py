"""Written forms of durations."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratectl.policy.language.durations import MAX_DURATION_NS, Duration, parse_duration

DAY = 86_400 * 10**9


@pytest.mark.parametrize(
    ("text", "nanoseconds", "shown"),
    [
        ("0s", 0, "0s"),
        ("7ns", 7, "7ns"),
        ("1.5us", 1_500, "1.5us"),
        ("1.5µs", 1_500, "1.5us"),
        ("250ms", 250_000_000, "250ms"),
        ("99.866ms", 99_866_000, "99.866ms"),
        ("1s", 10**9, "1s"),
        ("1.000000001s", 10**9 + 1, "1.000000001s"),
        ("1_000ms", 10**9, "1s"),
        ("90s", 90 * 10**9, "90s"),
        ("1.5min", 90 * 10**9, "90s"),
        ("1.5h", 5_400 * 10**9, "90min"),
        ("2day", 2 * DAY, "2day"),
        ("1 week", 7 * DAY, "7day"),
        (" 5 minutes ", 300 * 10**9, "5min"),
        ("36500day", MAX_DURATION_NS, "36500day"),
    ],
)
def test_good_durations(text: str, nanoseconds: int, shown: str) -> None:
    assert parse_duration(text) == nanoseconds
    assert str(Duration.parse(text)) == shown


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (5, "a duration needs a unit: write 5s, 5min, …"),
        (True, "a duration is written like 30s, not bool"),
        ("", "'' is not a duration: write <number><unit>, like 30s"),
        ("-1s", "'-1s' is not a duration: write <number><unit>, like 30s"),
        ("1__0s", "'1__0s' is not a duration: write <number><unit>, like 30s"),
        ("1h30min", "'1h30min' is not a duration: write <number><unit>, like 30s"),
        ("1e3s", "'1e3s' is not a duration: write <number><unit>, like 30s"),
        ("5m", "'m' could be a minute or a month: write min"),
        ("1month", "unknown unit 'month': use ns, us, ms, s, min, h, day or week"),
        ("1.5ns", "'1.5ns' is not a whole number of nanoseconds"),
        ("36500.1day", "'36500.1day' is out of range: at most 36500day"),
    ],
)
def test_bad_durations(value: object, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        parse_duration(value)


@given(st.integers(0, MAX_DURATION_NS))
def test_durations_are_shown_exactly(nanoseconds: int) -> None:
    assert parse_duration(str(Duration(nanoseconds))) == nanoseconds
