"""Decision: may this request pass, and which limit decided."""

from __future__ import annotations

from abc import ABCMeta
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self

from ratectl.errors import UsageError

if TYPE_CHECKING:
    from types import TracebackType

__all__ = [
    "Decision",
    "Reason",
    "checked_actual",
    "checked_cost",
    "described",
]

Reason = Literal["ok", "limited", "never", "shadow", "no_policy", "error"]


def checked_cost(cost: object) -> int:
    """Return a cost as a plain ``int``.

    :raises UsageError: it is not an integer, or negative.
    """
    return _checked("cost", cost)


def checked_actual(actual: object) -> int:
    """Return an actual cost as a plain ``int``.

    :raises UsageError: it is not an integer, or negative.
    """
    return _checked("an actual cost", actual)


def _checked(name: str, number: object) -> int:
    if isinstance(number, int) and not isinstance(number, bool):
        plain = int.__index__(number)  # a subclass may override comparisons and arithmetic
        if plain >= 0:
            return plain
    try:
        shown = repr(number)[:100]
    except Exception:  # noqa: BLE001  its ``__repr__`` may raise anything
        shown = f"a {type(number).__name__} that cannot be shown"
    raise UsageError(f"{name} is a whole number, 0 or more, not {shown}")


class _Charger(Protocol):
    """Engine that made a decision."""

    def release(self, decision: Decision) -> None: ...

    def settle(self, decision: Decision, actual: int) -> None: ...


class Decision(metaclass=ABCMeta):
    """Answer to one request, and the limit that decided. True in a condition if allowed.

    ``reason``:

    - ``ok``: every limit admitted it;
    - ``shadow``: admitted, though a shadow limit would have refused it;
    - ``limited``: refused now; it would be admitted after ``retry_after`` or, if that is None,
      when other requests have released their slots;
    - ``never``: refused, and waiting does not help (cost above the burst, or rate zero);
    - ``no_policy``: admitted, because no policy covers the scope;
    - ``error``: the limiter failed, and ``on_error`` decided.

    The compiled engine has a class of its own with the same attributes; its decisions are instances
    of this class too. As a context manager, a decision releases its concurrency slots at the end.

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

    _charged: tuple[_Charger, *tuple[Any, ...]] | None
    """Record of the charges, for the engine that made it (see ``buckets.charges.Charged``)."""
    allowed: bool
    reason: Reason
    limit: str | None
    """Name of the limit that decided: the refusing one, or the one with the least remaining."""
    scope: str | None
    """Declared scope of its bucket."""
    capacity: int | None
    """Cost that a full bucket of that limit admits at once: its burst, or its window's count."""
    remaining: int | None
    """Cost that would still be admitted at once, after this decision."""
    retry_after_ns: int | None
    """Nanoseconds until the same request would be admitted; 0 if allowed; None for never, and if it
    cannot be known (a concurrency limit)."""
    reset_after_ns: int | None
    """Nanoseconds until that bucket is full, if nothing else is admitted; None for never, and while
    slots are held."""
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
        """Free the slots that concurrency limits hold for the request, which is over.

        Only the first call has an effect. Any thread may call it. Charges of other limits stay;
        a refused request holds nothing.
        """
        if self._charged is not None:
            self._charged[0].release(self)  # the engine; to unpack all fields takes longer

    def settle(self, actual: int) -> None:
        """Correct the cost after the request: charge the difference, or refund it.

        Every bucket that was charged is corrected at once, even below empty: later requests wait.
        A refund never makes a bucket fuller than a charge of ``actual`` would have left it. A
        second call corrects the first. Slots are held until ``release``.

        A request that charged nothing stays as it is: one that was refused, that no policy covered,
        or that ``on_error`` allowed.

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
    """Return a decision in one line."""
    verdict = "allowed" if decision.allowed else "refused"
    by = f" by {decision.limit}@{decision.scope}" if decision.limit else ""
    known = decision.reason == "limited" and decision.retry_after is not None
    wait = f", retry after {decision.retry_after}s" if known else ""
    left = f", {decision.remaining} of {decision.capacity} left" if decision.limit else ""
    why = f"{verdict} ({decision.reason}){by}{left}{wait}"
    return f"<Decision {why}, generation {decision.generation}>"
