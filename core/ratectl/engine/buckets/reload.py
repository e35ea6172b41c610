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
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from ratectl.engine.algorithms.migrate import migrate
from ratectl.engine.algorithms.token_bucket import TokenBucket
from ratectl.engine.api import LimitPlan
from ratectl.engine.buckets.bucket_set import Group
from ratectl.engine.buckets.variants import Family
from ratectl.engine.comparison import Comparison
from ratectl.engine.conditional_limit import LimitChoice

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ratectl.engine.algorithms.token_bucket import TokenState
    from ratectl.engine.api import Algorithm, Identity, PlanSet, State
    from ratectl.engine.buckets.bucket_set import Maker
    from ratectl.engine.buckets.counters import Counters
    from ratectl.engine.buckets.table import Table
    from ratectl.engine.control import ControlledEngine

__all__ = ["Succession"]

_MAX_LINEAGE: Final = 16
"""Seeds behind a seed: more changes of ``per`` than this, all within one refill, are forgotten."""

_UNKNOWN_YET: Final = -1
"""The time of a genesis bucket that changes at an instant to come."""


Kin = Group | Family
"""The buckets of one identity: a family where its plan depends on the request."""


class _Grown:
    """Genesis bucket that many limits share; dated when the swap has its instant."""

    __slots__ = ("state",)

    def __init__(self, state: TokenState) -> None:
        self.state = state

    def date(self, now: int) -> None:
        """Tell the bucket when it began."""
        level, at, _ = self.state
        if at == _UNKNOWN_YET:
            self.state = level, now, now


@dataclass(slots=True)
class Step:
    """One swap: what was prepared without the engine's lock, and what of it is still to be done."""

    plans: PlanSet
    genesis: dict[Identity, State | _Grown] = field(default_factory=dict)
    grown: list[_Grown] = field(default_factory=list)
    """Those of them that were full until then: one for each kind of change."""
    partial: dict[Identity, tuple[LimitPlan, LimitPlan]] = field(default_factory=dict)
    """New identity: (old, new) where the old genesis bucket was not full either."""
    newcomers: dict[Identity, LimitPlan | LimitChoice] = field(default_factory=dict)
    """New identity: the limit that served its requests before."""
    lending: dict[Identity, LimitPlan | LimitChoice] = field(default_factory=dict)
    """Old limits whose buckets others start from: those of newcomers, and those that go on
    otherwise (counted ``per`` something else, or chosen by other conditions or among others)."""
    lenders: set[Identity] = field(default_factory=set)
    """Those of newcomers."""
    compared: Comparison = field(default_factory=Comparison)
    """What the swap asks of it is known by then."""
    now: int = 0
    """The instant of the swap."""
    kins: dict[Identity, Kin] = field(default_factory=dict)
    """The buckets in use until then; not to be changed, as ``rest`` is on its way through."""
    begun: dict[Identity, Kin] = field(default_factory=dict)
    """Buckets of then that nobody had used, and from which others start."""
    before: dict[Identity, State | _Grown] = field(default_factory=dict)
    """The genesis buckets until then."""
    gone: set[Identity] = field(default_factory=set)
    """Limits that are no more, and whose buckets were set aside."""

    def old(self, identity: Identity) -> Kin | None:
        """The buckets until then."""
        return self.kins.get(identity) or self.begun.get(identity)

    def spent(self) -> list[dict[Any, Any]]:
        """What it has worked with, to be let go (see ``pacing.release``)."""
        worked: list[dict[Any, Any]]
        worked = [self.kins, self.begun, self.before, self.lending, self.newcomers, self.partial]
        return [*worked, self.compared.known]


