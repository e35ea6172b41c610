"""The common part of engines: plans in force, swaps, usage and forks. Deciding is their own.

**No decision holds a lock while code of others may run.** Others are finalizers and callbacks of
weak references (run by the cycle collector), signal handlers, attribute mappings, other threads;
asynchronous exceptions come at the same places. A decision reads, then writes all that it changes
in one step that nothing can come between, if ``turn`` is still what it was when reading began.
Otherwise it reads again. So whatever interrupts a decision finds the buckets as they were before
it or after it, and may decide by itself.

What takes more than one step (a swap, a new bucket, a settlement) is done ``_alone``: under a
lock, with an odd ``turn``, without the cycle collector, on texts that were read before. Decisions
wait for it. Where one is asked for from inside it, which leaves signal handlers, ``on_error``
answers; a release or a settlement is done right afterwards.

The one step is code without a call: CPython looks for signals, other threads and asynchronous
exceptions only at calls, at the start of functions and at the end of loops, and collects garbage
only where containers are made. Where there is no global interpreter lock, all is done ``_alone``.
"""

from __future__ import annotations

import gc
import logging
import sys
import threading
import time
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from ratectl.engine.active_scope import Active
from ratectl.engine.api import Engine, EngineUsage, PlanSet, ScopePlan
from ratectl.engine.buckets.reload import Kin, Step, Succession
from ratectl.engine.buckets.variants import Family
from ratectl.engine.waivers import NO_WAIVERS, Waivers
from ratectl.runtime.cooperative import breathe, paced, release
from ratectl.runtime.gc_pause import pauses

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping

    from ratectl.engine.api import LimitUsage, Mirror
    from ratectl.engine.buckets.bucket_set import Group, Maker
    from ratectl.engine.buckets.table import Table
    from ratectl.engine.decision import Decision
    from ratectl.engine.waivers import Waiver

__all__ = ["Busy", "ControlledEngine", "Spent", "Turn"]

_log = logging.getLogger("ratectl.engine")

T = TypeVar("T")

Spent = list[Any] | dict[Any, Any]
"""What is not needed any more (see ``pacing.release``)."""

_MAX_ALIASES: Final = 100_000
"""Undeclared scopes remembered with the plan that covers them."""

_PIECES: Final = 8
"""Pieces of a swap done at a time under the lock: some tens of microseconds."""

_WAITS: Final = (*([50e-6] * 20), *([1e-3] * 1_000))
"""Seconds between looks of a decision that waits for a change: one is over in microseconds, unless
whoever is at it waits for something else."""


class Turn(Protocol):
    """Counter of an engine's changes: odd while one is under way."""

    turn: int


class _Turn:
    __slots__ = ("turn",)

    def __init__(self) -> None:
        self.turn = 0


class Busy(RuntimeError):
    """Raised to a decision that cannot wait for a change of the engine."""


class ControlledEngine(Engine):
    """An engine without ``check``."""

    def __init__(self, clock: Callable[[], int], maker: Maker, table: Table) -> None:
        self._clock = clock
        self._swapping = threading.RLock()
        self._lock: Any = threading.RLock()
        self._turns: Turn = self._new_turns()
        self._later: deque[Callable[[], object]] = deque()
        """Releases and settlements that were asked for while the engine was being changed."""
        self._quick = getattr(sys, "_is_gil_enabled", lambda: True)()
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

    # Changes ------------------------------------------------------------------------------------

    def _new_turns(self) -> Turn:
        return _Turn()

    def _alone(self, work: Callable[..., T], *args: Any) -> T:
        """Do something that takes more than one step; nobody decides meanwhile."""
        turns = self._turns
        paused = False
        try:
            if pauses.count or gc.isenabled():
                paused = True
                pauses.count += 1
                gc.disable()
            with self._lock:
                odd = turns.turn | 1
                after = odd + 1  # made before: there may be no memory for a number afterwards
                try:
                    turns.turn = odd
                    return work(*args)
                finally:
                    turns.turn = after
        finally:  # no call but that of `gc.enable`: an exception may come after it, not before
            if paused:
                pauses.count -= 1
                if pauses.count < 1:
                    pauses.count = 0
                    gc.enable()
            if self._later:
                self._catch_up()

    def _changing(self) -> bool:
        """Return True if this very thread is changing the engine."""
        return bool(self._turns.turn & 1 and self._lock._is_owned())  # noqa: SLF001

    def _await_turn(self) -> None:
        """Wait until nobody changes the engine.

        :raises Busy: that is not to be waited for.
        """
        if self._changing():
            raise Busy("asked for while this very thread was changing the engine")
        for wait in _WAITS:
            if not self._turns.turn & 1:
                return
            time.sleep(wait)
        raise Busy(
            "the engine has been changed for more than a second, and is not to be waited for"
        )

    def _catch_up(self) -> None:
        """Do what was put off."""
        while self._later and not self._changing():
            try:
                work = self._later.popleft()
            except IndexError:
                return
            try:
                work()
            except Exception:  # noqa: BLE001  whoever comes by did not ask for it
                _log.exception("what was put off while the engine was being changed has failed")

    # What requests ask for, alone ---------------------------------------------------------------

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
        spent = self._alone(self._waive, Waivers(by_scope))
        release(*spent)

    def _waive(self, waivers: Waivers) -> list[Spent]:
        self._waivers = waivers
        return self._forget()

    def waived(self, scope: str) -> Waiver | None:
        return self._waivers.at(scope)

    # Mirrors ------------------------------------------------------------------------------------

    def mirror(self, mirror: Mirror | None) -> None:
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
        if self._succession.under_way:  # whoever was at it was interrupted
            self._piecewise(self._succession.rest(), pause)
        before = self._plans
        step = self._succession.prepare(before, plans, pause)
        instant, spent = self._alone(self._start, step, now)
        self._piecewise(self._succession.rest(), pause)
        self._tend(instant, pause)
        # Plans belong to whoever made them, who may go on reading them.
        return [*spent, *step.spent(), list(paced(before.scopes.values()))]

    def _start(self, step: Step, now: int | None) -> tuple[int, list[Spent]]:
        instant = self._clock() if now is None else now
        spent = self._forget()
        self._succession.start(step, instant, self)
        return instant, [*spent, *self._forget()]

    def usage(self, *, pause: Callable[[], object] = breathe) -> EngineUsage:
        with self._swapping:
            now = self._clock()
            limits: list[LimitUsage] = []
            self._tend(now, pause)
            self._piecewise(self._count(limits, now), pause)
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
        """Do something large; others get their turn between any two pieces of it."""
        while self._alone(_some_of, work):
            pause()
        pause()

    # Forks --------------------------------------------------------------------------------------

    def standstill(self) -> Generator[None]:
        with self._swapping, self._lock:
            yield

    def after_fork_in_child(self) -> None:
        self.mirror(None)  # what it holds may be held for ever
        # A fork from inside a change goes on with it in the child.
        if not self._changing():
            self._lock = threading.RLock()
            self._swapping = threading.RLock()


def _some_of(work: Iterator[None]) -> bool:
    """Do a few pieces of some work; False when it is done."""
    return sum(1 for _ in islice(work, _PIECES)) == _PIECES


def _groups_of(kin: Kin) -> list[Group]:
    return kin.members() if isinstance(kin, Family) else [kin]
