"""Medians, percentiles and printing for the benchmarks."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["percentile", "show", "spread"]


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least ``share`` (0 to 1) of the values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -(-int(share * 1e6) * len(ordered) // 10**6) - 1))]


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return median, p99, minimum and maximum, rounded to the microsecond for milliseconds."""
    return {
        "p50": round(statistics.median(values), 3),
        "p99": round(percentile(values, 0.99), 3),
        "min": round(min(values), 3),
        "max": round(max(values), 3),
    }


def show(name: str, values: Sequence[float], unit: str = "ms") -> dict[str, float]:
    """Print one line of a spread, and return it."""
    s = spread(values)
    print(
        f"  {name:<44} p50 {s['p50']:>9.2f} {unit}   p99 {s['p99']:>9.2f} {unit}"
        f"   min {s['min']:>9.2f}   max {s['max']:>9.2f}   n {len(values)}"
    )
    return s
