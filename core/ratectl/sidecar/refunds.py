"""Charges of requests that Envoy may give back, by the identity of the request."""

from __future__ import annotations

import threading
from time import monotonic
from typing import TYPE_CHECKING, Final, NamedTuple

from ratectl.engine.cost import REQUESTS

if TYPE_CHECKING:
    from collections.abc import Callable

    from ratectl.engine.decision import Decision
    from ratectl.sidecar.questions import Question

__all__ = ["Refunds"]

_LONGEST: Final = 60.0
"""Seconds from a charge to its refund."""
_MOST: Final = 10_000
"""Charges that are remembered; the oldest are forgotten."""
_LONGEST_IDENTITY: Final = 256
"""Characters."""

_Key = tuple[str, str, frozenset[tuple[str, str]]]


class _Charge(NamedTuple):
    decision: Decision
    hits: int
    unit: str
    until: float


class Refunds:
    """Remembers the latest charge of each request, and gives it back once. Thread-safe."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._charges: dict[_Key, _Charge] = {}
        """The oldest first."""
        self._changing = threading.Lock()

    def note(self, question: Question, decision: Decision) -> None:
        """Remember what an admitted request was charged."""
        key = _key(question)
        unit, hits = _hits(question)
        if key is None or not hits:
            return
        with self._changing:
            now = self._clock()
            self._charges.pop(key, None)  # the new one is the youngest
            while self._charges:
                oldest = next(iter(self._charges))
                if self._charges[oldest].until > now and len(self._charges) < _MOST:
                    break
                del self._charges[oldest]
            self._charges[key] = _Charge(decision, hits, unit, now + _LONGEST)

    def give_back(self, question: Question) -> bool:
        """Give back what a request was charged, at most the hits of the question.

        Return False if there is no such charge: the request was refused, or charged too long ago,
        or all was given back.
        """
        key = _key(question)
        if key is None:
            return False
        with self._changing:
            charge = self._charges.pop(key, None)
        unit, hits = _hits(question)
        if charge is None or charge.until <= self._clock() or unit != charge.unit:
            return False
        left = max(0, charge.hits - hits)
        charge.decision.settle(left if unit == REQUESTS else {unit: left})
        return True


def _key(question: Question) -> _Key | None:
    """Return what a charge and its refund have in common; None if that is not known."""
    if question.request is None or not 0 < len(question.request) <= _LONGEST_IDENTITY:
        return None
    return question.request, question.scope, frozenset(question.attributes.items())


def _hits(question: Question) -> tuple[str, int]:
    """Return the unit that a question counts, and how many."""
    if isinstance(question.cost, int):
        return REQUESTS, question.cost
    return next((unit, hits) for unit, hits in question.cost.items() if unit != REQUESTS)
