"""Changes: what differs between one publication and the next, limit by limit."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from ratectl.engine.comparison import Comparison
from ratectl.engine.conditional_limit import LimitChoice
from ratectl.engine.limit_plan import LimitPlan

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ratectl.engine.api import PlanSet, ScopePlan
    from ratectl.engine.limit_plan import Identity

__all__ = ["Change", "Limit", "LimitName", "Step", "compare"]

Limit = LimitPlan | LimitChoice

LimitName = tuple[str, bool]
"""Name of a limit, or of a budget (True), whatever its scope."""

_NOTHING: Final[Mapping[Any, Any]] = {}


@dataclass(slots=True, eq=False)
class Change:
    """One publication: what was different before."""

    seq: int = 0
    at: int = 0
    """Instant, in nanoseconds."""
    declared: dict[str, bool] = field(default_factory=dict)
    """Scopes whose declaration came or went: True if it went."""
    limits: dict[LimitName, dict[Identity, Limit | None]] = field(default_factory=dict)
    """Limits that differ, by name: what they were before."""
    left: dict[LimitName, set[Identity]] = field(default_factory=dict)
    """Limits whose buckets some requests may have left, though the limits may still be there."""

    def before(self, identity: Identity) -> tuple[Limit | None] | None:
        """Return, in a tuple, what a limit was before; None if it did not differ."""
        of_name = self.limits.get(identity[1:])
        return (of_name[identity],) if of_name is not None and identity in of_name else None

    def of(self, name: str) -> Mapping[Identity, Limit | None]:
        """Return what the limits of a name were before, if they differ."""
        return self.limits.get((name, False), _NOTHING)

    def differs(self, identity: Identity) -> bool:
        """Return True if the change is about a limit."""
        return self.before(identity) is not None or self.was_left(identity)

    def was_left(self, identity: Identity) -> bool:
        """Return True if requests may have left the buckets of a limit."""
        return identity in self.left.get(identity[1:], ())

    def leave(self, identity: Identity) -> None:
        """Note that requests may have left the buckets of a limit."""
        self.left.setdefault(identity[1:], set()).add(identity)

    def names(self) -> set[LimitName]:
        """Return the names of the limits that the change is about."""
        return {*self.limits, *self.left}

    def forget(self, name: LimitName) -> bool:
        """Forget what the change says about limits of a name. Return True if nothing is left."""
        self.limits.pop(name, None)
        self.left.pop(name, None)
        return not self.limits and not self.left


@dataclass(slots=True, eq=False)
class Step:
    """A publication that is being prepared, or under way."""

    plans: PlanSet
    change: Change = field(default_factory=Change)
    moves: list[tuple[Identity, Limit | None, Limit]] = field(default_factory=list)
    """Where requests are from now on, their limit before (None: it comes), and from now on."""
    compared: Comparison = field(default_factory=Comparison)


def compare(old: PlanSet, new: PlanSet, pause: Callable[[], object]) -> Step:
    """Compare two sets of plans. ``pause`` is called after each scope."""
    step = Step(new)
    for scope in (*new.scopes, *(scope for scope in old.scopes if scope not in new.scopes)):
        pause()
        before, after = old.scopes.get(scope), new.scopes.get(scope)
        if before is None or after is None:
            step.change.declared[scope] = before is not None
        _compare_scope(step, scope, before, after)
        if before is None and after is not None:
            _move(step, old.find(scope), after, arriving=True)
        elif after is None and before is not None:
            _move(step, before, new.find(scope), arriving=False)
    return step


def _compare_scope(
    step: Step, scope: str, before: ScopePlan | None, after: ScopePlan | None
) -> None:
    olds, news = _own(scope, before), _own(scope, after)
    for identity in (*news, *(identity for identity in olds if identity not in news)):
        old, new = olds.get(identity), news.get(identity)
        alike, equal = _compared(step.compared, old, new)
        if equal:
            continue
        step.change.limits.setdefault(identity[1:], {})[identity] = old
        if not alike:
            step.change.leave(identity)
        if old is not None and new is not None and not _of_two_units(old, new):
            step.moves.append((identity, old, new))
            continue
        if old is not None:
            step.moves.append((identity, old, old))  # if it comes back, its last rate has counted
        if new is not None:
            step.moves.append((identity, None, new))


def _move(step: Step, old: ScopePlan | None, new: ScopePlan | None, *, arriving: bool) -> None:
    """Note that requests move between the limits of two scopes, one of which came or went."""
    if old is None:
        return
    for before in old.limits:
        if before.budget:
            continue
        after = None if new is None else new.limit(before.name)
        if after is not None:
            step.moves.append((after.identity, before, after))
        else:  # if the limit comes there, its last rate has counted
            scope = before.scope if new is None else new.scope
            step.moves.append(((scope, before.name, False), before, before))
        if arriving:
            step.change.leave(before.identity)


def _own(scope: str, plan: ScopePlan | None) -> dict[Identity, Limit]:
    limits = () if plan is None else plan.limits
    return {limit.identity: limit for limit in limits if limit.scope == scope}


def _compared(compared: Comparison, old: Limit | None, new: Limit | None) -> tuple[bool, bool]:
    """Return True, True for limits with the same buckets, and with the same parameters."""
    if isinstance(old, LimitChoice) and isinstance(new, LimitChoice):
        alike, equal = compared.choices(old, new)
        return alike, alike and equal
    if isinstance(old, LimitPlan) and isinstance(new, LimitPlan):
        alike = old.per == new.per and old.unit == new.unit
        same = (old.shadow, old.skips, old.algorithm) == (new.shadow, new.skips, new.algorithm)
        return alike, alike and same
    return False, False


def _of_two_units(old: Limit, new: Limit) -> bool:
    """Return True if nothing is carried over from one limit to another, as their units differ."""
    return isinstance(old, LimitPlan) and isinstance(new, LimitPlan) and old.unit != new.unit
