"""Compile: a policy tree becomes the plans that an engine runs."""

from __future__ import annotations

from datetime import time
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast
from zoneinfo import ZoneInfo

from ratectl.compiler.conditional_limits import Choices
from ratectl.engine.algorithms.calendar import CalendarWindow
from ratectl.engine.algorithms.concurrency import Concurrency
from ratectl.engine.algorithms.quota import Quota, WallOffset
from ratectl.engine.algorithms.sliding_window import SlidingWindow
from ratectl.engine.algorithms.token_bucket import TokenBucket
from ratectl.engine.api import Algorithm, LimitPlan, PlanSet, ScopePlan
from ratectl.errors import BundleError
from ratectl.policy.resolution.conditions import NO_CONDITIONS
from ratectl.policy.resolution.resolver import Resolver
from ratectl.runtime.cooperative import paced, release
from ratectl.runtime.gc_pause import paused_collector

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ratectl.engine.algorithms.calendar import Unit
    from ratectl.engine.conditional_limit import LimitChoice
    from ratectl.policy.language.model import PolicyTree
    from ratectl.policy.language.rates import Rate
    from ratectl.policy.language.resets import Resets
    from ratectl.policy.resolution.conditions import PathConditions
    from ratectl.policy.resolution.effective_limit import Limit
    from ratectl.policy.resolution.resolver import Resolved

__all__ = ["Compiled", "compile_tree", "compiled"]

_SAME_CLOCK: Final = WallOffset()
"""For engines that run on the wall clock, as replays do."""


class Compiled(NamedTuple):
    """The plans of a tree, and what they keep alive."""

    plans: PlanSet
    workings: tuple[Mapping[Any, object], ...] = ()
    """What plans that depend on the request go on asking: large, like the plans."""

    def parts(self) -> list[list[object]]:
        """Everything that it consists of, to be let go piece by piece (see ``pacing.release``)."""
        containers = self.plans.scopes, *self.workings
        # They go first: while one of them lives, so does what is in it.
        return [list(containers), *(list(each.values()) for each in paced(containers))]


def compile_tree(
    tree: PolicyTree,
    generation: int,
    offset: WallOffset | None = None,
    now_ns: int | None = None,
) -> PlanSet:
    """The plans of every declared scope, caps applied: see ``compiled``."""
    return compiled(tree, generation, offset, now_ns).plans


def compiled(
    tree: PolicyTree,
    generation: int,
    offset: WallOffset | None = None,
    now_ns: int | None = None,
) -> Compiled:
    """The plans of every declared scope, caps applied.

    ``offset`` tells quotas the wall clock from the engine's; without one they are the same.
    ``now_ns`` is the wall clock's time, whose exceptions are in force; None leaves them all out.

    :raises BundleError: a limit cannot be used (``validate`` would have said so).
    """
    release()  # what others were made from, and nobody asks any more
    resolver = Resolver(tree, now_ns)
    compiler = _Compiler(tree, resolver, offset or _SAME_CLOCK)
    scopes: dict[str, ScopePlan] = {}
    with paused_collector():
        for scope in paced(tree.policies):
            resolved = resolver.at(scope)
            if resolved is not None:
                scopes[scope] = compiler.scope_plan(resolved)
    until = None if now_ns is None or not tree.exceptions else tree.next_change(now_ns)
    plans = PlanSet(generation, scopes, until)
    workings = (*resolver.workings, *compiler.workings)
    if resolver.conditions.any:
        return Compiled(plans, workings)
    spent = Compiled(PlanSet(0), workings).parts()
    del resolver, compiler, workings
    release(*spent)
    # Who keeps the tree until exceptions begin has to let it go as well.
    return Compiled(plans, (tree.policies,) if tree.exceptions else ())


