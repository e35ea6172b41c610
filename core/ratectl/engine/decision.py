"""Decision: may this request pass, and which limit decided."""

from __future__ import annotations

from abc import ABCMeta
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, Protocol, Self

from ratectl.engine.cost import REQUESTS, checked_actual
from ratectl.engine.explanation import explanation_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from ratectl.engine.cost import Cost
    from ratectl.engine.explanation import Explanation

__all__ = [
    "Asked",
    "Decision",
    "Reason",
    "described",
    "explained_alone",
    "reduced",
]

Reason = Literal["ok", "limited", "never", "shadow", "no_policy", "error"]


_COPY: Final = "only the answer of this decision is known: what other limits had left is not"


class _Charger(Protocol):
    """Engine that made a decision."""

    def explain_decision(self, decision: Decision) -> Explanation: ...

    def release(self, decision: Decision) -> None: ...

    def settle(self, decision: Decision, actual: Cost) -> None: ...


class Asked(NamedTuple):
    """Request of a decision that charged nothing, for its explanation."""

    engine: _Charger
    scope: str | None
    attributes: Mapping[str, str] | None = None
    cost: Cost = 1
    looks: Sequence[tuple[Any, ...]] = ()
    """Group and key of each limit that was asked, and more."""
    note: str | None = None
    """Why ``on_error`` answered."""


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
        "_asked",
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
        "unit",
    )

    _charged: tuple[_Charger, *tuple[Any, ...]] | None
    """Record of the charges, for the engine that made it (see ``buckets.charges.Charged``)."""
    _asked: tuple[Any, ...] | None
    """Fields of ``Asked``; None if the decision has charges, and for a copy."""
    allowed: bool
    reason: Reason
    limit: str | None
    """Name of the limit that decided: the refusing one, or the one with the least remaining cost,
    as a share of its capacity."""
    scope: str | None
    """Declared scope of its bucket."""
    unit: str | None
    """Unit that the limit counts, as ``capacity`` and ``remaining`` do; None without a limit."""
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
        unit: str | None = None,
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
        self.unit = unit
        self._charged = self._asked = None

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

    def settle(self, actual: Cost) -> None:
        """Correct the cost after the request: charge the difference, or refund it.

        ``actual``: the number of requests, or a mapping of units, which corrects only the units
        that it names. If the cost did not name a unit, the limits that count it now are charged.
        Every bucket that was charged is corrected at once, even below empty: later requests wait.
        A refund never makes a bucket fuller than a charge of ``actual`` would have left it. A
        second call corrects the first. Slots are held until ``release``.

        A request that charged nothing stays as it is: one that was refused, that no policy covered,
        or that ``on_error`` allowed.

        :raises UsageError: ``actual`` is no cost; or it is an integer after a mapping of units.
        """
        if self._charged is not None:
            self._charged[0].settle(self, actual)
        else:
            checked_actual(actual, 0)

    def explain(self) -> Explanation:
        """Say why: the limit that decided, where its value is set, and what other limits have left.

        The answer, and the numbers of the limit that decided, are those of this decision. The other
        limits are read now, for the attributes of the request: do not change those before. Nothing
        is charged or counted. Never raises, and never blocks.
        """
        record = self._charged if self._asked is None else self._asked
        return explained_alone(self) if record is None else record[0].explain_decision(self)

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

    def __reduce__(self) -> tuple[type[Decision], tuple[Any, ...]]:
        """Pickle and copy the answer, without its charges: releasing a copy frees nothing."""
        return reduced(self)


def explained_alone(decision: Decision) -> Explanation:
    """Return the explanation of a decision whose engine is gone or not known."""
    return explanation_of(decision, None, _COPY)


def reduced(decision: Decision) -> tuple[type[Decision], tuple[Any, ...]]:
    """Return what makes a copy of a decision of any engine."""
    return Decision, (
        decision.allowed,
        decision.reason,
        decision.generation,
        decision.limit,
        decision.scope,
        decision.capacity,
        decision.remaining,
        decision.retry_after_ns,
        decision.reset_after_ns,
        decision.unit,
    )


def described(decision: Decision) -> str:
    """Return a decision in one line."""
    verdict = "allowed" if decision.allowed else "refused"
    by = f" by {decision.limit}@{decision.scope}" if decision.limit else ""
    known = decision.reason == "limited" and decision.retry_after is not None
    wait = f", retry after {decision.retry_after}s" if known else ""
    unit = f" {decision.unit}" if decision.unit not in (None, REQUESTS) else ""
    left = f", {decision.remaining} of {decision.capacity}{unit} left" if decision.limit else ""
    why = f"{verdict} ({decision.reason}){by}{left}{wait}"
    return f"<Decision {why}, generation {decision.generation}>"
