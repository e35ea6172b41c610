"""``--timeout``: the whole command, not just one call, ends in time."""

from __future__ import annotations

import signal
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from ratectl_cli.errors import TimedOut

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

__all__ = ["Deadline"]

_SHARE: Final = 0.9


class Deadline:
    """Raises ``TimedOut`` in the main thread when the time is up; does nothing without one."""

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._ends = 0.0

    def left(self) -> float | None:
        """Seconds until the time is up; None without a limit."""
        return None if self._seconds is None else max(0.0, self._ends - time.monotonic())

    def share(self) -> float | None:
        """The same for a part of the command: time is left to say more than that it is up."""
        left = self.left()
        return None if left is None else left * _SHARE

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count down while the body runs."""
        if self._seconds is None:
            yield
            return
        seconds = self._seconds

        def ring(_signal: int, _frame: FrameType | None) -> None:
            raise TimedOut(seconds)

        before = signal.signal(signal.SIGALRM, ring)
        self._start(seconds)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stop the clock while a person thinks."""
        if self._seconds is None:
            yield
            return
        left = max(0.001, self._ends - time.monotonic())
        signal.setitimer(signal.ITIMER_REAL, 0)
        try:
            yield
        finally:
            self._start(left)

    def _start(self, seconds: float) -> None:
        self._ends = time.monotonic() + seconds
        signal.setitimer(signal.ITIMER_REAL, seconds)
