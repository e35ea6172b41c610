"""A clock for tests of applications: time stands still until the test moves it."""

from __future__ import annotations

import math
import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final
from weakref import WeakMethod

from ratectl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["FakeClock"]

_SECOND: Final = 1_000_000_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_START: Final = datetime(2030, 1, 1, tzinfo=UTC)
_MOST: Final = 100 * 365 * 86_400 * _SECOND
"""Longest step (nanoseconds): a hundred years."""


class FakeClock:
    """A clock that a test moves. Several agents may share it. Thread-safe.

    >>> clock = FakeClock("2030-01-01T12:00Z")
    >>> clock.advance(1.5)
    >>> clock.now.isoformat()
    '2030-01-01T12:00:01.500000+00:00'
    """

    def __init__(self, start: datetime | str = _START) -> None:
        """``start``: the wall clock's time, with a time zone; a text is in ISO 8601.

        :raises UsageError: it is no time, or has no time zone.
        """
        self._lock = threading.RLock()
        self._wall = _nanoseconds_of(start)
        self._monotonic = _SECOND
        self._followers: list[WeakMethod[Callable[[], None]]] = []

    @property
    def now(self) -> datetime:
        """Time of the wall clock (UTC)."""
        return _EPOCH + timedelta(microseconds=self._wall // 1_000)

    def time_ns(self) -> int:
        """Return nanoseconds since 1970, like ``time.time_ns``."""
        return self._wall

    def monotonic_ns(self) -> int:
        """Return nanoseconds since some moment, like ``time.monotonic_ns``. It never steps back."""
        return self._monotonic

    def advance(self, seconds: float | timedelta) -> None:
        """Let time pass: buckets refill, quotas and exceptions end, waiting requests are checked.

        :raises UsageError: it is no number of seconds, 0 or more.
        """
        if isinstance(seconds, timedelta):
            seconds = seconds.total_seconds()
        if isinstance(seconds, bool) or not isinstance(seconds, int | float):
            raise UsageError(f"advance takes a number of seconds, not {seconds!r}")
        if not 0 <= seconds < math.inf or (span := round(seconds * _SECOND)) > _MOST:
            raise UsageError(
                f"advance takes seconds from 0 to a hundred years, not {seconds!r}: "
                "set_wall sets the wall clock back"
            )
        self._move(span, span)

    def set_wall(self, at: datetime | str) -> None:
        """Set the wall clock, as an operator does: no time passes, and it may go back.

        :raises UsageError: it is no time, or has no time zone.
        """
        with self._lock:
            self._move(0, _nanoseconds_of(at) - self._wall)

    def follow(self, moved: Callable[[], None]) -> None:
        """Call a method after each move. The clock does not keep its object alive."""
        with self._lock:
            alive = [each for each in self._followers if each() is not None]
            self._followers = [*alive, WeakMethod(moved)]

    def _move(self, monotonic: int, wall: int) -> None:
        with self._lock:
            self._monotonic += monotonic
            self._wall += wall
            followers = [each() for each in self._followers]
        for moved in followers:
            if moved is not None:
                moved()


def _nanoseconds_of(at: datetime | str) -> int:
    if isinstance(at, str):
        try:
            at = datetime.fromisoformat(at)
        except ValueError:
            raise UsageError(f"{at!r} is no time like 2030-01-01T12:00Z") from None
    if not isinstance(at, datetime):
        raise UsageError(f"a time is a datetime or a text like 2030-01-01T12:00Z, not {at!r}")
    if at.tzinfo is None:
        raise UsageError(f"{at.isoformat()} has no time zone: write {at.isoformat()}Z for UTC")
    return (at - _EPOCH) // timedelta(microseconds=1) * 1_000
