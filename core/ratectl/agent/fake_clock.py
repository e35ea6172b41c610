"""A clock for tests of applications: time stands still until the test moves it."""

from __future__ import annotations

import math
import os
import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final
from weakref import WeakMethod, WeakSet

from ratectl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["FakeClock"]

_SECOND: Final = 1_000_000_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_START: Final = datetime(2030, 1, 1, tzinfo=UTC)
_MOST: Final = 100 * 365 * 86_400 * _SECOND
"""Longest step (nanoseconds): a hundred years."""

_END: Final = (datetime(9000, 1, 1, tzinfo=UTC) - _EPOCH) // timedelta(seconds=1) * _SECOND
"""End of the wall clock's time: the periods of quotas need dates after it."""


class FakeClock:
    """A clock that a test moves. Several agents may share it. Thread-safe.

    >>> clock = FakeClock("2030-01-01T12:00Z")
    >>> clock.advance(1.5)
    >>> clock.now.isoformat()
    '2030-01-01T12:00:01.500000+00:00'
    """

    def __init__(self, start: datetime | str = _START) -> None:
        """``start``: the wall clock's time, with a time zone; a text is in ISO 8601.

        :raises UsageError: it is no time from 1970 to 8999, or has no time zone.
        """
        self._lock = threading.RLock()
        self._wall = _checked(_nanoseconds_of(start))
        self._monotonic = _SECOND
        self._followers: list[WeakMethod[Callable[[], None]]] = []
        _clocks.add(self)

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

        :raises UsageError: it is no number of seconds, 0 or more, or goes beyond the year 8999.
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
        with self._lock:
            self._wall = _checked(self._wall + span)
            self._monotonic += span
        self._moved()

    def set_wall(self, at: datetime | str) -> None:
        """Set the wall clock, as an operator does: no time passes, and it may go back.

        :raises UsageError: it is no time from 1970 to 8999, or has no time zone.
        """
        wall = _checked(_nanoseconds_of(at))
        with self._lock:
            self._wall = wall
        self._moved()

    def follow(self, moved: Callable[[], None]) -> None:
        """Call a method after each move. The clock does not keep its object alive."""
        with self._lock:
            alive = [each for each in self._followers if each() is not None]
            self._followers = [*alive, WeakMethod(moved)]

    def _moved(self) -> None:
        for follower in self._followers:
            moved = follower()
            if moved is not None:
                moved()

    def _after_fork_in_child(self) -> None:
        """Replace a lock that a thread of the parent may hold."""
        self._lock = threading.RLock()


_clocks: Final[WeakSet[FakeClock]] = WeakSet()


def _after_fork_in_child() -> None:
    for clock in list(_clocks):
        clock._after_fork_in_child()  # noqa: SLF001


os.register_at_fork(after_in_child=_after_fork_in_child)


def _checked(wall: int) -> int:
    """Return a time of the wall clock (nanoseconds) that agents can decide at.

    :raises UsageError: it is before 1970 or after 8999.
    """
    if not 0 <= wall < _END:
        raise UsageError("the time of a FakeClock is from 1970 to the end of 8999 (UTC)")
    return wall


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
