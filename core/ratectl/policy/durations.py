"""Durations: ``<number><unit>``, like ``60s``, ``1.5min`` or ``2h``. Exact, kept as written."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from ratectl.policy.rates import NS, UNIT_NS, WORDS, decimal, written_as_text

if TYPE_CHECKING:
    from pydantic_core import core_schema

__all__ = ["MAX_NS", "MIN_NS", "Duration"]

MIN_NS: Final = NS // 1_000
MAX_NS: Final = 52 * UNIT_NS["week"]

_FORM = re.compile(
    r"(?P<count>[0-9]{1,10})(?:\.(?P<decimals>[0-9]{1,9}))? *(?P<unit>[A-Za-z]+)", re.ASCII
)
_UNITS: Final = "|".join(word for word, unit in WORDS.items() if unit in UNIT_NS)
_WRITTEN: Final = rf"^\s*[0-9]{{1,10}}(\.[0-9]{{1,9}})? *({_UNITS})\s*$"
"""The form for JSON Schema, without the bounds."""


@dataclass(frozen=True, slots=True)
class Duration:
    """``numerator/denominator`` × ``unit``, a key of ``UNIT_NS``."""

    numerator: int
    denominator: int
    unit: str

    @classmethod
    def parse(cls, value: object) -> Duration:
        """Read the written form.

        :raises ValueError: not one; the message says what to write.
        """
        if isinstance(value, Duration):
            return value
        if isinstance(value, str):
            return _parse(value)
        if isinstance(value, int | float) and not isinstance(value, bool):
            raise ValueError(f"a duration needs a unit: write {value}s, {value}min, …")
        raise ValueError("a duration is text: write a number and a unit, like 60s")

    @property
    def ns(self) -> int:
        """In whole nanoseconds."""
        return self.numerator * UNIT_NS[self.unit] // self.denominator

    def __str__(self) -> str:
        return f"{decimal(self.numerator, self.denominator)}{self.unit}"

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: Any) -> core_schema.CoreSchema:
        return written_as_text(cls.parse, "duration", _WRITTEN)


@lru_cache(maxsize=4_096)
def _parse(text: str) -> Duration:
    shown = repr(text if len(text) <= 40 else text[:37] + "…")
    match = _FORM.fullmatch(text.strip()) if len(text) <= 80 else None
    if match is None:
        raise ValueError(f"{shown} is not a duration: write a number and a unit, like 60s")
    word = match["unit"]
    unit = WORDS.get(word)
    if word == "m":
        raise ValueError("'m' could be a minute or a month: write min")
    if unit not in UNIT_NS:
        raise ValueError(f"unknown unit {word[:20]!r}: use s, min, h, day or week")
    digits, decimals = match["count"], match["decimals"] or ""
    decimals = decimals.rstrip("0")
    duration = Duration(int(digits + decimals), 10 ** len(decimals), unit)
    if not MIN_NS <= duration.ns <= MAX_NS:
        raise ValueError(f"{shown} is out of range: write 0.001s to 52week")
    return duration
