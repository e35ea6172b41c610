"""The clock of timeouts and intervals: tests that stop time must not make threads wait for ever."""

from __future__ import annotations

import time

__all__ = ["monotonic"]


def monotonic() -> float:
    """Return seconds of the system's monotonic clock, also where ``time.monotonic`` is replaced."""
    if hasattr(time, "clock_gettime"):
        return time.clock_gettime(time.CLOCK_MONOTONIC)
    return time.monotonic()
