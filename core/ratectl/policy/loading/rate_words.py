"""Fields of other rate limiters that are a part of a rate: what to write with the same numbers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from ratectl.policy.language.rates import Rate

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["rate_hint", "rate_part", "with_time"]

_COUNTS: Final = (
    "count", "limit", "max_requests", "quantity", "requests", "requests_per_unit",
)  # fmt: skip
_TIMES: Final = ("duration", "interval", "period", "seconds", "time", "window")
_TIME: Final = re.compile(r"[1-9][0-9]{0,5} ?[a-z]{1,7}", re.ASCII)
_NAMES: Final = {"s": "second", "min": "minute", "h": "hour"}


def rate_part(name: str) -> str | None:
    """Return which part of a rate a field of this name is elsewhere; None for other fields."""
    if name.lower() in _COUNTS:
        return "number"
    return "time" if name.lower() in _TIMES else None


def rate_hint(name: str, fields: Mapping[str, Any]) -> str:
    """Return what to write instead of a field that is a part of a rate.

    ``fields`` are all fields of the limit.
    """
    written = fields.get("rate")
    if (said := _said(written)) is not None:
        return f"delete {name}: rate: {written} already says {said}"
    count, time = _first(fields, "number"), _first(fields, "time")
    number = written if _is_number(written) else fields.get(count or "")
    rate = _rate(number, fields.get(time or ""))
    if rate is None:
        return "write it in rate: <number>/<duration>, like rate: 100/60s"
    if number is written:
        return f"write rate: {rate}, and delete {time}"
    return f"write rate: {rate} in place of {count} and {time}"


def with_time(fields: Mapping[str, Any]) -> str | None:
    """Return what to write for ``rate: 10, window: 60s``; None for other fields."""
    time = _first(fields, "time")
    if time is None or _rate(fields.get("rate"), fields[time]) is None:
        return None
    return rate_hint(time, fields)


def _said(written: object) -> str | None:
    """Return a valid rate in words; None for anything else."""
    if not isinstance(written, str):
        return None
    try:
        rate = Rate.parse(written)
    except ValueError:
        return None
    if rate.unlimited:
        return "that there is no bound"
    number = written.partition("/")[0].strip()
    if rate.multiple == 1:
        return f"{number} per {_NAMES.get(rate.unit, rate.unit)}"
    return f"{number} in {rate.multiple}{rate.unit}"


def _first(fields: Mapping[str, Any], part: str) -> str | None:
    return next((name for name in fields if rate_part(name) == part), None)


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _rate(number: object, time: object) -> str | None:
    """Return the rate that a number and a time make, if they make a valid one."""
    if not (_is_number(number) and isinstance(time, str) and _TIME.fullmatch(time)):
        return None
    rate = f"{number}/{time.replace(' ', '')}"
    return rate if _said(rate) is not None else None
