"""What a new set of plans inherits from the one before.

A publication never mints tokens:

- a bucket whose parameters changed migrates (``migrate``), when next touched, as of the swap;
- an untracked key behaves as its limit's *genesis* bucket, which migrates in the same way, so that
  growing a burst gives nobody the new tokens at once, tracked or not;
- a new identity (a scope newly declared, a limit now counted ``per`` something else) starts each
  key, on first touch, from the bucket that the generation before would have used. Such a *seed* is
  dropped after the time in which any bucket fills: from then on it could only say "full";
- a seed's own limit may go on being used, and the seed with it. When that limit changes or goes,
  the seed is set aside as it was at that instant, and the changed limit starts from it as well.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from ratectl.engine.group import Counters, Group
from ratectl.engine.migrate import migrate
from ratectl.engine.token_bucket import TokenBucket, TokenState

if TYPE_CHECKING:
    from ratectl.engine.base import Algorithm, Identity, LimitPlan, PlanSet, ScopePlan, State
    from ratectl.engine.table import Table

__all__ = ["Succession"]

_MAX_LINEAGE: Final = 16
"""Seeds behind a seed: more changes of ``per`` than this, all within one refill, are forgotten."""


@dataclass(slots=True)
class Step:
    """One swap, prepared without the engine's lock."""

    plans: PlanSet
    genesis: dict[Identity, State]
    stamps: list[TokenState] = field(default_factory=list)
    """Genesis buckets whose time is the instant of the swap, not known before it."""
    partial: list[tuple[LimitPlan, LimitPlan]] = field(default_factory=list)
    """(old, new) where the old genesis bucket was not full either."""
    newcomers: list[tuple[LimitPlan, LimitPlan]] = field(default_factory=list)
    """(limit that served these requests before, new limit)."""
    recounted: list[LimitPlan] = field(default_factory=list)
    """Old limits that are now counted ``per`` something else."""


class Succession:
    """The lineage of identities across swaps. Guarded by its engine's locks."""

    def __init__(self) -> None:
        self._genesis: dict[Identity, State] = {}
        self._counters: dict[Identity, Counters] = {}

    def begin(self, limit: LimitPlan) -> Group:
        """The group of an identity that is used for the first time."""
        identity = limit.identity
        counters = self._counters.setdefault(identity, Counters())
        return Group(limit, self._genesis.get(identity), counters)

    def prepare(self, old: PlanSet, new: PlanSet) -> Step:
        """Compare two sets of plans; touches nothing that a check reads."""
        step = Step(new, {})
        shared: dict[tuple[Algorithm, Algorithm], TokenState | None] = {}
        for scope, plan in new.scopes.items():
            same = old.scopes.get(scope)
            before = same or old.find(scope)
            if before is None:
                continue
            for limit in plan.limits:
                if limit.budget and limit.scope != scope:
                    continue  # compared once, at its own scope
                previous = before.counterpart(limit)
                if previous is None:
                    continue
                if same is None:
                    step.newcomers.append((previous, limit))
                elif previous.per != limit.per:
                    step.recounted.append(previous)
                self._inherit_genesis(step, previous, limit, shared)
        step.stamps = [state for state in shared.values() if state is not None]
        return step

    def _inherit_genesis(
        self,
        step: Step,
        old: LimitPlan,
        new: LimitPlan,
        shared: dict[tuple[Algorithm, Algorithm], TokenState | None],
    ) -> None:
        known = self._genesis.get(old.identity)
        if known is not None:
            step.partial.append((old, new))
        elif old.algorithm is not new.algorithm:
            pair = (old.algorithm, new.algorithm)
            if pair not in shared:
                shared[pair] = _grown(*pair)
            state = shared[pair]
            if state is not None:
                step.genesis[new.identity] = state

    def apply(
        self, step: Step, groups: dict[Identity, Group], now: int, table: Table
    ) -> dict[Identity, Group]:
        """The swap itself, under the engine's lock: O(groups in use). Returns the new groups."""
        lenders = {old.identity for old, _ in step.newcomers}
        for old in (*step.recounted, *(old for old, _ in step.newcomers)):
            if old.identity not in groups:
                groups[old.identity] = self.begin(old)
        for stamp in step.stamps:
            stamp.at = now
        for old, new in step.partial:
            state = migrate(old.algorithm, new.algorithm, self._genesis[old.identity], now)
            if not new.algorithm.same(state, new.algorithm.full(now), now):
                step.genesis[new.identity] = state
        self._genesis = step.genesis
        kept: dict[Identity, Group] = {}
        for identity, group in groups.items():
            plan = step.plans.scopes.get(group.scope)
            lends = identity in lenders or group.lent(now)
            successor = self._succeed(group, plan, now, table, lends=lends)
            if successor is None:
                self._counters.pop(identity, None)
            else:
                kept[identity] = successor
        for old, new in step.newcomers:
            kept[new.identity] = self._seeded(new, groups[old.identity], now)
        return kept

    def _seeded(self, limit: LimitPlan, seed: Group, now: int) -> Group:
        group = self.begin(limit)
        group.plant(seed, now)
        for _ in range(_MAX_LINEAGE):
            if seed.seed is None:
                break
            seed = seed.seed
        else:
            seed.seed = None
        return group

    def _succeed(
        self, group: Group, plan: ScopePlan | None, now: int, table: Table, *, lends: bool
    ) -> Group | None:
        limit = None
        if plan is not None:
            limit = plan.budget(group.scope, group.name) if group.budget else plan.limit(group.name)
        if limit is None:
            table.retire(group, now)
            return None
        changed = limit.algorithm != group.algorithm
        if limit.per != group.per or (changed and lends):
            table.retire(group, now)
            return self._seeded(limit, group, now)
        group.shadow = limit.shadow
        if changed:
            group.change(limit.algorithm, self._genesis.get(limit.identity), now)
        else:
            group.genesis = self._genesis.get(limit.identity)
        return group


def _grown(old: Algorithm, new: Algorithm) -> TokenState | None:
    """A full bucket after the change, if it is no longer full; its time is stamped later."""
    if not isinstance(old, TokenBucket) or not isinstance(new, TokenBucket):
        return None
    state = migrate(old, new, old.full(0), 0)
    assert isinstance(state, TokenState)
    return state if state.level < new.capacity else None
