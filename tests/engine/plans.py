"""Published limits, in the oracle's words, as an engine's plans."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.model import Verdict
from engine.rules import Rule, Tokens, Window
from ratectl.engine.base import LimitPlan, PlanSet, ScopePlan
from ratectl.engine.sliding_window import SlidingWindow
from ratectl.engine.token_bucket import TokenBucket

if TYPE_CHECKING:
    from collections.abc import Iterable

    from engine.model import Limit, Published
    from ratectl.engine.base import Algorithm
    from ratectl.engine.decision import Decision

FIELDS = Verdict._fields


def algorithm(rule: Rule) -> Algorithm:
    if isinstance(rule, Tokens):
        return TokenBucket(rule.count, rule.span, rule.burst)
    return SlidingWindow(rule.most, rule.length, blocked=rule.blocked)


def by_scope(*limits: Limit, bare: Iterable[str] = ()) -> Published:
    """Limits as they would be published; ``bare`` scopes are declared and have none."""
    published: dict[str, list[Limit]] = {scope: [] for scope in bare}
    for limit in limits:
        published.setdefault(limit.scope, []).append(limit)
    return {scope: tuple(of) for scope, of in published.items()}


def plan_set(generation: int, published: Published) -> PlanSet:
    shared: dict[Rule, Algorithm] = {}
    scopes: dict[str, ScopePlan] = {}
    for scope, limits in published.items():
        plans = []
        for limit in limits:
            maths = shared.setdefault(limit.rule, algorithm(limit.rule))
            plans.append(LimitPlan(scope, limit.name, maths, limit.per, limit.shadow))
        scopes[scope] = ScopePlan(scope, tuple(plans), True)
    return PlanSet(generation, scopes)


def verdict(decision: Decision) -> Verdict:
    """Every field of a decision."""
    return Verdict(*[getattr(decision, name) for name in FIELDS])


def rate(count: int, span_s: int = 1, burst: int | None = None) -> Tokens:
    return Tokens(count, span_s * 10**9, count if burst is None else burst)


def window(most: int, length_s: int = 1) -> Window:
    return Window(most, length_s * 10**9, blocked=not most)
