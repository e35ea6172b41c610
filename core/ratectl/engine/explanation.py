"""Explanation: why a request is refused or allowed, and what each limit has left for it.

Plain data: it refers to no engine and no agent, so it can be kept, pickled and written as JSON.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil
from typing import TYPE_CHECKING, Any, Final, Literal

from ratectl.engine.buckets.counters import shown
from ratectl.engine.cost import REQUESTS
from ratectl.runtime.wording import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ratectl.engine.decision import Decision, Reason
    from ratectl.engine.waivers import Waiver

__all__ = ["AsOf", "Explanation", "LimitExplanation", "explanation_of", "merged"]

AsOf = Literal["now", "decision"]

_VERDICTS: Final[Mapping[str, str]] = {
    "never": ", and waiting does not help",
    "shadow": ", though a shadow limit would have refused it",
    "no_policy": ", because no policy covers the scope",
    "error": " by on_error",
}
"""What follows "allowed" or "refused", by reason."""


@dataclass(frozen=True, slots=True)
class LimitExplanation:
    """One limit or budget that decides a request, and what it has left."""

    name: str
    kind: Literal["limit", "budget"] | None
    """None if only the answer of the decision is known."""
    scope: str
    """Declared scope of its buckets."""
    algorithm: str | None
    unit: str
    """Unit that it counts, as ``capacity`` and ``remaining`` do."""
    key: str | None
    """Key of the bucket: ``tenant=acme``; ``(all)`` if all requests share one bucket."""
    capacity: int
    remaining: int
    """Cost that it would admit at once. Of the limit that a decision names: after that decision."""
    retry_after: float | None
    """Seconds until it admits the cost: 0 for now; None for never, and if it is unknown because
    other requests have to release their slots."""
    never: bool
    """True if it refuses the cost and waiting does not help."""
    refuses: bool
    """True if it refuses the cost. A shadow limit refuses no request: it would refuse this one."""
    decides: bool
    """True for the limit that the decision names."""
    consulted: bool
    """False if the cost does not name its unit, or if it skips requests without the attributes that
    it counts per: it neither refuses the request nor counts it."""
    shadow: bool
    overrides: tuple[str, ...]
    """Overrides and exceptions that set its values, such as ``gold@/payments``."""
    declared: str | None
    """Value to change for another limit, and the scope or override that sets it:
    ``limits.spike.rate of /payments``."""
    origin: str | None
    """Place of that value, such as ``payments/team.yaml:8:17``; None if files are not known."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a request gets its answer: the verdict, and every limit that decides such requests.

    ``str()`` gives a text of several lines, and ``as_dict()`` data for JSON.
    """

    scope: str | None
    """Scope that was asked for; None if it is not remembered."""
    declared_scope: str | None
    """Declared scope whose policy governs it; None if there is none, or if it is not known."""
    cost: int | Mapping[str, int] | None
    generation: int
    """Generation that decided; 0 before any was in force."""
    allowed: bool
    reason: Reason
    limit: str | None
    """Limit that decided, as in ``Decision``: the refusing one, or the one with the least left."""
    limit_scope: str | None
    unit: str | None
    capacity: int | None
    remaining: int | None
    """Cost that this limit would still admit at once: after the charge, if it is allowed."""
    retry_after: float | None
    reset_after: float | None
    limits: tuple[LimitExplanation, ...] = ()
    """Limits and budgets in the order in which they are asked; empty if they are not known."""
    as_of: AsOf = "now"
    """Instant of the numbers of ``limits``. ``now``: that of the explanation; only those of the
    limit that a decision names are of the decision. ``decision``: no others are known."""
    waived: Waiver | None = None
    """Kill switch that is on there now: ``open`` (no limit is evaluated) or ``shadow``."""
    notes: tuple[str, ...] = ()
    """What else a reader should know, in sentences."""

    def as_dict(self) -> dict[str, Any]:
        """Return the explanation as data for JSON."""
        data = {name: getattr(self, name) for name in self.__slots__}
        limits = [{name: getattr(limit, name) for name in limit.__slots__} for limit in self.limits]
        for limit in limits:
            limit["overrides"] = list(limit["overrides"])
        cost = self.cost if isinstance(self.cost, int | None) else dict(self.cost)
        return {**data, "cost": cost, "limits": limits, "notes": list(self.notes)}

    def __str__(self) -> str:
        return "\n".join(_lines(self))


def explanation_of(decision: Decision, scope: str | None = None, *notes: str) -> Explanation:
    """Return the explanation that a decision alone can give."""
    known = decision.limit is not None
    return Explanation(
        scope=None if scope is None else shown(scope),
        declared_scope=None if known else decision.scope,
        cost=None,
        generation=decision.generation,
        allowed=decision.allowed,
        reason=decision.reason,
        limit=decision.limit,
        limit_scope=decision.scope if known else None,
        unit=decision.unit,
        capacity=decision.capacity,
        remaining=decision.remaining,
        retry_after=decision.retry_after,
        reset_after=decision.reset_after,
        limits=(_decisive(decision),) if known else (),
        as_of="decision",
        notes=notes,
    )


def _decisive(decision: Decision) -> LimitExplanation:
    """Return the limit that decided, with the numbers of the decision."""
    refuses = decision.reason in ("limited", "never", "shadow")
    return LimitExplanation(
        name=decision.limit or "",
        kind=None,
        scope=decision.scope or "",
        algorithm=None,
        unit=decision.unit or REQUESTS,
        key=None,
        capacity=decision.capacity or 0,
        remaining=decision.remaining or 0,
        retry_after=decision.retry_after,
        never=decision.reason == "never",
        refuses=refuses,
        decides=True,
        consulted=True,
        shadow=decision.reason == "shadow",
        overrides=(),
        declared=None,
        origin=None,
    )


def merged(decided: Explanation, live: Explanation, *notes: str) -> Explanation:
    """Return the answer of a decision, with the limits as they are now.

    The numbers of the limit that decided are those of the decision.
    """
    limits = [replace(limit, decides=False) for limit in live.limits]
    for of in decided.limits:
        at = _index_of(of, limits)
        if at is None:
            limits.insert(0, of)
        else:
            limits[at] = _then(limits[at], of)
    return replace(
        decided,
        scope=live.scope,
        declared_scope=live.declared_scope,
        cost=live.cost,
        limits=tuple(limits),
        as_of="now",
        waived=live.waived,
        notes=(*decided.notes, *notes),
    )


def _index_of(of: LimitExplanation, limits: Sequence[LimitExplanation]) -> int | None:
    """Return the position of the limit that a decision names; None if it is gone.

    A limit and a budget of one scope may have the same name: then it is the one that fits better.
    """
    same = [
        at
        for at, limit in enumerate(limits)
        if (limit.name, limit.scope, limit.unit) == (of.name, of.scope, of.unit)
    ]

    def misfit(at: int) -> tuple[bool, bool]:
        return limits[at].capacity != of.capacity, limits[at].refuses != of.refuses

    return min(same, key=misfit, default=None)


def _then(limit: LimitExplanation, of: LimitExplanation) -> LimitExplanation:
    """Return a limit with the numbers of a decision."""
    return replace(
        limit,
        capacity=of.capacity,
        remaining=of.remaining,
        retry_after=limit.retry_after if of.shadow else of.retry_after,
        never=of.never,
        refuses=of.refuses,
        decides=True,
        shadow=limit.shadow or of.shadow,
    )


# Text -------------------------------------------------------------------------------------------


def _lines(of: Explanation) -> Iterator[str]:
    yield f"{_verdict(of)}, generation {of.generation}"
    rows = [_row(limit) for limit in of.limits]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        yield f"  {'  '.join(cells)}".rstrip()
    for note in of.notes:
        yield f"  note: {printable(note)}"


def _verdict(of: Explanation) -> str:
    verdict = ("allowed" if of.allowed else "refused") + _VERDICTS.get(of.reason, "")
    if of.scope is None:
        return verdict
    declared = of.declared_scope
    by = "" if declared in (None, of.scope) else f", by the policy of {declared}"
    return f"{verdict}: {printable(of.scope)}{by}"


def _row(limit: LimitExplanation) -> tuple[str, str, str, str]:
    """Return the limit, what it has left, the place of its value, and a mark."""
    budget = "budget " if limit.kind == "budget" else ""
    overrides = f" [{', '.join(limit.overrides)}]" if limit.overrides else ""
    left = f"{limit.remaining} of {limit.capacity} {limit.unit} left"
    if limit.key not in (None, "(all)"):
        left += f" for {printable(limit.key or '')}"
    name = f"{budget}{limit.name}{overrides} @ {limit.scope}"
    place = limit.origin or limit.declared or ""
    return name, left + _wait(limit), printable(place), _mark(limit)


def _wait(limit: LimitExplanation) -> str:
    if not limit.refuses:
        return ""
    if limit.never:
        return ", never admits this cost"
    if limit.retry_after is None:
        return ", retry when a slot is released"
    return f", retry after {_seconds(limit.retry_after)}"


def _mark(limit: LimitExplanation) -> str:
    if not limit.consulted:
        return "not consulted"
    if limit.refuses:
        return "<- would refuse (shadow)" if limit.shadow else "<- refuses"
    return "shadow" if limit.shadow else ""


def _seconds(seconds: float) -> str:
    """Return a time as text, rounded up: after it the request passes."""
    tenths = ceil(round(seconds * 10, 6))
    return f"{tenths / 10:.1f}".removesuffix(".0") + " s"
