"""Published limits, in the oracle's words, as an engine's plans."""

from __future__ import annotations

from datetime import time
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from engine.model import Verdict
from engine.rules import Quota, Rule, Slots, Tokens, Window
from ratectl.engine.algorithms.calendar import CalendarWindow
from ratectl.engine.algorithms.concurrency import Concurrency
from ratectl.engine.algorithms.quota import Quota as EngineQuota
from ratectl.engine.algorithms.quota import WallOffset
from ratectl.engine.algorithms.sliding_window import SlidingWindow
from ratectl.engine.algorithms.token_bucket import TokenBucket
from ratectl.engine.api import PlanSet, ScopePlan
from ratectl.engine.limit_plan import LimitPlan

if TYPE_CHECKING:
    from collections.abc import Iterable

    from engine.model import Limit, Published
    from ratectl.engine.algorithms.protocol import Algorithm
    from ratectl.engine.decision import Decision

FIELDS = Verdict._fields


BERLIN = ZoneInfo("Europe/Berlin")


def algorithm(rule: Rule, offset: WallOffset | None = None) -> Algorithm[Any]:
    if isinstance(rule, Tokens):
        return TokenBucket(rule.count, rule.span, rule.burst)
    if isinstance(rule, Window):
        return SlidingWindow(rule.most, rule.length, blocked=rule.blocked, cells=rule.cells)
    if isinstance(rule, Slots):
        return Concurrency(rule.most, rule.hold)
    assert isinstance(rule, Quota)
    window = CalendarWindow(rule.unit)
    if rule.unit == "day":
        window = CalendarWindow("day", BERLIN, time(rule.at // 60, rule.at % 60))
    return EngineQuota(rule.most, window, offset or WallOffset(), blocked=rule.blocked)


def by_scope(*limits: Limit, bare: Iterable[str] = ()) -> Published:
    """Return limits by scope, as published; ``bare`` scopes are declared without limits."""
    published: dict[str, list[Limit]] = {scope: [] for scope in bare}
    for limit in limits:
        published.setdefault(limit.scope, []).append(limit)
    return {scope: tuple(of) for scope, of in published.items()}


def plan_set(generation: int, published: Published, offset: WallOffset | None = None) -> PlanSet:
    """Limits of the scope itself first, then the budgets on its path from ``/`` down."""
    shared: dict[Rule, Algorithm[Any]] = {}
    plans: dict[Limit, LimitPlan] = {}
    for limit in (each for limits in published.values() for each in limits):
        maths = shared.setdefault(limit.rule, algorithm(limit.rule, offset))
        plans[limit] = LimitPlan(
            scope=limit.scope,
            name=limit.name,
            algorithm=maths,
            per=limit.per,
            shadow=limit.shadow,
            budget=limit.budget,
            unit=limit.unit,
            skips=limit.skips,
        )
    scopes: dict[str, ScopePlan] = {}
    for scope, limits in published.items():
        above = [published[at] for at in sorted(published, key=len) if _covers(at, scope)]
        budgets = [each for of in above for each in of if each.budget]
        governing = [*(each for each in limits if not each.budget), *budgets]
        scopes[scope] = ScopePlan(scope, tuple(plans[each] for each in governing), True)
    return PlanSet(generation, scopes)


def _covers(above: str, scope: str) -> bool:
    return above in ("/", scope) or scope.startswith(f"{above}/")


def verdict(decision: Decision) -> Verdict:
    """Return every field of a decision."""
    return Verdict(*[getattr(decision, name) for name in FIELDS])


def rate(count: int, span_s: int = 1, burst: int | None = None) -> Tokens:
    return Tokens(count, span_s * 10**9, count if burst is None else burst)


def window(most: int, length_s: int = 1) -> Window:
    return Window(most, length_s * 10**9, blocked=not most)
