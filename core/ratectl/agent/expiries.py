"""Expiry of reservations that give back what was not used, even if nobody touches them again.

A thread expires them. It runs only while there are such reservations, and for a few seconds more;
the agent's being closed does not matter to it, as decisions go on then. With a ``FakeClock`` there
is no thread: the reservations expire where the clock is moved.

Nothing here waits for a lock, so that signal handlers, finalizers and forks may come at any moment:
single operations of a ``dict`` are atomic, and a second thread, started in a race, does no harm.
"""

from __future__ import annotations

import _thread
from collections.abc import Callable
from typing import Final

from ratectl.agent.line import FOREVER
from ratectl.agent.log import log
from ratectl.runtime.wakeup import Wakeup

__all__ = ["Expiries"]

_SECOND: Final = 1_000_000_000

_SHORTEST: Final = 0.1
"""Shortest sleep of the thread in seconds, and so the longest delay of an expiry."""

_IDLE: Final = 10.0
"""Seconds without a reservation after which the thread ends."""


Look = Callable[[int], int | None]
"""Look of a reservation at the clock (nanoseconds): if its deadline has passed, it expires and
returns None; otherwise it returns its deadline. Never raises."""


class Expiries:
    """Open reservations of one agent that give something back when they expire. Thread-safe."""

    def __init__(self, clock: Callable[[], int], *, by_thread: bool) -> None:
        """``clock``: the engine's (nanoseconds). ``by_thread``: if not, call ``passed``."""
        self.clock = clock
        self._by_thread = by_thread
        self._open: dict[Look, None] = {}
        self._wakeup = Wakeup()
        self._next = FOREVER
        """Instant at which the thread wakes by itself; ``FOREVER`` until it knows, so that every
        new reservation wakes it."""
        self._runs = False

    def __len__(self) -> int:
        return len(self._open)

    def add(self, look: Look, deadline: int) -> None:
        """Let a reservation expire. ``deadline``: the present one; it may move to a later one."""
        self._open[look] = None
        if self._by_thread:
            self._run_in_thread()
            if deadline < self._next:
                self._wakeup.set()

    def remove(self, look: Look) -> None:
        """Forget a reservation. Safe to repeat."""
        self._open.pop(look, None)

    def passed(self) -> int | None:
        """Expire what is due. Return the earliest deadline (nanoseconds); None if there is none."""
        now, earliest = self.clock(), None
        for look in list(self._open):
            deadline = look(now)
            if deadline is None:
                self.remove(look)
            elif earliest is None or deadline < earliest:
                earliest = deadline
        return earliest

    def after_fork_in_child(self) -> None:
        """Go on with the reservations, which the child has as it has the buckets."""
        self._wakeup, self._next, self._runs = Wakeup(), FOREVER, False
        if self._open and self._by_thread:
            self._run_in_thread()

    # The thread ---------------------------------------------------------------------------------

    def _run_in_thread(self) -> None:
        if self._runs:
            return
        self._runs = True
        try:
            # Not `threading.Thread`: its start takes a lock, and waits for the thread.
            _thread.start_new_thread(self._run, ())
        except RuntimeError as error:
            self._runs = False  # the next reservation tries again
            log.warning("reservations give nothing back when they expire, for now: %s", error)
        except BaseException:
            self._runs = False
            raise

    def _run(self) -> None:
        """Expire reservations until there have been none for a while. Never raises."""
        while True:
            woken = self._wakeup.wait(self._pause())
            if woken or self._open:
                continue
            self._runs = False
            if not self._open:  # whoever adds one from now on starts a thread
                return
            self._runs = True

    def _pause(self) -> float:
        """Expire what is due, and return how long the thread may sleep (seconds)."""
        self._next = FOREVER
        try:
            earliest = self.passed()
            if earliest is None:
                return _IDLE
            self._next = earliest
            return max(_SHORTEST, (earliest - self.clock()) / _SECOND)
        except Exception:  # noqa: BLE001  a replaced clock may raise anything
            log.exception("reservations could not be expired")
            return 1.0