class _Compiler:
    """One compilation: budgets are shared by the plans of every scope below them."""

    def __init__(self, tree: PolicyTree, resolver: Resolver, offset: WallOffset) -> None:
        self._places = resolver.conditions
        # No method: what refers to itself is freed by the cycle collector alone, all at once.
        self._plan = partial(_plan, offset)
        self._choices = Choices(tree, resolver, self._plan)
        self._budgets: dict[tuple[str, str], LimitPlan | LimitChoice | None] = {}

    @property
    def workings(self) -> tuple[Mapping[Any, object], ...]:
        """What it remembers."""
        return self._choices.workings

    def scope_plan(self, resolved: Resolved) -> ScopePlan:
        scope = resolved.scope
        for name, problem in resolved.problems.items():
            if name not in resolved.limits:
                raise BundleError(f"{scope}: {problem.message}")
        usable = {budget.name for owner, budget in resolved.budgets if owner == scope}
        for name, problem in resolved.broken_budgets.items():
            if name not in usable:
                raise BundleError(f"{scope}: {problem.message}")
        place = self._places.at(scope) if self._places.any else NO_CONDITIONS
        plans = self._limits(resolved, place)
        for owner, budget in resolved.budgets:
            key = (owner, budget.name)
            if key not in self._budgets:
                self._budgets[key] = self._budget(owner, budget)
            plan = self._budgets[key]
            if plan is not None:
                plans.append(plan)
        conditions = self._choices.conditions(place)
        return ScopePlan(scope, tuple(plans), resolved.on_error.value == "allow", conditions)

    def _limits(self, resolved: Resolved, place: PathConditions) -> list[LimitPlan | LimitChoice]:
        scope = resolved.scope
        if not place.conditions:
            plans = [self._plan(scope, limit, False) for limit in resolved.limits.values()]
            return [plan for plan in plans if plan is not None]
        choices = self._choices.limits(scope, place)
        found: list[LimitPlan | LimitChoice] = []
        for name, limit in resolved.limits.items():
            plan = choices.pop(name, None) or self._plan(scope, limit, False)
            if plan is not None:
                found.append(plan)
        return [*found, *choices.values()]

    def _budget(self, owner: str, budget: Limit) -> LimitPlan | LimitChoice | None:
        choice = self._choices.budget(owner, self._places.at(owner), budget.name)
        return choice or self._plan(owner, budget, True)


def _plan(offset: WallOffset, scope: str, limit: Limit, budget: bool) -> LimitPlan | None:
    if limit.mode == "off" or limit.unlimited:
        return None  # nothing to decide
    algorithm = _algorithm_of(limit, offset)
    return LimitPlan(
        scope, limit.name, algorithm, limit.per, limit.mode == "shadow", budget, limit.touched
    )


def _algorithm_of(limit: Limit, offset: WallOffset) -> Algorithm:
    if limit.rate is None:
        assert limit.max is not None
        assert limit.hold is not None
        return _concurrency(limit.max, limit.hold.ns)
    if limit.resets is not None:
        return _quota(limit.rate, limit.resets, offset)
    return _algorithm(limit.algorithm, limit.rate, limit.burst)


@lru_cache(maxsize=4_096)
def _concurrency(most: int, hold_ns: int) -> Concurrency:
    return Concurrency(most, hold_ns)


@lru_cache(maxsize=4_096)
def _quota(rate: Rate, resets: Resets, offset: WallOffset) -> Quota:
    window = CalendarWindow(
        unit=cast("Unit", rate.unit),
        zone=ZoneInfo(resets.zone),
        at=time(resets.hour, resets.minute),
        weekday=resets.weekday or 0,
        day=resets.day or 1,
    )
    return Quota(rate.numerator, window, offset, blocked=not rate.numerator)


@lru_cache(maxsize=65_536)
def _algorithm(kind: str, rate: Rate, burst: int | None) -> Algorithm:
    """Equal parameters share one object, which makes comparing generations cheap."""
    window = rate.window_ns
    if window is None:
        raise BundleError(f"a rate of {rate} has no fixed length, so no bucket can follow it")
    if kind == "sliding-window":
        return SlidingWindow(rate.numerator, window, blocked=not rate.numerator)
    assert burst is not None
    return TokenBucket(rate.numerator, rate.denominator * window, burst)
