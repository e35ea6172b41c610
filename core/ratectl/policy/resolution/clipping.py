"""Clipping: values that a cap lowers, with a record of the clip."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from ratectl.policy.language.rates import NS, UNIT_NS, Rate
from ratectl.policy.resolution.effective_limit import Clip

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ratectl.policy.resolution.effective_limit import Setting

__all__ = ["SHORTEST_MONTH", "clip_count", "clip_rate", "clip_window"]

SHORTEST_MONTH: Final = 28 * UNIT_NS["day"]
"""Nanoseconds of the shortest month."""


def clip_rate(rate: Rate, cap: Mapping[str, Setting], clips: dict[str, Clip]) -> Rate:
    """Return the rate of a token bucket, at most that of the cap."""
    ceiling = cap.get("rate")
    if ceiling is None or not rate.exceeds(ceiling.value):
        return rate
    lowered: Rate = ceiling.value
    if lowered.unit == "month":  # a cap for quotas; a bucket needs a fixed length: the longest
        lowered = replace(lowered, multiple=31 * lowered.multiple, unit="day")
    clips["rate"] = Clip(rate, lowered, ceiling)
    return lowered


def clip_count(
    field: str, count: int | None, cap: Mapping[str, Setting], clips: dict[str, Clip]
) -> int | None:
    """Return a burst or a number of slots, at most the burst of the cap."""
    ceiling = cap.get("burst")
    if count is None or ceiling is None or count <= ceiling.value:
        return count
    clips[field] = Clip(count, ceiling.value, ceiling)
    lowered: int = ceiling.value
    return lowered


def clip_window(
    rate: Rate,
    cap: Mapping[str, Setting],
    clips: dict[str, Clip],
    fitting: Callable[[Rate], Rate],
) -> Rate:
    """Return the rate of a window with its count lowered by the rate and the burst of the cap.

    The window keeps its length. An unlimited rate has none: ``fitting`` makes one of the cap's.
    """
    for setting in (cap.get("rate"), cap.get("burst")):
        if setting is None:
            continue
        if not rate.unlimited:
            lowered = _lower_count(rate, setting)
        elif isinstance(setting.value, Rate) and not setting.value.unlimited:
            lowered = fitting(setting.value)
        else:
            lowered = rate
        if lowered != rate:
            clips["rate"] = Clip(clips["rate"].asked if "rate" in clips else rate, lowered, setting)
            rate = lowered
    return rate


def _lower_count(rate: Rate, cap: Setting) -> Rate:
    """Return the rate with a count that neither pace nor burst of the cap forbids."""
    if isinstance(cap.value, Rate):
        window = rate.window_ns or rate.multiple * SHORTEST_MONTH
        pace = cap.value.per_second
        most = None if pace is None else pace.numerator * window // (pace.denominator * NS)
    else:
        most = cap.value
    if most is None or rate.numerator <= most:
        return rate
    return Rate(most, 1, rate.multiple, rate.unit)
