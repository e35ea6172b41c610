"""Phrases that messages share."""

from __future__ import annotations

import pytest

from ratectl.runtime.wording import percent


@pytest.mark.parametrize("hundredths", range(101))
def test_hundredths_are_shown_as_they_are(hundredths: int) -> None:
    assert percent(hundredths / 100) == f"{hundredths}%"


@pytest.mark.parametrize(
    ("use", "text"),
    [
        (0.004, "0%"),
        (0.794, "79%"),
        (0.994, "99%"),
        (0.996, "99%"),
        (0.9999999, "99%"),
        (1, "100%"),
    ],
)
def test_only_a_full_bucket_has_100_percent(use: float, text: str) -> None:
    assert percent(use) == text
