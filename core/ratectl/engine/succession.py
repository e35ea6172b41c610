"""What a new set of plans inherits from the one before.

A publication never mints tokens:

- a bucket whose parameters changed migrates (``migrate``), when next touched, as of the swap;
- an untracked key behaves as its limit's *genesis* bucket, which migrates in the same way, so that
  growing a burst gives nobody the new tokens at once, tracked or not;
- a new identity (a scope newly declared, a limit now counted ``per`` something else) starts each
  key, on first touch, from the bucket that the generation before would have used. Such a *seed* is
  dropped after the time in which any bucket fills: from then on it could only say "full";
- a limit that is chosen by other conditions than before (overrides came, went or changed their
  match) starts each key in the same way, by what the request would have used; where its own bucket
  was another one, from the stricter of the two;
- a seed's own limit may go on being used, and the seed with it. When that limit changes or goes,
  the seed is set aside as it was at that instant, and the changed limit starts from it as well.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from ratectl.engine.base import LimitPlan
from ratectl.engine.choice import LimitChoice
from ratectl.engine.family import Family
from ratectl.engine.group import Counters, Group
from ratectl.engine.migrate import migrate
from ratectl.engine.token_bucket import TokenBucket, TokenState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ratectl.engine.base import Algorithm, Identity, PlanSet, State
    from ratectl.engine.table import Table

__all__ = ["Succession"]

_MAX_LINEAGE: Final = 16
"""Seeds behind a seed: more changes of ``per`` than this, all within one refill, are forgotten."""


Kin = Group | Family
"""The buckets of one identity: a family where its plan depends on the request."""


class Comparison:
    """Whether two generations say the same of limits: what many scopes inherit is compared once.

    What is compared lives as long as both generations do.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[int, int], bool] = {}

    def same(self, one: object, other: object) -> bool:
        """Equality, pair by pair: a scope's part and, nested, those of the scopes above."""
        if one is other:
            return True
        pair = (id(one), id(other))
        known = self._known.get(pair)
        if known is None:
            if isinstance(one, tuple) and isinstance(other, tuple) and len(one) == len(other) == 2:
                known = self.same(one[0], other[0]) and self.same(one[1], other[1])
            else:
                known = one == other
            self._known[pair] = known
        return known

    def choices(self, old: LimitChoice, new: LimitChoice) -> tuple[bool, bool]:
        """Whether they select the same buckets, and whether for the same parameters."""
        return self.same(old.shape, new.shape), self.same(old.content, new.content)


@dataclass(slots=True)
class Step:
    """One swap, prepared without the engine's lock."""

    plans: PlanSet
    genesis: dict[Identity, State]
    stamps: list[TokenState] = field(default_factory=list)
    """Genesis buckets whose time is the instant of the swap, not known before it."""
    partial: list[tuple[LimitPlan, LimitPlan]] = field(default_factory=list)
    """(old, new) where the old genesis bucket was not full either."""
    newcomers: list[tuple[LimitPlan | LimitChoice, LimitPlan | LimitChoice]] = field(
        default_factory=list
    )
    """(limit that served these requests before, new limit)."""
    continued: list[LimitPlan | LimitChoice] = field(default_factory=list)
    """Old limits that go on otherwise: counted ``per`` something else, or chosen by other
    conditions, or chosen among other parameters."""
    compared: Comparison = field(default_factory=Comparison)
    """What the swap asks of it is known by then."""


