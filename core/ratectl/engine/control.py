"""What engines have in common: plans in force, swaps, usage and forks. Deciding is their own."""

from __future__ import annotations

import threading
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Protocol

from ratectl.engine.base import Engine, EngineUsage, PlanSet, ScopePlan
from ratectl.engine.concurrency import Concurrency
from ratectl.engine.family import Family
from ratectl.engine.group import Group
from ratectl.engine.succession import Kin, Succession
from ratectl.engine.waivers import NO_WAIVERS, Waivers
from ratectl.errors import UsageError
from ratectl.pacing import breathe, paced, release

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from types import TracebackType

    from ratectl.engine.base import LimitUsage, Mirror
    from ratectl.engine.choice import Mask
    from ratectl.engine.decision import Decision
    from ratectl.engine.group import Maker
    from ratectl.engine.table import Table
    from ratectl.engine.waivers import Waiver

__all__ = ["Active", "ControlledEngine", "Lock", "Spent", "checked_cost"]

Spent = list[Any] | dict[Any, Any]
"""What is not needed any more (see ``pacing.release``)."""

_MAX_ALIASES: Final = 100_000
"""Undeclared scopes remembered with the plan that covers them."""

_PIECES: Final = 8
"""Pieces of a swap done at a time under the lock: some tens of microseconds."""

_MAX_SELECTIONS: Final = 10_000
"""Sets of conditions remembered with their groups, for each scope."""


def checked_cost(cost: object) -> None:
    """:raises UsageError: not a cost."""
    if not isinstance(cost, int) or isinstance(cost, bool) or cost < 0:
        raise UsageError(f"cost is a whole number, 0 or more, not {cost!r}")


class Lock(Protocol):
    """What guards an engine."""

    def __enter__(self) -> object: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None: ...

    def acquire(self) -> object: ...

    def release(self) -> None: ...


class Active:
    """A scope's plan with its groups at hand; None where these depend on the request.

    Groups that hold slots are charged last.
    """

    __slots__ = ("_by_mask", "groups", "holds", "kin", "plan", "shadow")

    def __init__(self, plan: ScopePlan, kin: tuple[Kin, ...], *, shadow: bool = False) -> None:
        self.plan = plan
        self.kin = kin
        self.shadow = shadow
        """Whether none of the groups may refuse."""
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


