"""Reload: buckets of a new set of plans begin with the charges of the former set.

A publication never mints tokens:

- a bucket whose parameters changed migrates (``migrate``), when next touched, as of the swap;
- an untracked key behaves as its limit's *genesis* bucket, which migrates in the same way, so that
  a larger burst gives no key the new tokens at once, tracked or not;
- a new identity (a scope newly declared, a limit now counted ``per`` something else) starts each
  key, on first touch, from the bucket that the generation before would have used. Such a *seed* is
  dropped after the time in which any bucket fills: from then on, all of its buckets are full;
- a limit that other conditions choose than before (overrides came, went or changed their match)
  starts each key in the same way; from the stricter bucket if its own one was another;
- a seed's own limit may stay in use, and its buckets keep accruing. When that limit changes or
  goes, the seed keeps its state of that instant, and the changed limit starts from it as well.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, Protocol

from ratectl.engine.algorithms.protocol import migrate
from ratectl.engine.buckets.bucket_set import Group
from ratectl.engine.buckets.variants import Family
from ratectl.engine.comparison import Comparison
from ratectl.engine.conditional_limit import LimitChoice
from ratectl.engine.limit_plan import LimitPlan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ratectl.engine.algorithms.protocol import Algorithm, State
    from ratectl.engine.api import PlanSet
    from ratectl.engine.buckets.bucket_set import Maker
    from ratectl.engine.buckets.counters import Counters
    from ratectl.engine.buckets.seed import Seed
    from ratectl.engine.buckets.table import Table
    from ratectl.engine.limit_plan import Identity

__all__ = ["Succession"]

_MAX_LINEAGE: Final = 16
"""Most seeds in a line: more changes of ``per`` than this, all within one refill, are forgotten."""


Kin = Group | Family
"""Buckets of one identity: a family if its plan depends on the request."""


class _PlansInForce(Protocol):
    """Engine whose plans a swap replaces."""

    _plans: PlanSet


class _Grown:
    """Genesis bucket that many limits share: full until the swap, and not full afterwards."""

    __slots__ = ("_new", "_old", "state")

    def __init__(self, old: Algorithm[Any], new: Algorithm[Any]) -> None:
        self._old, self._new = old, new
        self.state: State | None = None
        """Bucket state; None until the instant of the swap is known."""

    def date(self, now: int) -> None:
        """Make the state as of the swap, unless it is there already."""
        if self.state is None:
            self.state = migrate(self._old, self._new, self._old.full(now), now)


@dataclass(slots=True)
class Step:
    """One swap: its preparation, made without the engine's lock, and its progress."""

    plans: PlanSet
    genesis: dict[Identity, State | _Grown] = field(default_factory=dict)
    grown: list[_Grown] = field(default_factory=list)
    """Genesis buckets that were full until the swap: one for each pair of algorithms."""
    partial: dict[Identity, tuple[LimitPlan, LimitPlan]] = field(default_factory=dict)
    """New identity: (old, new), if the old genesis bucket was not full either."""
    newcomers: dict[Identity, LimitPlan | LimitChoice] = field(default_factory=dict)
    """New identity: the old limit that served its requests."""
    lending: dict[Identity, LimitPlan | LimitChoice] = field(default_factory=dict)
    """Old limits from whose buckets others start: for newcomers, and for limits that changed how
    they select buckets (counted ``per`` something else, or chosen by other conditions)."""
    lenders: set[Identity] = field(default_factory=set)
    """Old identities from which newcomers inherit buckets."""
    compared: Comparison = field(default_factory=Comparison)
    """Comparisons of the preparation, which the swap needs again."""
    now: int = 0
    """Instant of the swap."""
    kins: dict[Identity, Kin] = field(default_factory=dict)
    """Buckets in use until the swap. Not to be changed, as ``rest`` iterates over them."""
    begun: dict[Identity, Kin] = field(default_factory=dict)
    """Buckets made during the swap for old limits without any, from which others start."""
    before: dict[Identity, State | _Grown] = field(default_factory=dict)
    """Genesis buckets until the swap."""
    gone: set[Identity] = field(default_factory=set)
    """Removed limits, whose buckets are retired."""

    def old(self, identity: Identity) -> Kin | None:
        """Return the buckets until the swap."""
        return self.kins.get(identity) or self.begun.get(identity)

    def spent(self) -> list[dict[Any, Any]]:
        """Return the containers that are not needed any more (see ``cooperative.release``)."""
        worked: list[dict[Any, Any]]
        worked = [self.kins, self.begun, self.before, self.lending, self.newcomers, self.partial]
        return [*worked, self.compared.known]