class Succession:
    """The lineage of identities across swaps. Guarded by its engine's locks."""

    def __init__(self) -> None:
        self._genesis: dict[Identity, State] = {}
        self._counters: dict[Identity, dict[tuple[str, ...], Counters]] = {}

    def begin(self, limit: LimitPlan | LimitChoice) -> Kin:
        """The buckets of an identity that is used for the first time."""
        identity = limit.identity
        counters = self._counters.setdefault(identity, {})
        if isinstance(limit, LimitChoice):
            return Family(limit, counters)
        counted = counters.setdefault(limit.overrides, Counters())
        return Group(limit, self._genesis.get(identity), counted)

    def prepare(self, old: PlanSet, new: PlanSet, kins: Mapping[Identity, Kin]) -> Step:
        """Compare two sets of plans; touches nothing that a check reads.

        ``kins`` are those in use, for whose groups the new plans are made already.
        """
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
                differs = _goes_on_otherwise(previous, limit, step.compared)
                if same is None:
                    step.newcomers.append((previous, limit))
                elif differs:
                    step.continued.append(previous)
                    _make_plans(limit, kins.get(previous.identity), step.compared)
                if isinstance(previous, LimitPlan) and isinstance(limit, LimitPlan):
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
        self, step: Step, groups: dict[Identity, Kin], now: int, table: Table
    ) -> dict[Identity, Kin]:
        """The swap itself, under the engine's lock: O(groups in use). Returns the new groups."""
        lenders = {old.identity for old, _ in step.newcomers}
        for old in (*step.continued, *(old for old, _ in step.newcomers)):
            if old.identity not in groups:
                groups[old.identity] = self.begin(old)
        for stamp in step.stamps:
            stamp.at = now
        for before, after in step.partial:
            state = migrate(before.algorithm, after.algorithm, self._genesis[before.identity], now)
            if not after.algorithm.same(state, after.algorithm.full(now), now):
                step.genesis[after.identity] = state
        self._genesis = step.genesis
        kept: dict[Identity, Kin] = {}
        for identity, kin in groups.items():
            kin.expire(now)
            plan = step.plans.scopes.get(kin.scope)
            limit = plan.by_identity(identity) if plan is not None else None
            if limit is None:
                _retire(kin, table, now)
                self._counters.pop(identity, None)
            else:
                lends = identity in lenders or kin.lent(now)
                kept[identity] = self._succeed(kin, limit, now, table, step.compared, lends=lends)
        for old, new in step.newcomers:
            kept[new.identity] = self._seeded(new, groups[old.identity], now, step.compared)
        return kept

    def _seeded(
        self, limit: LimitPlan | LimitChoice, seed: Kin, now: int, compared: Comparison
    ) -> Kin:
        kin = self.begin(limit)
        alike = (
            isinstance(kin, Family)
            and isinstance(seed, Family)
            and compared.same(seed.choice.shape, kin.choice.shape)
        )
        kin.plant(seed, now, alike=alike)
        for _ in range(_MAX_LINEAGE):
            if seed.seed is None:
                break
            seed = seed.seed
        else:
            seed.end_line()
        return kin

    def _succeed(
        self,
        kin: Kin,
        limit: LimitPlan | LimitChoice,
        now: int,
        table: Table,
        compared: Comparison,
        *,
        lends: bool,
    ) -> Kin:
        if isinstance(kin, Family):
            alike, equal = False, False
            if isinstance(limit, LimitChoice):
                alike, equal = compared.choices(kin.choice, limit)
            if isinstance(limit, LimitChoice) and alike:
                if equal:
                    kin.rebind(limit)
                    return kin
                if not lends:
                    for ended in kin.follow(limit, now):
                        table.retire(ended, now)
                    return kin
        elif isinstance(limit, LimitPlan) and limit.per == kin.per:
            changed = limit.algorithm != kin.algorithm
            if not (changed and lends):
                kin.shadow = limit.shadow
                if changed:
                    kin.change(limit.algorithm, self._genesis.get(limit.identity), now)
                else:
                    kin.genesis = self._genesis.get(limit.identity)
                return kin
        _retire(kin, table, now)
        return self._seeded(limit, kin, now, compared)


def _goes_on_otherwise(
    old: LimitPlan | LimitChoice, new: LimitPlan | LimitChoice, compared: Comparison
) -> bool:
    """Whether buckets that no request has asked for must know of the change as well."""
    if isinstance(old, LimitChoice) and isinstance(new, LimitChoice):
        return compared.choices(old, new) != (True, True)
    if isinstance(old, LimitChoice) or isinstance(new, LimitChoice):
        return True
    return old.per != new.per


def _make_plans(limit: LimitPlan | LimitChoice, kin: Kin | None, compared: Comparison) -> None:
    """Those that groups in use will follow. Each takes a resolution: not while checks wait."""
    if not isinstance(limit, LimitChoice) or not isinstance(kin, Family):
        return
    if compared.same(kin.choice.shape, limit.shape):
        for mask in kin.begun():
            limit.plan(mask)


def _retire(kin: Kin, table: Table, now: int) -> None:
    if isinstance(kin, Family):
        kin.retired_at = now
        for group in kin.groups.values():
            table.retire(group, now)
    else:
        table.retire(kin, now)


def _grown(old: Algorithm, new: Algorithm) -> TokenState | None:
    """A full bucket after the change, if it is no longer full; its time is stamped later."""
    if not isinstance(old, TokenBucket) or not isinstance(new, TokenBucket):
        return None
    state = migrate(old, new, old.full(0), 0)
    assert isinstance(state, TokenState)
    return state if state.level < new.capacity else None
