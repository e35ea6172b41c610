"""The answer to "may this request pass?"."""

from __future__ import annotations

from abc import ABCMeta
from typing import TYPE_CHECKING, Any, Final, Literal, Self

from ratectl.errors import UsageError

if TYPE_CHECKING:
    from types import TracebackType

    from ratectl.engine.api import Engine

__all__ = [
    "NEVER",
    "UNKNOWN",
    "Decision",
    "Reason",
    "checked_actual",
    "checked_cost",
    "described",
]

Reason = Literal["ok", "limited", "never", "shadow", "no_policy", "error"]

NEVER: Final = -1
"""In place of a wait in nanoseconds: no wait would help."""

UNKNOWN: Final = -2
"""In place of a wait in nanoseconds: until others release what they hold."""


def checked_cost(cost: object) -> int:
    """Return a cost as a plain number.

    :raises UsageError: it is no cost.
    """
    return _whole("cost", cost)


def checked_actual(actual: object) -> int:
    """Return an actual cost as a plain number.

    :raises UsageError: it is no cost that a request may have had.
    """
    return _whole("an actual cost", actual)


def _whole(name: str, number: object) -> int:
    if isinstance(number, int) and not isinstance(number, bool):
        plain = int.__index__(number)  # a class of its own may compare and compute as it likes
        if plain >= 0:
            return plain
    try:
        shown = repr(number)[:100]
    except Exception:  # noqa: BLE001  of what cannot be shown, too
        shown = f"a {type(number).__name__} that cannot be shown"
    raise UsageError(f"{name} is a whole number, 0 or more, not {shown}")


class Decision(metaclass=ABCMeta):
    """May this request pass, and what decided. True in a condition when allowed.

    ``reason``:

    - ``ok``: every limit admitted it;
    - ``shadow``: admitted, though a shadow limit would have refused;
    - ``limited``: refused now; it would be admitted after ``retry_after`` or, where that is None,
      once others have released their slots;
    - ``never``: refused, and waiting does not help (cost above the burst, or rate zero);
    - ``no_policy``: admitted, because no policy covers the scope;
    - ``error``: the limiter could not decide, and ``on_error`` did.

    The compiled engine's decisions are instances too, of a class of their own with all that this
    one has. A context manager: at its end it releases the slots of concurrency limits.

    >>> with agent.check("/payments") as decision:  # doctest: +SKIP
    ...     if decision: work()
    """

    __slots__ = (
        "_charged",
        "allowed",
        "capacity",
        "generation",
        "limit",
        "reason",
        "remaining",
        "reset_after_ns",
        "retry_after_ns",
        "scope",
    )

    _charged: tuple[Engine, *tuple[Any, ...]] | None
    """What the engine that allowed it remembers of what it charged: itself, then its own notes."""
    allowed: bool
    reason: Reason
    limit: str | None
    """Name of the limit that decided: the refusing one, or the one with the least remaining."""
    scope: str | None
    """Declared scope whose bucket that is."""
    capacity: int | None
    """Most that a full bucket of that limit admits at once: its burst, or its window's count."""
    remaining: int | None
    """Cost that would still be admitted at once, after this decision."""
    retry_after_ns: int | None
    """Nanoseconds until the same request would be admitted: 0 when allowed, None for never, and
    where nobody knows (a concurrency limit)."""
    reset_after_ns: int | None
    """Nanoseconds until that bucket is full again, if nothing else is admitted; None for never, and
    while slots are held."""
    generation: int
    """Policy generation that decided; 0 before any was loaded."""

    def __init__(
        self,
        allowed: bool,
        reason: Reason,
        generation: int,
        limit: str | None = None,
        scope: str | None = None,
        capacity: int | None = None,
        remaining: int | None = None,
        retry_after_ns: int | None = 0,
        reset_after_ns: int | None = 0,
    ) -> None:
        self.allowed = allowed
        self.reason = reason
        self.generation = generation
        self.limit = limit
        self.scope = scope
        self.capacity = capacity
        self.remaining = remaining
        self.retry_after_ns = retry_after_ns
        self.reset_after_ns = reset_after_ns
        self._charged = None

    def __bool__(self) -> bool:
        return self.allowed

    @property
    def retry_after(self) -> float | None:
        """``retry_after_ns`` in seconds."""
        return None if self.retry_after_ns is None else self.retry_after_ns / 1e9

    @property
    def reset_after(self) -> float | None:
        """``reset_after_ns`` in seconds."""
        return None if self.reset_after_ns is None else self.reset_after_ns / 1e9

    def release(self) -> None:
        """Give back the slots that concurrency limits hold for the request, now that it is over.

        Call it as often as you like, from any thread. What limits of other kinds were charged is
        spent; a refused request has nothing to give back.
        """
        if self._charged is not None:
            self._charged[0].release(self)

    def settle(self, actual: int) -> None:
        """Correct the cost, now that it is known: charge the difference, or refund it.

        Every bucket that was charged is corrected, at once, even below empty: later requests wait.
        A refund never makes a bucket fuller than ``actual`` would have left it. The last word
        counts: a second call corrects the first. Slots stay as they are until ``release``.

        Does nothing for a request that charged nothing: refused, without a policy, or let pass by
        ``on_error``.

        :raises UsageError: ``actual`` is negative or not an integer.
        """
        if self._charged is not None:
            self._charged[0].settle(self, actual)
        else:
            checked_actual(actual)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.release()

    def __repr__(self) -> str:
        return described(self)


def described(decision: Decision) -> str:
    """A decision in one line."""
    verdict = "allowed" if decision.allowed else "refused"
    by = f" by {decision.limit}@{decision.scope}" if decision.limit else ""
    known = decision.reason == "limited" and decision.retry_after is not None
    wait = f", retry after {decision.retry_after}s" if known else ""
    left = f", {decision.remaining} of {decision.capacity} left" if decision.limit else ""
    why = f"{verdict} ({decision.reason}){by}{left}{wait}"
    return f"<Decision {why}, generation {decision.generation}>"
