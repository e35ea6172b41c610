"""Compile a policy tree into the plans that an engine runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ratectl.compiler.conditional_limits import Choices
from ratectl.compiler.origins import resolved_origins
from ratectl.compiler.recipe import limit_plan
from ratectl.compiler.surroundings import Surroundings
from ratectl.engine.algorithms.quota import WallOffset
from ratectl.engine.api import PlanSet, ScopePlan
from ratectl.errors import BundleError
from ratectl.policy.resolution.conditions import NO_CONDITIONS
from ratectl.policy.resolution.resolver import Resolver
from ratectl.runtime.cooperative import paced, release
from ratectl.runtime.gc_pause import paused_collector

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ratectl.compiler.surroundings import Part, Pools
    from ratectl.engine.conditional_limit import LimitChoice
    from ratectl.engine.limit_plan import LimitPlan, Origins
    from ratectl.policy.language.model import PolicyTree
    from ratectl.policy.resolution.conditions import PathConditions
    from ratectl.policy.resolution.effective_limit import Limit
    from ratectl.policy.resolution.resolver import Resolved

__all__ = ["Compiled", "compile_tree", "compiled"]

_SAME_CLOCK: Final = WallOffset()
"""Offset of engines that run on the wall clock, as replays do."""


class Compiled(NamedTuple):
    """Plans of a tree, and the containers that they keep alive."""

    plans: PlanSet
    workings: tuple[Mapping[Any, object], ...] = ()
    """Containers with the parts that conditional limits share: large, like the plans."""

    def parts(self) -> list[list[object]]:
        """Return all parts, to be freed piece by piece (see ``cooperative.release``)."""
        containers = self.plans.scopes, *self.workings
        # Containers go first, as they keep their values alive.
        return [list(containers), *(list(part.values()) for part in paced(containers))]


def compile_tree(
    tree: PolicyTree,
    generation: int,
    offset: WallOffset | None = None,
    now_ns: int | None = None,
) -> PlanSet:
    """Return the plans of every declared scope, caps applied: see ``compiled``."""
    return compiled(tree, generation, offset, now_ns).plans


def compiled(
    tree: PolicyTree,
    generation: int,
    offset: WallOffset | None = None,
    now_ns: int | None = None,
    pools: Pools | None = None,
    part: Part = "all",
) -> Compiled:
    """Return the plans of every declared scope, caps applied, and what they keep alive.

    ``offset`` is the wall clock's difference from the engine's clock, for quotas; without it, both
    are the same. The exceptions in force at ``now_ns``, by the wall clock, apply; None leaves all
    of them out. ``pools``: the limits across the cluster; without it, they count in this process.
    ``part``: which limits; the others are left out.

    :raises BundleError: a limit cannot be used (``validate`` reports that).
    """
    release()  # leftovers of earlier compilations
    resolver = Resolver(tree, now_ns)
    compiler = _Compiler(tree, resolver, Surroundings(offset or _SAME_CLOCK, pools, part))
    scopes: dict[str, ScopePlan] = {}
    with paused_collector():
        for scope in paced(tree.policies):
            resolved = resolver.at(scope)
            if resolved is not None:
                scopes[scope] = compiler.scope_plan(resolved)
    until = None if now_ns is None or not tree.exceptions else tree.next_change(now_ns)
    plans = PlanSet(generation, scopes, until)
    kept = compiler.kept if resolver.conditions.any else ()
    spent = Compiled(PlanSet(0), (*resolver.workings, *compiler.workings)).parts()
    del resolver, compiler
    release(*spent)
    # The caller keeps the tree for later exceptions, and has to free it as well.
    return Compiled(plans, (*kept, tree.policies) if tree.exceptions else kept)


class _Compiler:
    """One compilation: budgets are shared by the plans of every scope below them."""

    def __init__(self, tree: PolicyTree, resolver: Resolver, surroundings: Surroundings) -> None:
        self._places = resolver.conditions
        self._surroundings = surroundings
        self._choices = Choices(tree, resolver, surroundings)
        self._budgets: dict[tuple[str, str], LimitPlan | LimitChoice | None] = {}
        self._origins: dict[int, Origins] = {}
        """Origins by the ``id`` of the limit, which the resolver keeps: scopes that inherit a limit
        share it."""

    @property
    def kept(self) -> tuple[Mapping[Any, object], ...]:
        """Containers that the plans keep alive."""
        return self._choices.kept

    @property
    def workings(self) -> tuple[Mapping[Any, object], ...]:
        """Containers that are not needed after the compilation."""
        return (*self._choices.workings, self._origins)

    def scope_plan(self, resolved: Resolved) -> ScopePlan:
        scope = resolved.scope
        for name, problem in resolved.problems.items():
            if name in resolved.fields and name not in resolved.limits:
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
            plans = [self._plan(scope, limit) for limit in resolved.limits.values()]
            return [plan for plan in plans if plan is not None]
        choices = self._choices.limits(scope, place)
        plans_in_order: list[LimitPlan | LimitChoice] = []
        for name, limit in resolved.limits.items():
            plan = choices.pop(name, None) or self._plan(scope, limit)
            if plan is not None:
                plans_in_order.append(plan)
        return [*plans_in_order, *choices.values()]

    def _budget(self, owner: str, budget: Limit) -> LimitPlan | LimitChoice | None:
        choice = self._choices.budget(owner, self._places.at(owner), budget.name)
        return choice or self._plan(owner, budget, budget=True)

    def _plan(self, scope: str, limit: Limit, *, budget: bool = False) -> LimitPlan | None:
        origins = self._origins.get(id(limit))
        if origins is None:
            origins = self._origins[id(limit)] = resolved_origins(limit, budget=budget)
        return limit_plan(
            scope, limit.name, limit, self._surroundings, algorithm=limit.algorithm, per=limit.per,
            across=limit.across, consistency=limit.consistency, mode=limit.mode, unit=limit.unit,
            absent=limit.absent, overrides=limit.touched, origins=origins, budget=budget,
        )  # fmt: skip
