"""Failures of the server, and when it is not asked any more."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from ratectl.runtime.clock import monotonic

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Breaker", "ServerFailed"]

_MOST: Final = 3
"""Failures in a row that open the breaker."""

_LASTING: Final = 0.05
"""Seconds from the first to the last of them, at least; less if the deadline is shorter."""


class ServerFailed(Exception):
    """Raised when the server did not decide in time, or answered with an error."""


class Breaker:
    """Circuit breaker: after failures in a row, no decision asks the server. Thread-safe.

    It closes when a probe succeeds, which a thread makes: no request waits for that.
    """

    def __init__(self, changed: Callable[[str | None], None], deadline: float) -> None:
        """``changed`` is called with the failure when it opens, and with None when it closes.

        ``deadline``: seconds for one decision. Failures at one time count as one: many requests
        that came at once may be too many for the deadline.
        """
        self._lasting = min(deadline, _LASTING)
        self._first = 0.0
        self.is_open = False
        self._failures = 0
        self._changed = changed
        self._lock = threading.Lock()

    def succeeded(self) -> None:
        """Note a decision of the server."""
        if self._failures:
            self._failures = 0

    def failed(self, error: ServerFailed) -> None:
        """Note a failure; open after several in a row."""
        with self._lock:
            now = monotonic()
            if not self._failures:
                self._first = now
            self._failures += 1
            lasts = now - self._first >= self._lasting
            opens = lasts and self._failures >= _MOST and not self.is_open
            self.is_open = self.is_open or opens
        if opens:
            self._changed(str(error))

    def stay_open(self) -> None:
        """Ask no server any more: the agent is closed."""
        with self._lock:
            self.is_open = True

    def close(self) -> None:
        """Ask the server again: a probe has succeeded."""
        with self._lock:
            was_open, self.is_open, self._failures = self.is_open, False, 0
        if was_open:
            self._changed(None)