class ControlledEngine(Engine):
    """An engine without ``check``."""

    def __init__(self, clock: Callable[[], int], maker: Maker, table: Table) -> None:
        self._clock = clock
        self._swapping = threading.Lock()
        self._lock: Lock = self._new_lock()
        self._plans = PlanSet(0)
        self._active: dict[str, Active | None] = {}
        self._shared: dict[tuple[str, Waiver | None], Active] = {}
        """What scopes have in common that are governed and waived alike."""
        self._waivers = NO_WAIVERS
        self._mirror: Mirror | None = None
        self._table = table
        self._succession = Succession(maker, table)
        self._no_policy = 0
        self._failed: Callable[[str, Exception], Decision] | None = None
        self._unready: Callable[[], Decision] | None = None

    def guard(
        self, failed: Callable[[str, Exception], Decision], unready: Callable[[], Decision]
    ) -> None:
        self._failed, self._unready = failed, unready

    @property
    def generation(self) -> int:
        return self._plans.generation

    def plan(self, scope: str) -> ScopePlan | None:
        return self._plans.find(scope)

    # What requests ask for, under the lock ------------------------------------------------------

    def _activate(self, scope: str) -> Active | None:
        """Find what decides a scope seen for the first time since all was forgotten."""
        active = self._find(scope)
        if active is None and self._stand_in() is not None:
            return None
        if len(self._active) >= _MAX_ALIASES:
            self._forget()
        self._remember(scope, active)
        return active

    def _find(self, scope: str) -> Active | None:
        plan, waiver = self._plans.find(scope), self._waivers.at(scope)
        if plan is None and (waiver is None or self._plans.generation):
            return None
        if plan is None or waiver == "open":
            plan = ScopePlan(plan.scope if plan else "/", (), allow_on_error=True)
        known = self._shared.get((plan.scope, waiver))
        if known is None:
            kins = self._kins_of(plan)
            known = self._new_active(plan, kins, shadow=waiver == "shadow")
            self._shared[plan.scope, waiver] = known
        return known

    def _kins_of(self, plan: ScopePlan) -> tuple[Kin, ...]:
        return tuple(map(self._succession.kin, plan.limits))

    def _counting(self, scope: str, attributes: Mapping[str, str]) -> tuple[Group, ...]:
        """The groups of a request by the plans alone, whatever is waived."""
        plan = self._plans.find(scope)
        return () if plan is None else Active(plan, self._kins_of(plan)).of(attributes)

    def _stand_in(self) -> Callable[[], Decision] | None:
        """What answers for the engine as long as nothing is loaded; None afterwards."""
        return None if self._plans.generation else self._unready

    def _new_active(self, plan: ScopePlan, kins: tuple[Kin, ...], *, shadow: bool) -> Active:
        return Active(plan, kins, shadow=shadow)

    def _remember(self, scope: str, active: Active | None) -> None:
        self._active[scope] = active

    def _forget(self) -> list[Spent]:
        """Find every plan anew; returns what was remembered, to be released."""
        remembered: list[Spent] = [self._active, self._shared]
        self._active, self._shared = {}, {}
        return remembered

    # Waivers ------------------------------------------------------------------------------------

    def waive(self, by_scope: Mapping[str, Waiver]) -> None:
        waivers = Waivers(by_scope)
        with self._lock:
            self._waivers = waivers
            spent = self._forget()
        release(*spent)

    def waived(self, scope: str) -> Waiver | None:
        return self._waivers.at(scope)

    # Mirrors ------------------------------------------------------------------------------------

    def mirror(self, mirror: Mirror | None) -> None:
        with self._lock:
            self._mirror = mirror

    # Swaps --------------------------------------------------------------------------------------

    def swap(
        self,
        plans: PlanSet,
        now: int | None = None,
        *,
        pause: Callable[[], object] = breathe,
    ) -> None:
        with self._swapping:
            spent = self._swap(plans, now, pause)
        release(*spent)

    def _swap(self, plans: PlanSet, now: int | None, pause: Callable[[], object]) -> list[Spent]:
        """Returns what is not needed any more, so that it can be let go of bit by bit."""
        before = self._plans
        step = self._succession.prepare(before, plans, pause)
        with self._lock:
            instant = self._clock() if now is None else now
            self._succession.start(step, instant)
            self._plans = plans
            spent = self._forget()
        self._piecewise(self._succession.rest(), pause)
        self._tend(instant, pause)
        # Plans belong to whoever made them, who may go on reading them.
        return [*spent, *step.spent(), list(paced(before.scopes.values()))]

    def usage(self, *, pause: Callable[[], object] = breathe) -> EngineUsage:
        with self._swapping:
            now = self._clock()
            limits: list[LimitUsage] = []
            self._tend(now, pause)
            self._piecewise(self._count(limits, now), pause)
        with self._lock:
            return EngineUsage(
                generation=self._plans.generation,
                limits=tuple(limits),
                no_policy=self._count_no_policy(),
                buckets=len(self._table),
                overflowed=self._table.overflowed,
            )

    def _count_no_policy(self) -> int:
        return self._no_policy

    def _count(self, limits: list[LimitUsage], now: int) -> Iterator[None]:
        """Count every limit. Seeds that have nothing more to say are let go by the way."""
        for kin in self._succession.kins():
            kin.expire(now)
            for group in _groups_of(kin):
                limits.append(group.usage())
                yield

    def _tend(self, now: int, pause: Callable[[], object]) -> None:
        groups = (group for kin in self._succession.kins() for group in _groups_of(kin))
        self._piecewise(self._table.tend(groups, now), pause)

    def _piecewise(self, work: Iterator[None], pause: Callable[[], object]) -> None:
        """Do something large under the lock, which others get between any two pieces of it."""
        more = True
        while more:
            with self._lock:
                more = sum(1 for _ in islice(work, _PIECES)) == _PIECES
            pause()

    # Forks --------------------------------------------------------------------------------------

    def _new_lock(self) -> Lock:
        return threading.Lock()

    def before_fork(self) -> None:
        self._swapping.acquire()
        self._lock.acquire()

    def after_fork(self, *, child: bool) -> None:
        if child:
            self._lock = self._new_lock()
            self._swapping = threading.Lock()
            self.mirror(None)  # what it holds may be held for ever
        else:
            self._lock.release()
            self._swapping.release()


def _groups_of(kin: Kin) -> list[Group]:
    return kin.members() if isinstance(kin, Family) else [kin]


def _holds(group: Group) -> bool:
    return isinstance(group.algorithm, Concurrency)
