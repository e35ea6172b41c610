"""The common part of engines: plans in force, swaps, usage and forks. Each engine decides itself.

**No decision holds a lock while foreign code may run.** Foreign code is: finalizers and callbacks
of weak references (run by the cycle collector), signal handlers, attribute mappings, other threads;
asynchronous exceptions come at the same places. A decision first reads. It then writes all its
changes in one uninterruptible step, if ``turn`` is still what it was when reading began; otherwise
it reads again. So code that interrupts a decision finds the buckets as they were before it or after
it, and may decide itself.

Work of more than one step (a swap, a new bucket, a settlement) is done ``_alone``: under a lock,
with an odd ``turn``, without the cycle collector, on texts that were read before. Decisions wait
for it. If a decision is requested from inside it (only signal handlers can), ``on_error`` decides;
a release or a settlement is done right afterwards.

The one step is code without a call: CPython looks for signals, other threads and asynchronous
exceptions only at calls, at the start of functions and at the end of loops, and collects garbage
only when containers are made. Without a global interpreter lock, everything is done ``_alone``.
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

from ratectl.engine.active_scope import Active, Selection
from ratectl.engine.api import Engine, PlanSet, ScopePlan
from ratectl.engine.buckets.groups import Groups
from ratectl.engine.waivers import NO_WAIVERS, Waivers
from ratectl.runtime.cooperative import breathe, paced, release
from ratectl.runtime.gc_pause import pauses

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping

    from ratectl.engine.api import Mirror, Watcher
    from ratectl.engine.buckets.bucket_set import Maker
    from ratectl.engine.buckets.changes import LimitName, Step
    from ratectl.engine.buckets.table import Table
    from ratectl.engine.decision import Decision
    from ratectl.engine.waivers import Waiver

__all__ = ["Busy", "ControlledEngine", "Spent", "Turn"]

_log = logging.getLogger("ratectl.engine")

T = TypeVar("T")

_Place = tuple[str, tuple[str, ...], str | None]

Spent = list[Any] | dict[Any, Any]
"""Container that is not needed any more (see ``cooperative.release``)."""

_MAX_ALIASES: Final = 100_000
"""Most undeclared scopes that are remembered with the plan that covers them."""

_MAX_ALIAS_CHARS: Final = 16 << 20
"""Most characters of all remembered scopes together."""

_PIECES: Final = 8
"""Pieces of a swap done at a time under the lock: some tens of microseconds."""

_WAITS: Final = (*([50e-6] * 20), *([1e-3] * 1_000))
"""Seconds between attempts of a decision that waits for a change. A change takes microseconds,
unless its thread is suspended."""


_LONG_AGO: Final = -(1 << 63)
"""Earlier than any instant, in nanoseconds."""


class Turn(Protocol):
    """Counter of an engine's changes: odd while one is under way. And the engine's time."""

    turn: int
    last: int
    """Latest instant of any decision or change, in nanoseconds. The engine decides no request as of
    an earlier one: a clock that steps back stands still, or evicted buckets would be missed."""


class _Turn:
    __slots__ = ("last", "turn")

    def __init__(self) -> None:
        self.turn = 0
        self.last = _LONG_AGO


class Busy(RuntimeError):
    """Raised when a decision cannot wait for a change of the engine."""


class ControlledEngine(Engine):
    """An engine without ``check``."""

    def __init__(self, clock: Callable[[], int], maker: Maker, table: Table) -> None:
        self._clock = clock
        self._swapping = threading.RLock()
        self._lock: Any = threading.RLock()
        self._turns: Turn = self._new_turns()
        self._later: deque[Callable[[], object]] = deque()
        """Releases and settlements that were requested while the engine was being changed."""
        self._quick = getattr(sys, "_is_gil_enabled", lambda: True)()
        self._plans = PlanSet(0)
        self._active: dict[str, Active | None] = {}
        self._alias_chars = 0
        self._shared: dict[_Place, Active] = {}
        """Active scopes by declared scope, now and before, and waiver: undeclared scopes share."""
        self._waivers = NO_WAIVERS
        self._mirror: Mirror | None = None
        self._watcher: Watcher | None = None
        self._table = table
        self._groups = Groups(maker, table, self._plans)
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
        """Do work of more than one step. No other thread decides meanwhile."""
        turns = self._turns
        paused = False
        try:
            if pauses.count or gc.isenabled():
                paused = True
                pauses.count += 1
                gc.disable()
            with self._lock:
                odd = turns.turn | 1
                after = odd + 1  # made in advance: afterwards, there may be no memory for a number
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

    def _instant(self, now: int | None) -> int:
        """Advance the engine's time to ``now``, or to the clock, and return it. Call it alone."""
        turns = self._turns
        if now is None:
            now = self._clock()
        if now < turns.last:
            return turns.last
        turns.last = now
        return now

    @property
    def changing(self) -> bool:
        """Return True if the current thread is changing the engine."""
        return bool(self._turns.turn & 1 and self._lock._is_owned())  # noqa: SLF001

    def _await_turn(self) -> None:
        """Wait until nobody changes the engine.

        :raises Busy: this thread itself changes the engine, or the change takes too long.
        """
        if self.changing:
            raise Busy("this very thread is changing the engine, so it cannot wait for that")
        for wait in _WAITS:
            if not self._turns.turn & 1:
                return
            time.sleep(wait)
        raise Busy("a change of the engine has taken more than a second")

    def _catch_up(self) -> None:
        """Do the releases and settlements that were put off."""
        while self._later and not self.changing:
            try:
                work = self._later.popleft()
            except IndexError:
                return
            try:
                work()
            except Exception:  # noqa: BLE001  the present caller did not request it
                _log.exception("a release or settlement during a change of the engine has failed")

    # Scopes in use, alone -----------------------------------------------------------------------

    def _activate(self, scope: str) -> Active | None:
        """Return the active scope of a scope that is not remembered, and remember it."""
        active = self._find(scope)
        if active is None and self._stand_in() is not None:
            return None
        if len(self._active) >= _MAX_ALIASES or self._alias_chars > _MAX_ALIAS_CHARS:
            self._forget()
        self._alias_chars += len(scope)
        self._remember(scope, active)
        return active

    def _find(self, scope: str) -> Active | None:
        plan, waiver = self._governed(scope)
        if plan is None:
            return None
        place = self._place(scope, plan, waiver)
        known = self._shared.get(place)
        if known is None:
            known = self._new_active(scope, plan, shadow=waiver == "shadow")
            self._shared[place] = known
        return known

    def _governed(self, scope: str) -> tuple[ScopePlan | None, Waiver | None]:
        """Return the plan of a scope, without limits if they are waived; and the waiver there."""
        plan, waiver = self._plans.find(scope), self._waivers.at(scope)
        if plan is None and (waiver is None or self._plans.generation):
            return None, waiver
        if plan is None or waiver == "open":
            plan = ScopePlan(plan.scope if plan else "/", (), allow_on_error=True)
        return plan, waiver

    def _place(self, scope: str, plan: ScopePlan, waiver: Waiver | None) -> _Place:
        """Return the key in ``_shared`` of the active scope of a scope."""
        return plan.scope, self._groups.past.homes(scope), waiver

    def _counting(self, scope: str, attributes: Mapping[str, str]) -> Selection:
        """Return the groups of a request by the plans alone, without waivers."""
        plan = self._plans.find(scope)
        if plan is None:
            return Selection(())
        return Active(scope, plan, self._groups).of(attributes)

    def _stand_in(self) -> Callable[[], Decision] | None:
        """Return the function that decides before the first swap; None afterwards."""
        return None if self._plans.generation else self._unready

    def _new_active(self, scope: str, plan: ScopePlan, *, shadow: bool) -> Active:
        return Active(scope, plan, self._groups, shadow=shadow)

    def _remember(self, scope: str, active: Active | None) -> None:
        self._active[scope] = active

    def _forget(self) -> list[Spent]:
        """Forget all active scopes. Return the containers, to be released."""
        remembered: list[Spent] = [self._active, self._shared]
        self._active, self._shared, self._alias_chars = {}, {}, 0
        return remembered

    # Waivers ------------------------------------------------------------------------------------

    def waive(self, by_scope: Mapping[str, Waiver]) -> None:
        spent = self._alone(self._waive, Waivers(by_scope))
        self._tell_of_change()
        release(*spent)

    def _waive(self, waivers: Waivers) -> list[Spent]:
        self._waivers = waivers
        return self._forget()

    def waived(self, scope: str) -> Waiver | None:
        return self._waivers.at(scope)

    # Mirrors ------------------------------------------------------------------------------------

    def mirror(self, mirror: Mirror | None) -> None:
        self._mirror = mirror

    # Watchers -----------------------------------------------------------------------------------

    def watch(self, watcher: Watcher | None) -> None:
        self._watcher = watcher

    def _tell_of_change(self) -> None:
        watcher = self._watcher
        if watcher is not None:
            watcher.changed()

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
        self._tell_of_change()
        release(*spent)

    def _swap(self, plans: PlanSet, now: int | None, pause: Callable[[], object]) -> list[Spent]:
        """Swap. Return the containers that are not needed any more."""
        if self._groups.under_way:  # an earlier swap was interrupted
            self._piecewise(self._groups.rest(), pause)
        before = self._plans
        step = self._groups.prepare(plans, pause)
        instant, spent = self._alone(self._start, step, now)
        self._piecewise(self._groups.rest(), pause)
        self._tend(instant, pause)
        # A copy: the caller owns the plans, and may go on reading them.
        return [*spent, step.compared.known, list(paced(before.scopes.values()))]

    def _start(self, step: Step, now: int | None) -> tuple[int, list[Spent]]:
        instant = self._instant(now)
        spent = self._forget()
        self._groups.start(step, instant)
        self._plans = step.plans
        return instant, [*spent, *self._forget()]

    def _tend(self, now: int, pause: Callable[[], object]) -> None:
        many = self._groups.too_many()
        if many:
            self._piecewise(self._groups.empty(many, now), pause)
        over = many | self._groups.forgettable(now)
        if over:
            release(*self._alone(self._forget_past, over, now))
            self._piecewise(self._groups.free(over), pause)
        self._piecewise(self._table.tend(self._groups.in_force(), now), pause)

    def _forget_past(self, names: set[LimitName], now: int) -> list[Spent]:
        self._groups.forget(names, now)
        return self._forget()

    def _piecewise(self, work: Iterator[None], pause: Callable[[], object]) -> None:
        """Do large work in pieces. Other threads may decide between any two pieces."""
        while self._alone(_some_of, work):
            pause()
        pause()

    # Forks --------------------------------------------------------------------------------------

    def standstill(self) -> Generator[None]:
        with self._swapping, self._lock:
            yield

    def after_fork_in_child(self) -> None:
        self.mirror(None)  # a lock that it uses may stay locked for ever
        # If the fork came from inside a change, the child finishes the change.
        if not self.changing:
            self._lock = threading.RLock()
            self._swapping = threading.RLock()


def _some_of(work: Iterator[None]) -> bool:
    """Do a few pieces of some work. Return False when it is done."""
    return sum(1 for _ in islice(work, _PIECES)) == _PIECES
