"""Numbers as text. Unknown is ``?``, and never 0."""

from __future__ import annotations

from typing import Final

from ratectl.fleet.usage import NEAR
from ratectl.runtime import wording

__all__ = ["UNKNOWN", "approximate", "count", "level", "percent", "rate", "share"]

UNKNOWN: Final = "?"


def count(number: int | None) -> str:
    """Return ``19,200``."""
    return UNKNOWN if number is None else f"{number:,}"


def approximate(number: int, error: int) -> str:
    """Return ``512 ±3``: a count, and the part of it that may be other keys'."""
    return f"{number:,} ±{error:,}" if error else f"{number:,}"


def rate(per_second: float | None) -> str:
    """Return requests per second: ``32``, ``4.2``, ``0.05``."""
    if per_second is None:
        return UNKNOWN
    if not per_second or per_second >= 10:
        return f"{per_second:,.0f}"
    return f"{per_second:.1f}" if per_second >= 0.1 else f"{per_second:.1g}"


def percent(use: float | None) -> str:
    """Return the use of a bucket; only a full one has 100%."""
    return UNKNOWN if use is None else wording.percent(use)


def share(part: float | None) -> str:
    """Return a share: ``6.3%``; only nothing is 0%."""
    if part is None:
        return UNKNOWN
    if not part:
        return "0%"
    return "<0.1%" if part < 0.001 else f"{part:.1%}"


def level(use: float | None) -> str:
    """Return the class of a use: ``unknown``, ``ok``, ``near`` or ``full``."""
    if use is None:
        return "unknown"
    return "full" if use >= 1 else "near" if use >= NEAR else "ok"
