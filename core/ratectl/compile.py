"""Compile: a policy tree becomes the plans that an engine runs."""

from __future__ import annotations

from datetime import time
from functools import lru_cache
from typing import TYPE_CHECKING, Final, cast
from zoneinfo import ZoneInfo

from ratectl.collector import paused_collector
from ratectl.engine.base import Algorithm, LimitPlan, PlanSet, ScopePlan
from ratectl.engine.calendar import CalendarWindow
from ratectl.engine.quota import Quota, WallOffset
from ratectl.engine.sliding_window import SlidingWindow
from ratectl.engine.token_bucket import TokenBucket
from ratectl.errors import BundleError
from ratectl.policy.resolve import Resolver

if TYPE_CHECKING:
    from ratectl.engine.calendar import Unit
    from ratectl.policy.limits import Limit
    from ratectl.policy.model import PolicyTree
    from ratectl.policy.rates import Rate
    from ratectl.policy.resets import Resets
    from ratectl.policy.resolve import Resolved

__all__ = ["compile_tree"]

_SAME_CLOCK: Final = WallOffset()
"""For engines that run on the wall clock, as replays do."""


def compile_tree(tree: PolicyTree, generation: int, offset: WallOffset | None = None) -> PlanSet:
    """The plans of every declared scope, caps applied.

    ``offset`` tells quotas the wall clock from the engine's; without one they are the same.

    :raises BundleError: a limit cannot be used (``validate`` would have said so).
    """
    resolver = Resolver(tree)
    compiler = _Compiler(offset or _SAME_CLOCK)
    scopes: dict[str, ScopePlan] = {}
    with paused_collector():
        for scope in tree.policies:
            resolved = resolver.at(scope)
            if resolved is not None:
                scopes[scope] = compiler.scope_plan(resolved)
    return PlanSet(generation, scopes)


class _Compiler:
    """One compilation: budgets are shared by the plans of every scope below them."""

    def __init__(self, offset: WallOffset) -> None:
        self._offset = offset
        self._budgets: dict[tuple[str, str], LimitPlan] = {}

    def scope_plan(self, resolved: Resolved) -> ScopePlan:
        scope = resolved.scope
        for problem in (*resolved.problems.values(), *resolved.broken_budgets.values()):
            raise BundleError(f"{scope}: {problem.message}")
        plans = [self._plan(scope, limit) for limit in resolved.limits.values() if _runs(limit)]
        for owner, budget in resolved.budgets:
            if _runs(budget):
                known = self._budgets.get((owner, budget.name))
                if known is None:
                    known = self._plan(owner, budget, budget=True)
                    self._budgets[owner, budget.name] = known
                plans.append(known)
        return ScopePlan(scope, tuple(plans), resolved.on_error.value == "allow")

    def _plan(self, scope: str, limit: Limit, *, budget: bool = False) -> LimitPlan:
        if limit.resets is None:
            algorithm = _algorithm(limit.algorithm, limit.rate, limit.burst)
        else:
            algorithm = _quota(limit.rate, limit.resets, self._offset)
        return LimitPlan(scope, limit.name, algorithm, limit.per, limit.mode == "shadow", budget)


def _runs(limit: Limit) -> bool:
    """Limits that are off or unlimited have nothing to decide."""
    return limit.mode != "off" and not limit.rate.unlimited


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