class Succession:
    """The buckets in force, and their lineage across swaps. Guarded by its engine's locks.

    A swap takes an instant; what it means for a limit is worked out when that is next asked for,
    or by ``rest``, as of that instant. So no request waits for other limits than its own.
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
        """All that are in use, once no swap is under way."""
        return list(self._kins.values())

    def kin(self, limit: LimitPlan | LimitChoice) -> Kin:
        """The buckets of a limit in force."""
        identity = limit.identity
        kin = self._kins.get(identity)
        if kin is None:
            kin = self._begin(limit) if self._step is None else self._take_over(self._step, limit)
            self._kins[identity] = kin
            if self._step is not None:
                self._bring_line(kin)
        return kin

    def behind(self, group: Group) -> bool:
        """Whether a swap under way has not reached these buckets."""
        step, identity = self._step, group.identity
        return (
            step is not None
            and step.old(identity) is not None
            and identity not in self._kins
            and identity not in step.gone
        )

    def bring(self, identity: Identity) -> None:
        """Let a swap under way reach the buckets that an identity had before."""
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
        """A seed that is still in use changes at the instant of the swap, as all others."""
        for each in (kin, *(kin.groups.values() if isinstance(kin, Family) else ())):
            seed = each.seed
            while seed is not None:
                self.bring(seed.identity)
                seed = seed.seed

    def _old(self, step: Step, identity: Identity) -> Kin:
        """The buckets before the swap, begun now if nobody had asked for them."""
        kin = step.old(identity)
        if kin is None:
            kin = self._new_kin(step.lending[identity], _state_of(step.before.get(identity)))
            step.begun[identity] = kin
        return kin

    def _begin(self, limit: LimitPlan | LimitChoice) -> Kin:
        """The buckets of an identity that is used for the first time."""
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
        """The buckets of a limit after the swap, from those that served its requests before."""
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
        """What an untouched bucket is; None for full."""
        step = self._step
        pair = step.partial.get(identity) if step is not None else None
        if step is not None and pair is not None:
            self._migrate_genesis(step, *pair)
        found = self._genesis.get(identity)
        if step is not None and isinstance(found, _Grown):
            found.date(step.now)
        return _state_of(found)

    def _migrate_genesis(self, step: Step, old: LimitPlan, new: LimitPlan) -> None:
        before = _state_of(step.before[old.identity])
        assert before is not None
        state = migrate(old.algorithm, new.algorithm, before, step.now)
        if not new.algorithm.same(state, new.algorithm.full(step.now), step.now):
            self._genesis[new.identity] = state
        step.partial.pop(new.identity, None)

    def prepare(self, old: PlanSet, new: PlanSet, pause: Callable[[], object]) -> Step:
        """Compare two sets of plans; touches nothing that a check reads.

        Plans for the groups in use are made already. ``pause`` is called now and then.
        """
        step = Step(new)
        shared: dict[tuple[Algorithm, Algorithm], _Grown | None] = {}
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
                differs = _goes_on_otherwise(previous, limit, step.compared)
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
        shared: dict[tuple[Algorithm, Algorithm], _Grown | None],
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

    def start(self, step: Step, now: int, engine: ControlledEngine) -> None:
        """The swap itself: at this instant all limits change, and ``engine`` has the new plans."""
        step.now = now
        # No call among these lines, so nothing comes between them (see ``control``).
        step.kins, self._kins = self._kins, {}
        step.before, self._genesis = self._genesis, step.genesis
        self._step = step
        engine._plans = step.plans  # noqa: SLF001
        self._table.behind = self.behind

    def rest(self) -> Iterator[None]:
        """What no request has asked for yet, piece by piece, each under the engine's lock."""
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


def _state_of(genesis: State | _Grown | None) -> State | None:
    return genesis.state if isinstance(genesis, _Grown) else genesis


def _grown(old: Algorithm, new: Algorithm) -> _Grown | None:
    """A full bucket after the change, if it is no longer full; when that was is not known yet."""
    if not isinstance(old, TokenBucket) or not isinstance(new, TokenBucket):
        return None
    level = new.level(migrate(old, new, old.full(0), 0), 0)  # type: ignore[arg-type]
    return None if level >= new.capacity else _Grown((level, _UNKNOWN_YET, _UNKNOWN_YET))
