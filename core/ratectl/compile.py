"""Compile: a policy tree becomes the plans that an engine runs."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from ratectl.collector import paused_collector
from ratectl.engine.base import Algorithm, LimitPlan, PlanSet, ScopePlan
from ratectl.engine.sliding_window import SlidingWindow
from ratectl.engine.token_bucket import TokenBucket
from ratectl.errors import BundleError
from ratectl.policy.resolve import Resolver

if TYPE_CHECKING:
    from ratectl.policy.model import PolicyTree
    from ratectl.policy.rates import Rate
    from ratectl.policy.resolve import Limit, Resolved

__all__ = ["compile_tree"]


def compile_tree(tree: PolicyTree, generation: int) -> PlanSet:
    """The plans of every declared scope, caps applied.

    :raises BundleError: a limit cannot be used (``validate`` would have said so).
    """
    resolver = Resolver(tree)
    scopes: dict[str, ScopePlan] = {}
    with paused_collector():
        for scope in tree.policies:
            resolved = resolver.at(scope)
            if resolved is not None:
                scopes[scope] = _scope_plan(resolved)
    return PlanSet(generation, scopes)


def _scope_plan(resolved: Resolved) -> ScopePlan:
    scope = resolved.scope
    for problem in resolved.problems.values():
        raise BundleError(f"{scope}: {problem.message}")
    limits = tuple(
        [
            LimitPlan(
                scope, limit.name, _algorithm(limit.algorithm, limit.rate, limit.burst),
                limit.per, limit.mode == "shadow",
            )
            for limit in resolved.limits.values()
            if _runs(limit)
        ]
    )  # fmt: skip
    return ScopePlan(scope, limits, resolved.on_error.value == "allow")


def _runs(limit: Limit) -> bool:
    """Limits that are off or unlimited have nothing to decide."""
    return limit.mode != "off" and not limit.rate.unlimited


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
