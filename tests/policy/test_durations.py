"""Durations: what may be written, what it means, and how it is written again."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratectl.policy.durations import MAX_NS, MIN_NS, Duration
from ratectl.policy.schema import policy_schema

S = 10**9


@pytest.mark.parametrize(
    ("text", "ns", "canonical"),
    [
        ("60s", 60 * S, "60s"),
        ("1min", 60 * S, "1min"),
        ("5 minutes", 300 * S, "5min"),
        (" 1h ", 3_600 * S, "1h"),
        ("1.5min", 90 * S, "1.5min"),
        ("1.50min", 90 * S, "1.5min"),
        ("0.001s", S // 1_000, "0.001s"),
        ("0.123456789s", 123_456_789, "0.123456789s"),
        ("007s", 7 * S, "7s"),
        ("2days", 172_800 * S, "2day"),
        ("52week", MAX_NS, "52week"),
    ],
)
def test_what_is_written_is_what_it_means(text: str, ns: int, canonical: str) -> None:
    duration = Duration.parse(text)
    assert (duration.ns, str(duration)) == (ns, canonical)
    assert Duration.parse(canonical) == duration
    assert Duration.parse(duration) is duration


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (60, "needs a unit: write 60s, 60min"),
        (1.5, "needs a unit: write 1.5s"),
        (True, "is text"),
        (None, "is text"),
        (["60s"], "is text"),
        ("60", "not a duration"),
        ("s", "not a duration"),
        ("-1s", "not a duration"),
        ("1e3s", "not a duration"),
        ("1_000s", "not a duration"),
        ("1.s", "not a duration"),
        (".5s", "not a duration"),
        ("1:30", "not a duration"),
        ("1h30min", "not a duration"),
        ("٣s", "not a duration"),  # a digit of another script
        ("9" * 100 + "s", "not a duration"),
        ("5m", "minute or a month"),
        ("5ms", "unknown unit 'ms'"),
        ("5S", "unknown unit 'S'"),
        ("1month", "unknown unit 'month'"),
        ("0s", "out of range"),
        ("0.0009s", "out of range"),
        ("52.1week", "out of range"),
    ],
)
def test_what_may_not_be_written(value: object, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        Duration.parse(value)


@given(
    st.from_regex(
        r"\A ?[0-9]{0,4}(\.[0-9]{1,3})? ?"
        r"(s|sec|seconds|min|m|ms|h|hr|d|day|w|weeks|month|x)? ?\Z"
    )
)
def test_the_pattern_of_the_schema_is_the_grammar(text: str) -> None:
    schema = policy_schema()["definitions"]["LimitFields"]["properties"]["hold"]
    problem = ""
    try:
        Duration.parse(text)
    except ValueError as error:
        problem = str(error)
    assert bool(re.search(schema["pattern"], text)) == (not problem or "out of range" in problem)


@given(st.integers(MIN_NS, 10**6 * S))
def test_nanoseconds_are_kept_exactly(ns: int) -> None:
    whole, rest = divmod(ns, S)
    duration = Duration.parse(f"{whole}.{rest:09}s")
    assert duration.ns == ns
    assert Duration.parse(str(duration)) == duration
