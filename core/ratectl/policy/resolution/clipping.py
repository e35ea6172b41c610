"""Clipping: values that a cap lowers, with a record of the clip."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ratectl.policy.language.rates import NS, UNIT_NS, Rate

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["SHORTEST_MONTH", "Clipped", "clip_count", "clip_rate", "clip_window"]

SHORTEST_MONTH: Final = 28 * UNIT_NS["day"]
"""Nanoseconds of the shortest month."""


class Clipped(NamedTuple):
    """Record of a clip: the value asked for, the value in force, and the field of the cap."""

    asked: Any
    value: Any
    by: str
    """``rate`` or ``burst``."""


def clip_rate(rate: Rate, cap: Mapping[str, Any], clips: dict[str, Clipped]) -> Rate:
    """Return the rate of a token bucket, at most that of the cap."""
    lowered: Rate | None = cap.get("rate")
    if lowered is None or not rate.exceeds(lowered):
        return rate
    if lowered.unit == "month":  # a cap for quotas; a bucket needs a fixed length: the longest
        lowered = replace(lowered, multiple=31 * lowered.multiple, unit="day")
    clips["rate"] = Clipped(rate, lowered, "rate")
    return lowered


def clip_count(
    field: str, count: int | None, cap: Mapping[str, Any], clips: dict[str, Clipped]
) -> int | None:
    """Return a burst or a number of slots, at most the burst of the cap."""
    lowered: int | None = cap.get("burst")
    if count is None or lowered is None or count <= lowered:
        return count
    clips[field] = Clipped(count, lowered, "burst")
    return lowered


def clip_window(
    rate: Rate,
    cap: Mapping[str, Any],
    clips: dict[str, Clipped],
    fitting: Callable[[Rate], Rate],
) -> Rate:
    """Return the rate of a window with its count lowered by the rate and the burst of the cap.

    The window keeps its length. An unlimited rate has none: ``fitting`` makes one of the cap's.
    """
    for field in ("rate", "burst"):
        ceiling: Rate | int | None = cap.get(field)
        if ceiling is None:
            continue
        if not rate.unlimited:
            lowered = _lower_count(rate, ceiling)
        elif isinstance(ceiling, Rate) and not ceiling.unlimited:
            lowered = fitting(ceiling)
        else:
            lowered = rate
        if lowered != rate:
            clips["rate"] = Clipped(
                clips["rate"].asked if "rate" in clips else rate, lowered, field
            )
            rate = lowered
    return rate


def _lower_count(rate: Rate, ceiling: Rate | int) -> Rate:
    """Return the rate with a count that neither pace nor burst of the cap forbids."""
    most: int | None
    if isinstance(ceiling, Rate):
        window = rate.window_ns or rate.multiple * SHORTEST_MONTH
        pace = ceiling.per_second
        most = None if pace is None else pace.numerator * window // (pace.denominator * NS)
    else:
        most = ceiling
    if most is None or rate.numerator <= most:
        return rate
    return Rate(most, 1, rate.multiple, rate.unit)
