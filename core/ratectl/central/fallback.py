"""Counting in this process while the server fails: each process uses its part of every limit.

The part is the limit divided by the number of live processes, at least 1. If that number is not
known, it is the whole limit: a limiter that fails allows requests.
"""

from __future__ import annotations

import threading
from copy import copy
from typing import TYPE_CHECKING, Any

from ratectl.engine.algorithms.concurrency import Concurrency
from ratectl.engine.algorithms.quota import Quota
from ratectl.engine.algorithms.sliding_window import SlidingWindow
from ratectl.engine.algorithms.token_bucket import TokenBucket
from ratectl.engine.api import PlanSet, ScopePlan
from ratectl.engine.conditional_limit import LimitChoice
from ratectl.engine.limit_plan import LimitPlan

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ratectl.engine.algorithms.protocol import Algorithm
    from ratectl.engine.api import Engine
    from ratectl.engine.conditional_limit import Mask
    from ratectl.engine.cost import Cost
    from ratectl.engine.decision import Decision

__all__ = ["Fallback", "part_of"]


class Fallback:
    """Engine that counts this process's part of the central limits. Thread-safe."""

    def __init__(self, open_engine: Callable[[], Engine]) -> None:
        self._open_engine = open_engine
        self._engine: Engine | None = None
        self._in_force: tuple[PlanSet, int] | None = None
        self._changing = threading.Lock()

    def decide(
        self, plans: PlanSet, processes: int, scope: str, attributes: Mapping[str, str], cost: Cost
    ) -> Decision:
        """Decide by this process's part of the central limits ``plans``."""
        decision = self._following(plans, processes).check(scope, attributes, cost)
        if decision.reason == "never" and processes > 1:
            # This part is too small; the limit may not be, and other processes have parts.
            decision = copy(decision)
            decision.reason, decision.retry_after_ns = "limited", None
        return decision

    def charge(
        self, plans: PlanSet, processes: int, scope: str, attributes: Mapping[str, str], cost: Cost
    ) -> None:
        """Charge a request that is over to this process's part, whatever is left."""
        self._following(plans, processes).charge(scope, attributes, cost)

    def _following(self, plans: PlanSet, processes: int) -> Engine:
        engine = self._engine
        if engine is None or not self._follows(plans, processes):
            engine = self._follow(plans, processes)
        return engine

    def keep_up(self, plans: PlanSet, processes: int) -> None:
        """Follow a change of the limits at once, if they were ever counted here."""
        if self._engine is not None:
            self._follow(plans, processes)

    def _follows(self, plans: PlanSet, processes: int) -> bool:
        in_force = self._in_force
        return in_force is not None and in_force[0] is plans and in_force[1] == processes

    def _follow(self, plans: PlanSet, processes: int) -> Engine:
        with self._changing:
            engine = self._engine or self._open_engine()
            if not self._follows(plans, processes):
                engine.swap(_parts_of(plans, processes))
                self._in_force = plans, processes
            self._engine = engine
            return engine

    def after_fork_in_child(self) -> None:
        """Start with full buckets in a forked child."""
        self._changing = threading.Lock()
        self._engine = self._in_force = None


def _parts_of(plans: PlanSet, processes: int) -> PlanSet:
    if processes == 1:
        return plans
    known: dict[int, LimitPlan | LimitChoice] = {}
    scopes = {
        name: ScopePlan(
            plan.scope,
            tuple(known.setdefault(id(limit), _part(limit, processes)) for limit in plan.limits),
            plan.allow_on_error,
            plan.conditions,
        )
        for name, plan in plans.scopes.items()
    }
    return PlanSet(plans.generation, scopes, plans.until_ns)


def _part(limit: LimitPlan | LimitChoice, processes: int) -> LimitPlan | LimitChoice:
    if isinstance(limit, LimitPlan):
        return _part_of_plan(limit, processes)
    choice = limit

    def make(local: Mask) -> LimitPlan | None:
        plan = choice.plan(local)
        return None if plan is None else _part_of_plan(plan, processes)

    return LimitChoice(
        choice.scope,
        choice.name,
        budget=choice.budget,
        conditions=choice.conditions,
        numbering=choice.numbering,
        shape=choice.shape,
        content=(choice.content, processes),
        extent=choice.extent,
        make=make,
    )


def _part_of_plan(plan: LimitPlan, processes: int) -> LimitPlan:
    return LimitPlan(
        scope=plan.scope,
        name=plan.name,
        algorithm=part_of(plan.algorithm, processes),
        per=plan.per,
        shadow=plan.shadow,
        budget=plan.budget,
        overrides=plan.overrides,
        unit=plan.unit,
        skips=plan.skips,
        origins=plan.origins,
    )


def part_of(algorithm: Algorithm[Any], processes: int) -> Algorithm[Any]:
    """Return the part of a limit for one of some processes. A limit of nothing stays so."""
    size = min(algorithm.capacity, max(1, algorithm.capacity // processes))
    if isinstance(algorithm, TokenBucket):
        return TokenBucket(algorithm.per_ns, algorithm.per_token * processes, size)
    if isinstance(algorithm, SlidingWindow):
        return SlidingWindow(
            size, algorithm.window_ns, blocked=algorithm.blocked, cells=algorithm.cells
        )
    if isinstance(algorithm, Quota):
        return Quota(size, algorithm.window, algorithm.offset, blocked=algorithm.blocked)
    assert isinstance(algorithm, Concurrency)
    return Concurrency(size, algorithm.hold_ns)
