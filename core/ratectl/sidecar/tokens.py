"""Tokens of allowed requests, by which callers settle and release them afterwards."""

from __future__ import annotations

import secrets
import threading
from time import monotonic
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from ratectl.engine.decision import Decision

__all__ = ["Tokens"]

_MOST_OPEN: Final = 100_000
_MOST_ENDED: Final = 10_000
_FEW: Final = 1_000
_SWEEP_EVERY: Final = 1.0


class _Held(NamedTuple):
    decision: Decision
    until: float


class Tokens:
    """Allowed requests by their tokens. Thread-safe.

    A token that expires changes nothing: the charge stays, and slots are held until the limit's
    ``hold`` is over. It is forgotten.
    """

    def __init__(self, most: int = _MOST_OPEN, clock: Callable[[], float] = monotonic) -> None:
        self._most = most
        self._clock = clock
        self._open: dict[str, _Held] = {}
        self._ended: dict[str, _Held] = {}
        """Requests that ended last, the oldest first: callers may repeat a release."""
        self._sweep_at = min(_FEW, most)
        self._next_sweep = 0.0
        self._changing = threading.Lock()

    def add(self, decision: Decision, expires: float) -> str | None:
        """Return a new token; None if there are too many.

        :param expires: seconds.
        """
        now = self._clock()
        with self._changing:
            if len(self._open) >= self._sweep_at and now >= self._next_sweep:
                self._sweep(now)
            if len(self._open) >= self._most:
                return None
            token = secrets.token_urlsafe(16)
            self._open[token] = _Held(decision, now + expires)
            return token

    def find(self, token: str) -> Decision | None:
        """Return the request of a token; None if it has expired, or never was."""
        held = self._open.get(token) or self._ended.get(token)
        return held.decision if held is not None and held.until > self._clock() else None

    def end(self, token: str) -> None:
        """Make room for others: the request is over. Its token is still known for a while."""
        with self._changing:
            held = self._open.pop(token, None)
            if held is not None:
                if len(self._ended) >= _MOST_ENDED:
                    del self._ended[next(iter(self._ended))]
                self._ended[token] = held

    def _sweep(self, now: float) -> None:
        """Forget what has expired; the next time when there are twice as many."""
        self._next_sweep = now + _SWEEP_EVERY
        self._open = {token: held for token, held in self._open.items() if held.until > now}
        self._sweep_at = min(self._most, max(_FEW, 2 * len(self._open)))
