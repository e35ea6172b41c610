"""Durations: ``<number><unit>``, such as ``1s``, ``250ms``, ``1.5h`` or ``2day``. Exact."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ratectl.policy.language.rates import DIGITS, UNIT_NS, WORDS, written_as_text

if TYPE_CHECKING:
    from pydantic_core import core_schema

__all__ = ["MAX_DURATION_NS", "Duration", "parse_duration"]

MAX_DURATION_NS: Final = 36_500 * UNIT_NS["day"]
"""A hundred years: a longer duration is a mistake."""

_UNITS: Final = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "ms": 1_000_000,
    **{word: UNIT_NS[unit] for word, unit in WORDS.items() if unit in UNIT_NS},
}
_SHOWN: Final = ("day", "h", "min", "s", "ms", "us")
_FORM = re.compile(rf"({DIGITS})(?:\.([0-9]{{1,18}}))? *([A-Za-zµ]{{1,12}})")
_WRITTEN: Final = rf"^\s*{DIGITS}(\.[0-9]{{1,18}})? *({'|'.join(sorted(_UNITS, reverse=True))})\s*$"
"""Pattern for JSON Schema, without the bound."""


def parse_duration(value: object) -> int:
    """Return the nanoseconds of a written duration.

    :raises ValueError: it is no duration; the message says what to write.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise ValueError(f"a duration needs a unit: write {value}s, {value}min, …")
    if not isinstance(value, str):
        raise ValueError(f"a duration is written like 30s, not {type(value).__name__}")
    match = _FORM.fullmatch(value.strip()) if len(value) <= 64 else None
    if match is None:
        raise ValueError(f"{value[:40]!r} is not a duration: write <number><unit>, like 30s")
    unit = _UNITS.get(match[3])
    if match[3] == "m":
        raise ValueError("'m' could be a minute or a month: write min")
    if unit is None:
        known = "ns, us, ms, s, min, h, day or week"
        raise ValueError(f"unknown unit {match[3]!r}: use {known}")
    decimals = match[2] or ""
    scale: int = 10 ** len(decimals)
    nanoseconds, rest = divmod(int(match[1].replace("_", "") + decimals) * unit, scale)
    if rest:
        raise ValueError(f"{value.strip()!r} is not a whole number of nanoseconds")
    if nanoseconds > MAX_DURATION_NS:
        raise ValueError(f"{value.strip()!r} is out of range: at most 36500day")
    return nanoseconds


@dataclass(frozen=True, slots=True, order=True)
class Duration:
    """A length of time, in whole nanoseconds."""

    ns: int

    @classmethod
    def parse(cls, value: object) -> Duration:
        """Read the written form.

        :raises ValueError: it is no duration; the message says what to write.
        """
        return value if isinstance(value, Duration) else cls(parse_duration(value))

    def __str__(self) -> str:
        """Return the exact duration in the unit that people would choose."""
        if not self.ns:
            return "0s"
        for unit in _SHOWN:
            size = _UNITS[unit]
            if unit == "min" and self.ns < 2 * size:
                continue  # 60s, as people write it
            if self.ns >= size and (size <= _UNITS["s"] or not self.ns % size):
                whole, rest = divmod(self.ns, size)
                decimals = f"{rest:0{len(str(size)) - 1}d}".rstrip("0") if rest else ""
                return f"{whole}{'.' if decimals else ''}{decimals}{unit}"
        return f"{self.ns}ns"

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: Any) -> core_schema.CoreSchema:
        return written_as_text(cls.parse, "duration", _WRITTEN)
