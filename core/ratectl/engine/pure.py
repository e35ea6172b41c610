"""The pure-Python engine: the executable specification of what an engine does.

One lock around each decision. A check reads every limit first and writes only when all admit it,
so a refusal consumes nothing anywhere.
"""

from __future__ import annotations

import threading
from itertools import islice
from typing import TYPE_CHECKING, Final

from ratectl.engine.base import Engine, EngineUsage, PlanSet, ScopePlan
from ratectl.engine.concurrency import Concurrency
from ratectl.engine.decision import NEVER, UNKNOWN, Decision
from ratectl.engine.family import Family
from ratectl.engine.group import Counters, Group
from ratectl.engine.settle import Charged, release, settle, slots_of
from ratectl.engine.succession import Kin, Succession
from ratectl.engine.table import DEFAULT_MAX_BYTES, Table
from ratectl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from ratectl.engine.base import LimitPlan, LimitUsage, State
    from ratectl.engine.choice import Mask
    from ratectl.engine.decision import Reason
    from ratectl.engine.settle import Look

__all__ = ["PureEngine"]

_MAX_ALIASES: Final = 100_000
"""Undeclared scopes remembered with the plan that covers them."""

_PIECES: Final = 8
"""Pieces of a swap done at a time under the lock: some tens of microseconds."""

_MAX_SELECTIONS: Final = 10_000
"""Sets of conditions remembered with their groups, for each scope."""


class _Active:
    """A scope's plan with its groups at hand; None where these depend on the request.

    Groups that hold slots are charged last.
    """

    __slots__ = ("_by_mask", "groups", "holds", "kin", "plan")

    def __init__(self, plan: ScopePlan, kin: tuple[Kin, ...]) -> None:
        self.plan = plan
        self.kin = kin
        self.holds = False
        """Whether any of the groups so far holds slots."""
        self.groups: tuple[Group, ...] | None = None
        if plan.conditions is None:
            self.groups = self._in_order(each for each in kin if isinstance(each, Group))
        self._by_mask: dict[Mask, tuple[Group, ...]] = {}

    def select(self, attributes: Mapping[str, str]) -> tuple[Group, ...]:
        """The groups of a request whose attributes matter."""
        assert self.plan.conditions is not None
        mask = self.plan.conditions.holding(attributes)
        groups = self._by_mask.get(mask)
        if groups is None:
            found = [each.group(mask) if isinstance(each, Family) else each for each in self.kin]
            groups = self._in_order(each for each in found if each is not None)
            if len(self._by_mask) >= _MAX_SELECTIONS:
                self._by_mask.clear()
            self._by_mask[mask] = groups
        return groups

    def of(self, attributes: Mapping[str, str]) -> tuple[Group, ...]:
        """The groups of a request."""
        return self.select(attributes) if self.groups is None else self.groups

    def _in_order(self, groups: Iterable[Group]) -> tuple[Group, ...]:
        ordered = tuple(sorted(groups, key=_holds))
        self.holds = self.holds or any(map(_holds, ordered))
        return ordered


def _no_pause() -> None:
    """Nobody waits."""


class _PureMaker:
    """Groups and counters in pure Python."""

    def counters(self) -> Counters:
        return Counters()

    def group(self, limit: LimitPlan, genesis: State | None, counters: Counters) -> Group:
        return Group(limit, genesis, counters)


