"""Offset of the wall clock from the monotonic clock, for quotas."""

from __future__ import annotations

import time

from ratectl.engine.algorithms.quota import WallOffset

__all__ = ["WallClock"]


class WallClock(WallOffset):
    """An offset that threads refresh every few seconds: clocks are set, and machines sleep."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__()
        self.refresh()

    def refresh(self) -> None:
        """Read both clocks."""
        now = time.monotonic_ns()
        self.move(time.time_ns() - now, now)
