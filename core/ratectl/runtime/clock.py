"""The clock of timeouts and intervals: tests that stop time must not make threads wait for ever."""

from __future__ import annotations

import time
from types import BuiltinFunctionType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["followed", "monotonic"]

_DEPTH: Final = 6


def monotonic() -> float:
    """Return seconds of the system's monotonic clock, also where ``time.monotonic`` is replaced."""
    if hasattr(time, "clock_gettime"):
        return time.clock_gettime(time.CLOCK_MONOTONIC)
    return time.monotonic()


def followed(clock: Callable[[], int]) -> Callable[[], int]:
    """Return a clock that says the same in all threads.

    In place of the system's clock, a test may have put one of freezegun. That gives the real time
    to callers that have ``threading`` among the nearest five frames of the stack, as all threads
    have that read a clock right away. So it is called from a greater depth.
    """
    if isinstance(clock, BuiltinFunctionType):
        return clock
    return lambda: _called(clock, _DEPTH)


def _called(clock: Callable[[], int], depth: int) -> int:
    return _called(clock, depth - 1) if depth else clock()
