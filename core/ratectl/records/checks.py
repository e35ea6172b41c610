"""Checks of values where records are read: their types, and the bounds of numbers.

Another program with write access can store any value. A value that ratectl never writes is refused
here, before it is compared, added or signed.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, Final, Literal, Union, get_args, get_origin, get_type_hints

__all__ = [
    "MAX_GENERATION",
    "check_counts",
    "check_fields",
    "checked_object",
    "generation_problem",
    "now_ms",
    "sequence_problem",
]

MAX_GENERATION: Final = 9_999_999_999
"""Keys of the history have ten digits: enough for one publication a second for 317 years."""

_TOO_LARGE: Final = 2**63
"""Sums of smaller numbers, and their products with a percentage, are never infinite."""

_LEAD_YEARS: Final = 10
"""A sequence may be a time in milliseconds, up to this far in the future. So a record is accepted
if its writer's clock was wrong by a day or a year."""

_YEAR_MS: Final = 31_557_600_000
_BUILT_MS: Final = 1_793_491_200_000
"""2026-11-01: a clock that shows an earlier time is wrong, and this time is used instead."""


def now_ms() -> int:
    """Return the wall-clock time in milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def sequence_problem(sequence: object) -> str | None:
    """Return why ratectl cannot have written this sequence; None if it can."""
    if type(sequence) is int and 0 < sequence <= _latest_ms():
        return None
    return (
        f"its sequence is {sequence!r:.40}, no whole number from 1 to the time {_LEAD_YEARS} years "
        "from now in milliseconds"
    )


def _latest_ms() -> int:
    return max(now_ms(), _BUILT_MS) + _LEAD_YEARS * _YEAR_MS


def checked_object(data: bytes, most: int, form: int) -> dict[str, Any]:
    """Return the JSON object that a record of at most ``most`` bytes is, in format ``form``.

    :raises ValueError: it is no such object.
    """
    if len(data) > most:
        raise ValueError(f"it has {len(data)} bytes, more than {most}")
    value = json.loads(data)
    if not isinstance(value, dict):
        raise ValueError("it is not a JSON object")
    if value.get("format") != form:
        raise ValueError(f"its format is {value.get('format')!r}, not {form}")
    return value


def generation_problem(generation: object) -> str | None:
    """Return why this is not the number of a generation; None if it is one."""
    if type(generation) is int and 0 < generation <= MAX_GENERATION:
        return None
    return f"a generation has a whole number from 1 to {MAX_GENERATION}, not {generation!r:.40}"


def check_fields(record: Any) -> None:
    """Check that each field of a dataclass holds a value of its declared type.

    :raises TypeError: one does not; the message names it.
    """
    for name, fits in _fields(record.__class__):
        value = getattr(record, name)
        if not fits(value):
            raise TypeError(f"{name} cannot be {value!r:.100}")


def check_counts(record: Any) -> None:
    """Check that no number of a dataclass is negative.

    :raises ValueError: one is; the message names it.
    """
    for name, _ in _fields(record.__class__):
        value = getattr(record, name)
        if isinstance(value, int | float) and value < 0:
            raise ValueError(f"{name} cannot be {value!r}, less than 0")


Fits = Callable[[Any], bool]


@cache
def _fields(kind: Any) -> list[tuple[str, Fits]]:
    hints = get_type_hints(kind)
    return [(field.name, _fits(hints[field.name])) for field in fields(kind)]


def _fits(kind: Any) -> Fits:
    """Return a test for JSON values of a type: ``true`` and ``"1"`` are no numbers."""
    origin, args = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return _any_of([_fits(arg) for arg in args])
    if origin is Literal:
        return lambda value: isinstance(value, str) and value in args
    if origin is list:
        return _list_of(_fits(args[0]))
    if origin is tuple:
        return _tuple_of([_fits(arg) for arg in args])
    if origin is dict:
        return _dict_of(_fits(args[0]), _fits(args[1]))
    if is_dataclass(kind):
        return _record_of(kind)
    return _PLAIN.get(kind) or (lambda value: isinstance(value, kind))


def _any_of(tests: list[Fits]) -> Fits:
    return lambda value: any(fits(value) for fits in tests)


def _list_of(item: Fits) -> Fits:
    return lambda value: isinstance(value, list) and all(map(item, value))


def _dict_of(name: Fits, item: Fits) -> Fits:
    return lambda value: (
        isinstance(value, dict) and all(map(name, value)) and all(map(item, value.values()))
    )


def _tuple_of(items: list[Fits]) -> Fits:
    return lambda value: (
        isinstance(value, tuple)
        and len(value) == len(items)
        and all(fits(item) for fits, item in zip(items, value, strict=True))
    )


def _record_of(kind: Any) -> Fits:
    return lambda value: (
        isinstance(value, kind) and all(fits(getattr(value, name)) for name, fits in _fields(kind))
    )


def _is_text(value: Any) -> bool:
    """Return True for text that UTF-8 can encode. JSON can also hold half a surrogate pair."""
    return isinstance(value, str) and (value.isascii() or _encodable(value))


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_integer(value: Any) -> bool:
    return type(value) is int and abs(value) < _TOO_LARGE


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < _TOO_LARGE


_PLAIN: Final[dict[Any, Fits]] = {
    int: _is_integer,
    bool: lambda value: type(value) is bool,
    NoneType: lambda value: value is None,
    float: _is_number,
    str: _is_text,
}
