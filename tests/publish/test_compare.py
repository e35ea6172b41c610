"""What a change of slots does, in words."""

from __future__ import annotations

from typing import Any

import pytest

from ratectl.compare import compare
from support import policies

SLOTS = {"algorithm": "concurrency", "max": 50, "per": "tenant"}
RATE = {"rate": "5/s", "per": "tenant"}


def kinds(old: dict[str, Any], new: dict[str, Any]) -> list[tuple[str, str | None]]:
    trees = [policies(**{"/": {"limits": {"l": said}}}) for said in (old, new)]
    return [(change.kind, change.after) for change in compare(*trees)]


@pytest.mark.parametrize(
    ("new", "kind", "text"),
    [
        ({**SLOTS, "max": 40}, "tightened", "max 40 hold 60s"),
        ({**SLOTS, "max": 60}, "loosened", "max 60 hold 60s"),
        ({**SLOTS, "hold": "2min"}, "tightened", "max 50 hold 2min"),
        ({**SLOTS, "hold": "5s"}, "loosened", "max 50 hold 5s"),
        ({**SLOTS, "max": 60, "hold": "2min"}, "changed", "max 60 hold 2min"),
    ],
)
def test_slots_that_change(new: dict[str, Any], kind: str, text: str) -> None:
    """A longer hold is tighter: what leaks is missed for longer."""
    assert kinds(SLOTS, new) == [(kind, f"concurrency {text} per tenant")]


def test_to_slots_and_back() -> None:
    assert kinds(RATE, SLOTS) == [("changed", "concurrency max 50 hold 60s per tenant")]
    assert kinds(SLOTS, RATE) == [("changed", "token-bucket 5/s burst 5 per tenant")]


def test_the_same_hold_in_other_words_is_no_change() -> None:
    assert kinds(SLOTS, {**SLOTS, "hold": "1min"}) == []
