"""Checks of values where records are read: their types, and the bounds of numbers.

Whoever can write the store can write anything. A value that no honest writer writes is refused
here, before it is compared, added to, or signed.
"""

from __future__ import annotations

import math
import time
from dataclasses import fields
from functools import cache
from types import NoneType, UnionType
from typing import Any, Final, Literal, Union, get_args, get_origin, get_type_hints

__all__ = ["MAX_GENERATION", "check_fields", "generation_problem", "now_ms", "sequence_problem"]

MAX_GENERATION: Final = 9_999_999_999
"""Keys of the history have ten digits: enough for a publication every second, for 317 years."""

_LEAD_YEARS: Final = 10
"""A sequence may be a time, in milliseconds. It may lie this far in the future: clocks that are
wrong by a day or by a year make no honest record look forged."""

_YEAR_MS: Final = 31_557_600_000
_BUILT_MS: Final = 1_793_491_200_000
"""2026-11-01: a clock that shows an earlier time is wrong, and this time counts in its place."""


def now_ms() -> int:
    """Return the wall-clock time in milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def sequence_problem(sequence: object) -> str | None:
    """Return why no honest writer wrote this sequence; None where one may have."""
    if type(sequence) is int and 0 < sequence <= _latest_ms():
        return None
    return (
        f"its sequence is {sequence!r:.40}, no whole number from 1 to {_latest_ms()} "
        f"(the time {_LEAD_YEARS} years from now, in milliseconds)"
    )


def _latest_ms() -> int:
    return max(now_ms(), _BUILT_MS) + _LEAD_YEARS * _YEAR_MS


def generation_problem(generation: object) -> str | None:
    """Return why this is no number of a generation; None where it is one."""
    if type(generation) is int and 0 < generation <= MAX_GENERATION:
        return None
    return f"a generation has a whole number from 1 to {MAX_GENERATION}, not {generation!r:.40}"


def check_fields(record: Any) -> None:
    """Return if each field of a dataclass holds a value of the type that it declares.

    :raises TypeError: one does not; the message names it.
    """
    for name, kind in _declared(record.__class__).items():
        value = getattr(record, name)
        if not _fits(value, kind):
            raise TypeError(f"{name} cannot be {value!r:.100}")


@cache
def _declared(kind: Any) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {each.name: hints[each.name] for each in fields(kind)}


def _fits(value: object, kind: Any) -> bool:
    """Return True for a value of a type as JSON has it: ``true`` is no number, ``"1"`` neither."""
    origin, of = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return any(_fits(value, each) for each in of)
    if origin is Literal:
        return isinstance(value, str) and value in of
    if origin is list:
        return isinstance(value, list) and all(_fits(each, of[0]) for each in value)
    if origin is dict:
        return isinstance(value, dict) and all(
            _fits(name, of[0]) and _fits(each, of[1]) for name, each in value.items()
        )
    return _fits_plain(value, kind)


def _fits_plain(value: object, kind: Any) -> bool:
    if kind in (int, bool, NoneType):
        return type(value) is kind
    if kind is float:
        return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]
    if kind is str:
        return isinstance(value, str) and _encodable(value)
    return isinstance(value, kind)


def _encodable(text: str) -> bool:
    """Return False for half a surrogate pair: JSON can hold it, and UTF-8 cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