class Succession:
    """The buckets in force, and their lineage across swaps. Guarded by the engine's locks.

    A swap itself is one step. A limit follows it, as of its instant, when a request next needs the
    limit, or in ``rest``. So no request waits for other limits than its own.
    """

    def __init__(self, maker: Maker, table: Table) -> None:
        self._maker = maker
        self._table = table
        self._kins: dict[Identity, Kin] = {}
        self._genesis: dict[Identity, State | _Grown] = {}
        self._counters: dict[Identity, dict[tuple[str, ...], Counters]] = {}
        self._step: Step | None = None

    @property
    def under_way(self) -> bool:
        """True while a swap has not reached all buckets."""
        return self._step is not None

    def kins(self) -> list[Kin]:
        """Return all buckets in use. Complete only while no swap is under way."""
        return list(self._kins.values())

    def kin(self, limit: LimitPlan | LimitChoice) -> Kin:
        """Return the buckets of a limit in force."""
        identity = limit.identity
        kin = self._kins.get(identity)
        if kin is None:
            kin = self._begin(limit) if self._step is None else self._take_over(self._step, limit)
            self._kins[identity] = kin
            if self._step is not None:
                self._bring_line(kin)
        return kin

    def behind(self, group: Group) -> bool:
        """Return True if a swap under way has not reached these buckets."""
        step, identity = self._step, group.identity
        return (
            step is not None
            and step.old(identity) is not None
            and identity not in self._kins
            and identity not in step.gone
        )

    def bring(self, identity: Identity) -> None:
        """Make a swap under way reach the buckets that an identity had before."""
        step = self._step
        if step is None or identity in self._kins or identity in step.gone:
            return
        plan = step.plans.scopes.get(identity[0])
        limit = plan.by_identity(identity) if plan is not None else None
        if limit is not None:
            self.kin(limit)
        elif step.old(identity) is not None or identity in step.lending:
            step.gone.add(identity)
            self._retire(self._old(step, identity), step.now)
            self._counters.pop(identity, None)

    def _bring_line(self, kin: Kin) -> None:
        """Make the swap reach the seeds of a line that are still in use."""
        for planted in (kin, *(kin.groups.values() if isinstance(kin, Family) else ())):
            seed = planted.seed
            while seed is not None:
                self.bring(seed.identity)
                seed = seed.seed

    def _old(self, step: Step, identity: Identity) -> Kin:
        """Return the buckets before the swap, made now if no request had needed them."""
        kin = step.old(identity)
        if kin is None:
            kin = self._new_kin(step.lending[identity], _state_of(step.before.get(identity)))
            step.begun[identity] = kin
        return kin

    def _begin(self, limit: LimitPlan | LimitChoice) -> Kin:
        """Return the buckets of an identity that is used for the first time."""
        return self._new_kin(limit, self._genesis_of(limit.identity))

    def _new_kin(self, limit: LimitPlan | LimitChoice, genesis: State | None) -> Kin:
        counters = self._counters.setdefault(limit.identity, {})
        if isinstance(limit, LimitChoice):
            return Family(limit, counters, self._maker)
        counted = counters.get(limit.overrides)
        if counted is None:
            counted = counters[limit.overrides] = self._maker.counters()
        return self._maker.group(limit, genesis, counted)

    def _take_over(self, step: Step, limit: LimitPlan | LimitChoice) -> Kin:
        """Return the buckets of a limit after the swap, from those that served its requests."""
        identity = limit.identity
        before = step.newcomers.get(identity)
        if before is not None:
            seed = self._old(step, before.identity)
            self.bring(before.identity)
            return self._seeded(limit, seed, step.now, step.compared)
        if step.old(identity) is None and identity not in step.lending:
            return self._begin(limit)
        old = self._old(step, identity)
        old.expire(step.now)
        lends = identity in step.lenders or old.lent(step.now)
        return self._succeed(old, limit, step.now, step.compared, lends=lends)

    def _genesis_of(self, identity: Identity) -> State | None:
        """Return the state of an untouched bucket; None for full."""
        step = self._step
        pair = step.partial.get(identity) if step is not None else None
        if step is not None and pair is not None:
            self._migrate_genesis(step, *pair)
        genesis = self._genesis.get(identity)
        if step is not None and isinstance(genesis, _Grown):
            genesis.date(step.now)
        return _state_of(genesis)

    def _migrate_genesis(self, step: Step, old: LimitPlan, new: LimitPlan) -> None:
        before = _state_of(step.before[old.identity])
        assert before is not None
        state = migrate(old.algorithm, new.algorithm, before, step.now)
        if not new.algorithm.same(state, new.algorithm.full(step.now), step.now):
            self._genesis[new.identity] = state
        step.partial.pop(new.identity, None)

    def prepare(self, old: PlanSet, new: PlanSet, pause: Callable[[], object]) -> Step:
        """Compare two sets of plans. Change nothing that a check reads.

        The new plans of the groups in use are made here. ``pause`` is called after each scope.
        """
        step = Step(new)
        shared: dict[tuple[Algorithm[Any], Algorithm[Any]], _Grown | None] = {}
        for scope, plan in new.scopes.items():
            pause()
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
                differs = _selects_otherwise(previous, limit, step.compared)
                if same is None:
                    step.newcomers[limit.identity] = previous
                    step.lenders.add(previous.identity)
                    step.lending[previous.identity] = previous
                elif differs:
                    step.lending[previous.identity] = previous
                    _make_plans(limit, self._kins.get(previous.identity), step.compared)
                if isinstance(previous, LimitPlan) and isinstance(limit, LimitPlan):
                    self._inherit_genesis(step, previous, limit, shared)
        return step

    def _inherit_genesis(
        self,
        step: Step,
        old: LimitPlan,
        new: LimitPlan,
        shared: dict[tuple[Algorithm[Any], Algorithm[Any]], _Grown | None],
    ) -> None:
        if old.identity in self._genesis:
            step.partial[new.identity] = (old, new)
        elif old.algorithm is not new.algorithm:
            pair = (old.algorithm, new.algorithm)
            if pair not in shared:
                grown = shared[pair] = _grown(*pair)
                if grown is not None:
                    step.grown.append(grown)
            state = shared[pair]
            if state is not None:
                step.genesis[new.identity] = state

    def start(self, step: Step, now: int, engine: _PlansInForce) -> None:
        """Swap: at this instant all limits change, and ``engine`` gets the new plans."""
        step.now = now
        # These lines make no calls, so nothing can interrupt them (see ``control``).
        step.kins, self._kins = self._kins, {}
        step.before, self._genesis = self._genesis, step.genesis
        self._step = step
        engine._plans = step.plans  # noqa: SLF001
        self._table.behind = self.behind

    def rest(self) -> Iterator[None]:
        """Do the rest of the swap piece by piece, each under the engine's lock."""
        step = self._step
        assert step is not None
        for identity in chain(step.kins, step.lending, step.newcomers):
            self.bring(identity)
            yield
        while step.partial:
            self._migrate_genesis(step, *next(reversed(step.partial.values())))
            yield
        for grown in step.grown:
            grown.date(step.now)
            yield
        self._step = self._table.behind = None

    def _seeded(
        self, limit: LimitPlan | LimitChoice, seed: Kin, now: int, compared: Comparison
    ) -> Kin:
        kin = self._begin(limit)
        alike = (
            isinstance(kin, Family)
            and isinstance(seed, Family)
            and compared.same(seed.choice.shape, kin.choice.shape)
        )
        kin.plant(seed, now, alike=alike)
        last: Seed = seed
        for _ in range(_MAX_LINEAGE):
            if last.seed is None:
                break
            last = last.seed
        else:
            last.end_line()
        return kin

    def _succeed(
        self,
        kin: Kin,
        limit: LimitPlan | LimitChoice,
        now: int,
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
                        self._table.retire(ended, ended, now)
                    return kin
        elif isinstance(limit, LimitPlan) and limit.per == kin.per:
            changed = limit.algorithm != kin.algorithm
            if not (changed and lends):
                kin.shadow = limit.shadow
                if changed:
                    kin.change(limit.algorithm, self._genesis_of(limit.identity), now)
                else:
                    kin.genesis = self._genesis_of(limit.identity)
                return kin
        self._retire(kin, now)
        return self._seeded(limit, kin, now, compared)

    def _retire(self, kin: Kin, now: int) -> None:
        if isinstance(kin, Family):
            kin.retired_at = now
            for group in kin.groups.values():
                self._table.retire(group, kin, now)
        else:
            self._table.retire(kin, kin, now)


def _selects_otherwise(
    old: LimitPlan | LimitChoice, new: LimitPlan | LimitChoice, compared: Comparison
) -> bool:
    """Return True if the new limit selects buckets by other conditions, or by another key."""
    if isinstance(old, LimitChoice) and isinstance(new, LimitChoice):
        return compared.choices(old, new) != (True, True)
    if isinstance(old, LimitChoice) or isinstance(new, LimitChoice):
        return True
    return old.per != new.per


def _make_plans(limit: LimitPlan | LimitChoice, kin: Kin | None, compared: Comparison) -> None:
    """Make the plans that groups in use will follow, as each takes a resolution of policies."""
    if not isinstance(limit, LimitChoice) or not isinstance(kin, Family):
        return
    if compared.same(kin.choice.shape, limit.shape):
        for mask in kin.begun():
            limit.plan(mask)


def _state_of(genesis: State | _Grown | None) -> State | None:
    return genesis.state if isinstance(genesis, _Grown) else genesis


def _grown(old: Algorithm[Any], new: Algorithm[Any]) -> _Grown | None:
    """Return the genesis bucket after the change; None if a full bucket stays full."""
    # The instant of the swap is not known yet. Any serves: only a larger capacity matters.
    state = migrate(old, new, old.full(0), 0)
    return None if new.same(state, new.full(0), 0) else _Grown(old, new)