class PureEngine(Engine):
    """See :class:`~ratectl.engine.base.Engine`.

    ``max_bytes`` bounds what its buckets take, and ``max_buckets`` their number as well.
    """

    name = "pure"

    def __init__(
        self,
        clock: Callable[[], int],
        *,
        max_bytes: int = DEFAULT_MAX_BYTES,
        max_buckets: int | None = None,
    ) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._swapping = threading.Lock()
        self._plans = PlanSet(0)
        self._active: dict[str, _Active | None] = {}
        self._table = Table(max_bytes, max_buckets, self._behind)
        self._succession = Succession(_PureMaker(), self._table)
        self._no_policy = 0

    def _behind(self, group: Group) -> bool:
        return self._succession.behind(group)

    @property
    def generation(self) -> int:
        return self._plans.generation

    def plan(self, scope: str) -> ScopePlan | None:
        return self._plans.find(scope)

    def check(
        self, scope: str, attributes: Mapping[str, str], cost: int = 1, now: int | None = None
    ) -> Decision:
        if cost.__class__ is not int or cost < 0:
            raise UsageError(f"cost is a whole number, 0 or more, not {cost!r}")
        with self._lock:
            if now is None:
                now = self._clock()
            try:
                active = self._active[scope]
            except KeyError:
                active = self._activate(scope)
            if active is None:
                self._no_policy += 1
                return Decision(True, "no_policy", self._plans.generation)
            groups = active.groups
            if groups is None:
                groups = active.select(attributes)
            looks: list[Look] = []
            refused = False
            for group in groups:
                key, state, untracked = group.find(attributes, now)
                wait = group.algorithm.wait(state, cost, now)
                looks.append((group, key, state, untracked, wait))
                if wait and not group.shadow:
                    refused = True
            if refused:
                return self._refuse(looks, now)
            decision = self._admit(active, looks, cost, now)
            slots = slots_of(looks) if active.holds and cost else ()
            decision._charged = (self, looks, scope, attributes, now, cost, cost, slots)  # noqa: SLF001
            return decision

    def release(self, decision: Decision) -> None:
        charged: Charged | None = decision._charged  # noqa: SLF001
        if charged is not None and charged[-1]:
            with self._lock:
                self._bring(charged)
                release(charged)

    def settle(self, decision: Decision, actual: int, now: int | None = None) -> None:
        with self._lock:
            if now is None:
                now = self._clock()
            charged: Charged | None = decision._charged  # noqa: SLF001
            if charged is None:
                return
            self._bring(charged)
            scope, attributes = charged[2:4]
            active = self._active[scope] if scope in self._active else self._activate(scope)
            groups = active.of(attributes) if active is not None else ()
            decision._charged = settle(charged, actual, groups, now, self._table)  # noqa: SLF001

    def _admit(self, active: _Active, looks: list[Look], cost: int, now: int) -> Decision:
        tightest: tuple[Group, State] | None = None
        least = 0
        shadowed: Look | None = None
        for look in looks:
            group, key, state, untracked, wait = look
            counters = group.counters
            if wait:
                counters.shadow_refused += 1
                if shadowed is None or _outweighs(wait, shadowed[4]):
                    shadowed = look
                continue
            if untracked and cost:
                held = [other[2] for other in looks]
                state = self._table.insert(group, key, state, now, held)
            left = group.algorithm.charge(state, cost, now)
            counters.allowed += 1
            if counters.lowest is None or left < counters.lowest:
                counters.lowest = left
            if not group.shadow and (tightest is None or left < least):
                tightest, least = (group, state), left
        if shadowed is not None:
            group, _, state, _, _ = shadowed
            return self._decide(group, state, True, "shadow", 0, now)
        if tightest is None:
            return Decision(True, "ok", self._plans.generation, scope=active.plan.scope)
        return self._decide(*tightest, True, "ok", 0, now, least)

    def _refuse(self, looks: list[Look], now: int) -> Decision:
        decisive: Look | None = None
        for look in looks:
            group, key, _, _, wait = look
            if not wait:
                continue
            if group.shadow:
                group.counters.shadow_refused += 1
                continue
            group.counters.refuse(key, never=wait == NEVER)
            if decisive is None or _outweighs(wait, decisive[4]):
                decisive = look
        assert decisive is not None, "somebody refused"
        group, _, state, _, wait = decisive
        if wait == NEVER:
            return self._decide(group, state, False, "never", None, now)
        return self._decide(group, state, False, "limited", wait if wait != UNKNOWN else None, now)

    def _decide(
        self,
        group: Group,
        state: State,
        allowed: bool,
        reason: Reason,
        wait: int | None,
        now: int,
        left: int | None = None,
    ) -> Decision:
        """``left`` is what remains, where a charge has just said so."""
        algorithm = group.algorithm
        reset = algorithm.reset_after(state, now)
        return Decision(
            allowed,
            reason,
            self._plans.generation,
            group.name,
            group.scope,
            algorithm.most,
            algorithm.remaining(state, now) if left is None else left,
            wait,
            reset if reset >= 0 else None,
        )

    def _activate(self, scope: str) -> _Active | None:
        """Find the plan of a scope seen for the first time in this generation."""
        plan = self._plans.find(scope)
        active = None
        if plan is not None:
            known = self._active.get(plan.scope)
            active = known or _Active(plan, tuple(map(self._succession.kin, plan.limits)))
            self._active[plan.scope] = active
        if len(self._active) >= _MAX_ALIASES:
            self._active.clear()
        self._active[scope] = active
        return active

    def _bring(self, charged: Charged) -> None:
        """A swap under way reaches what was charged first."""
        for group, *_ in charged[1]:
            self._succession.bring(group.identity)

    def swap(
        self,
        plans: PlanSet,
        now: int | None = None,
        *,
        pause: Callable[[], object] = _no_pause,
    ) -> None:
        with self._swapping:
            before, active = self._plans, self._active
            step = self._succession.prepare(before, plans, pause)
            with self._lock:
                instant = self._clock() if now is None else now
                self._succession.start(step, instant)
                self._plans = plans
                self._active = {}
            self._piecewise(self._succession.rest(), pause)
            self._tend(instant, pause)
        _let_go([*active.values(), *before.scopes.values()], pause)

    def usage(self, *, pause: Callable[[], object] = _no_pause) -> EngineUsage:
        with self._swapping:
            now = self._clock()
            limits: list[LimitUsage] = []
            self._piecewise(self._count(limits, now), pause)
            self._tend(now, pause)
        with self._lock:
            return EngineUsage(
                generation=self._plans.generation,
                limits=tuple(limits),
                no_policy=self._no_policy,
                buckets=len(self._table),
                overflowed=self._table.overflowed,
            )

    def _count(self, limits: list[LimitUsage], now: int) -> Iterator[None]:
        """Count every limit. Seeds that have nothing more to say are let go by the way."""
        for kin in self._succession.kins():
            kin.expire(now)
            for group in _groups_of(kin):
                limits.append(group.usage())
                yield

    def _tend(self, now: int, pause: Callable[[], object]) -> None:
        groups = [group for kin in self._succession.kins() for group in _groups_of(kin)]
        self._piecewise(self._table.tend(groups, now), pause)

    def _piecewise(self, work: Iterator[None], pause: Callable[[], object]) -> None:
        """Do something large under the lock, which others get between any two pieces of it."""
        more = True
        while more:
            with self._lock:
                more = sum(1 for _ in islice(work, _PIECES)) == _PIECES
            pause()

    def before_fork(self) -> None:
        self._swapping.acquire()
        self._lock.acquire()

    def after_fork(self, *, child: bool) -> None:
        if child:
            self._lock = threading.Lock()
            self._swapping = threading.Lock()
        else:
            self._lock.release()
            self._swapping.release()


def _groups_of(kin: Kin) -> list[Group]:
    return kin.members() if isinstance(kin, Family) else [kin]


def _let_go(objects: list[object], pause: Callable[[], object]) -> None:
    """Drop the last references to a great many objects a few at a time."""
    while objects:
        del objects[-_PIECES:]
        pause()


def _holds(group: Group) -> bool:
    return isinstance(group.algorithm, Concurrency)


def _outweighs(wait: int, other: int) -> bool:
    """Never beats unknown, which beats every known wait: no refusal promises what it cannot keep.

    Of two known waits the longer one is reported.
    """
    if wait >= 0 and other >= 0:
        return wait > other
    return other != NEVER and (wait == NEVER or (wait == UNKNOWN and other != UNKNOWN))
