"""Written forms of instants."""

from __future__ import annotations

import re

import pytest

from ratectl.policy.language.instants import Instant


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("2026-11-28T12:00Z", "2026-11-28T12:00Z"),
        ("2026-11-28 12:00:00+01:00", "2026-11-28T11:00Z"),
        ("2026-11-28T12:00:07-0530", "2026-11-28T17:30:07Z"),
        ("2026-11-28T12:00:00.25Z", "2026-11-28T12:00:00.250000Z"),
        ("2026-11-28T12:00 Europe/Berlin", "2026-11-28T11:00Z"),
        ("2026-10-25T02:30 Europe/Berlin", "2026-10-25T00:30Z"),
    ],
)
def test_good_instants(text: str, shown: str) -> None:
    assert str(Instant.parse(text)) == shown
    assert Instant.parse(str(Instant.parse(text))) == Instant.parse(text)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (5, "not a date with a time: write a date, a time and a zone"),
        ("tomorrow", "is not a date with a time: write a date, a time and a zone"),
        ("2026-11-28", "has no time: add a time and a zone: 2026-11-28T00:00Z"),
        ("2026-11-28T12:00:00", "has no zone: add a zone: 2026-11-28T12:00:00Z"),
        ("2026-02-29T12:00Z", "is not a date with a time: "),
        ("2026-11-28T12:00 Europe/Nowhere", "unknown time zone 'Europe/Nowhere': use a name"),
        ("2026-03-29T02:30 Europe/Berlin", "is skipped by a change of the clocks: write another"),
        ("1969-12-31T23:00Z", "is out of range: write a year from 1971 to 2261"),
    ],
)
def test_bad_instants(value: object, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        Instant.parse(value)
