"""``--timeout``: limit the duration of a whole command."""

from __future__ import annotations

import signal
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, TypeVar

from ratectl_cli.errors import TimedOut

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import CodeType, FrameType

__all__ = ["Deadline", "tidy"]

_T = TypeVar("_T")

_SHARE: Final = 0.9

_GRACE: Final = 1.0
"""Seconds to clean up. Code that takes longer, or that handled the end of the time like an ordinary
error and continued, is interrupted again."""

_SOON: Final = 0.01


_TIDY: Final[set[CodeType]] = set()

_F = TypeVar("_F", bound="Callable[..., object]")


def tidy(function: _F) -> _F:
    """Mark a function that cleans up by itself: it is interrupted once, then left alone.

    For work that ends by itself: files and processes of this machine, never a store.
    """
    _TIDY.add(function.__code__)
    return function


class _TimeUp(BaseException):
    """Raised when the time is up. Not an Exception, so that no handler of errors catches it."""


class Deadline:
    """Time limit of a command; does nothing without a limit."""

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._ends = 0.0
        self._running = False
        self._rung = False
        self._tells: str | None = None
        self._changed = False

    def left(self) -> float | None:
        """Return the seconds until the time is up; None without a limit."""
        return None if self._seconds is None else max(0.0, self._ends - time.monotonic())

    def share(self) -> float | None:
        """Return the seconds for a part of the command, which leaves time to report its result."""
        left = self.left()
        return None if left is None else left * _SHARE

    def changing(self, tells: str) -> None:
        """Note that something may have been changed; ``tells`` is the command that shows it."""
        self._tells = tells

    def changed(self) -> None:
        """Note that the change was made: what comes after it takes no part in it."""
        self._changed = True

    def within(self, body: Callable[[], _T]) -> _T:
        """Run ``body`` in the main thread and return its result.

        :raises TimedOut: it takes too long. ``finally`` blocks and the like have a second each;
            functions marked ``tidy`` have all the time that they need.
        """
        seconds = self._seconds
        if seconds is None:
            return body()
        before = signal.signal(signal.SIGALRM, self._ring)
        try:
            self._running = True
            self._start(seconds)
            return body()
        except _TimeUp:
            self._running = False
        except Exception as error:
            self._running = False
            if not _is_of_time(error):
                raise
        finally:
            self._running = False
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        raise TimedOut(seconds, self._tells, made=self._changed)

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

    @contextmanager
    def optional(self) -> Iterator[None]:
        """Leave the body when the time is up, without ending the command: all else is done."""
        try:
            yield
        except _TimeUp:
            return

    def _start(self, seconds: float) -> None:
        self._ends = time.monotonic() + seconds
        signal.setitimer(signal.ITIMER_REAL, seconds)

    def _ring(self, _signal: int, frame: FrameType | None) -> None:
        if not self._running:
            return
        if frame is None or frame.f_code in self._careful:
            # Raised here, it might not pass through the handlers of ``within``.
            signal.setitimer(signal.ITIMER_REAL, _SOON)
            return
        signal.setitimer(signal.ITIMER_REAL, _GRACE)
        if self._rung and _in_tidy(frame):
            return
        self._rung = True
        raise _TimeUp

    _careful: Final = frozenset({within.__code__, _ring.__code__})


def _in_tidy(frame: FrameType | None) -> bool:
    while frame is not None and frame.f_code not in _TIDY:
        frame = frame.f_back
    return frame is not None


def _is_of_time(error: BaseException) -> bool:
    """Return True if an error was raised while the end of the time was handled."""
    before = error.__context__
    while before is not None and not isinstance(before, _TimeUp):
        before = before.__context__
    return before is not None
