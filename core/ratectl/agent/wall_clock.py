"""Clocks of an agent, and the offset of the wall clock from the monotonic clock, for quotas."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ratectl.engine.algorithms.quota import WallOffset
from ratectl.runtime.clock import followed

if TYPE_CHECKING:
    from ratectl.agent.fake_clock import FakeClock

__all__ = ["WallClock"]


class WallClock(WallOffset):
    """An offset that threads refresh every few seconds: clocks are set, and machines sleep.

    The agent decides by the two clocks that ``time`` had when this object was made, or by those of
    a ``FakeClock``, and by no others: tests may replace them (freezegun does), and then either all
    parts follow or none.
    """

    __slots__ = ("monotonic_ns", "time_ns")

    def __init__(self, fake: FakeClock | None = None) -> None:
        super().__init__()
        self.monotonic_ns = fake.monotonic_ns if fake else followed(time.monotonic_ns)
        self.time_ns = fake.time_ns if fake else followed(time.time_ns)
        self.refresh()

    def refresh(self) -> None:
        """Read both clocks."""
        now = self.monotonic_ns()
        self.move(self.time_ns() - now, now)
