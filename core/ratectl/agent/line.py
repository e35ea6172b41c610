"""The line of waiting requests of one agent: it checks the first ones, and wakes the next.

Each request asks the line itself, in its own thread or task, and sleeps in between; the line has no
thread. So the thread or task that is told "admitted" is the one that made the check, with nothing
to hand over that a cancellation could lose.

All queues are changed under one lock, for microseconds. If an exception (a signal handler's)
interrupts a change, the next change first builds the queues again from the set of waiting requests.
Code that has interrupted a change in the same thread only leaves a note, which that change reads at
its end. Releases take no lock at all.
"""

from __future__ import annotations

import threading
from itertools import count
from typing import TYPE_CHECKING, Any, Final, Protocol

from ratectl.agent.log import log
from ratectl.agent.queues import Queues
from ratectl.engine.cost import cost_in
from ratectl.engine.decision import Decision
from ratectl.runtime.cooperative import paced

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from ratectl.agent.queues import Queue
    from ratectl.engine.api import Engine
    from ratectl.engine.buckets.place import Place
    from ratectl.engine.cost import Cost

__all__ = ["FOREVER", "Line", "Request", "Sleeper"]

FOREVER: Final = 1 << 62
"""Nanoseconds that never pass."""

_UNKNOWN: Final = 500_000_000
"""Nanoseconds between checks of a request that waits for an unknown time. A release wakes it at
once; this is for slots that become free after their ``hold``."""

_LONGEST: Final = 60_000_000_000
"""Longest time between two checks of a first request (nanoseconds): the wall clock may be set."""


_PATIENCE: Final = 5_000_000_000
"""Longest time that the first request may take to be checked after it is due (nanoseconds): its
event loop may be stopped, or its thread suspended. Then those behind it pass it over."""


_LOOKS: Final = 20_000_000
"""Average time between two looks for such a request, in a long line (nanoseconds)."""


class Sleeper(Protocol):
    """Something that sleeps until it is woken: a thread or a task."""

    def wake(self) -> bool:
        """Wake it, now or when it sleeps next. Any thread or handler may call it.

        Return False if it cannot be woken any more.
        """


class Request:
    """A request that waits."""

    __slots__ = (
        "again", "attributes", "cost", "deadline", "got", "places", "queue", "scope", "sleeper",
        "thread", "ticket", "waited",
    )  # fmt: skip

    def __init__(
        self, scope: str, attributes: Mapping[str, str], cost: Cost, deadline: int, sleeper: Sleeper
    ) -> None:
        """``cost``: a checked one.

        ``deadline``: instant of the engine's clock (nanoseconds), or ``FOREVER``.
        """
        self.scope = scope
        self.attributes = attributes
        self.cost = cost
        self.deadline = deadline
        self.sleeper = sleeper
        self.thread = threading.get_ident()
        self.ticket = 0
        """Number of its arrival; 0 before it joins."""
        self.places: tuple[Place, ...] = ()
        self.queue: Queue = None  # type: ignore[assignment]  # until it joins
        self.got: list[Decision] = []
        """The last decision, as soon as it is made."""
        self.again = False
        """True if it has to be checked before it is due."""
        self.waited = False
        """True once its wait has been counted."""


class Line:
    """Waiting requests of one engine. Thread-safe."""

    def __init__(self, engine: Engine, clock: Callable[[], int]) -> None:
        """``clock``: the engine's clock (nanoseconds)."""
        self._engine = engine
        self.clock = clock
        self._lock = threading.RLock()
        self._waiting: dict[int, Request] = {}
        """Requests by ticket, the oldest first."""
        self._queues = Queues()
        self._tickets = count(1)
        self._torn = False
        """True while the queues are being changed: they are not consistent."""
        self._noted = False
        """True if a request left while this very thread was changing the queues."""
        self._changes = count(1)
        self._change = 0
        """Number of the latest change of plans."""
        self._frees = count(1)
        self._free = 0
        """Number of the latest release or refund."""

    def __len__(self) -> int:
        return len(self._waiting)

    # One request --------------------------------------------------------------------------------

    def attempt(self, request: Request) -> Decision:
        """Check a request, whoever waits."""
        # In one step for signal handlers: a decision that was made is in `got`.
        made = map(self._engine.attempt, (request.scope,), (request.attributes,), (request.cost,))
        request.got[:] = made
        return request.got[0]

    def join(self, request: Request) -> None:
        """Add a request as the youngest one."""
        request.places = self._places(request)
        self._alone(self._add, request)

    def _places(self, request: Request) -> tuple[Place, ...]:
        return self._engine.places(request.scope, request.attributes, request.cost)

    def _add(self, request: Request) -> None:
        request.ticket = next(self._tickets)
        self._waiting[request.ticket] = request
        self._queues.add(request)

    def ask(self, request: Request) -> Decision | int:
        """Return the decision about a request or, if it has to wait, for how long (nanoseconds).

        It may be woken before that. A returned refusal is final, and has been counted.
        """
        if not request.ticket:
            return self._ask_beside_the_line(request)
        if request.ticket not in self._waiting:
            self._alone(self._return, request)
        while True:
            now = self.clock()
            queue = request.queue
            first = queue.first is request and queue.ready
            if not first or (now < queue.due and not request.again):
                return self._wait(request, queue, now, first=first)
            answer = self._check(request)
            if answer is not None:
                return answer

    def _check(self, request: Request) -> Decision | None:
        """Check a first request. Return None if it has to wait, and was told when to be checked."""
        request.again = False
        free = self._free
        decision = self.attempt(request)
        if decision.allowed or decision.reason != "limited":
            return decision
        now = self.clock()
        wait = decision.retry_after_ns
        announced = 0 if wait is None else now + wait
        at = [
            place
            for place in request.places
            if place.limit == decision.limit and place.scope == decision.scope
        ]
        if now >= request.deadline or announced > request.deadline:
            self._give_up(request, decision, at)
            return decision
        due = now + _UNKNOWN if wait is None else min(announced, now + _LONGEST)
        self._alone(self._refused, request, at, due, announced)
        if self._free != free:
            request.again = True  # perhaps released after the check
        return None

    def _refused(self, request: Request, at: list[Place], due: int, announced: int) -> None:
        self._queues.refused(request, at, due, announced)

    def _wait(self, request: Request, queue: Queue, now: int, *, first: bool) -> Decision | int:
        """Return how long a request sleeps, or its refusal if its deadline comes first."""
        if any((cost_in(request.cost, at.unit) or 0) > at.capacity for at in request.places):
            never = self.attempt(request)
            if never.allowed or never.reason != "limited":
                return never
        until = queue.due
        ahead = queue if queue.ready else self._queues.ahead(queue) or queue
        if now >= request.deadline or ahead.announced > request.deadline:
            refusal = self._refusal(request, queue)
            self._give_up(request, refusal, queue.stands)
            return refusal
        self._count(request, queue)
        if not first:
            patience = max(_PATIENCE, len(self._waiting) * _LOOKS)
            until = now + patience
            if ahead.ready and now - ahead.due > _PATIENCE:
                self.leave(ahead.first)
        return min(until, request.deadline) - now

    def _count(self, request: Request, queue: Queue) -> None:
        """Count a request's wait, once, at a bucket at which its queue stands."""
        stands = queue.stands
        about_to_be_checked = queue.untried and queue.ready
        if not request.waited and stands and not about_to_be_checked:
            request.waited = True
            self._engine.wait_at(next(iter(stands)))

    def _refusal(self, request: Request, queue: Queue) -> Decision:
        """Return the refusal of a request that waited behind others until its deadline."""
        place = next(iter(queue.stands or request.places), None)
        refusal = Decision(
            False, "limited", self._engine.generation, None, None, None, 0, None, None
        )
        if place is not None:
            refusal.limit, refusal.scope = place.limit, place.scope
            refusal.capacity, refusal.unit = place.capacity, place.unit
        return refusal

    def _give_up(self, request: Request, refusal: Decision, at: Collection[Place]) -> None:
        place = next(iter(at or request.places), None)
        if place is not None:
            self._engine.give_up(place, request.scope, request.attributes, request.cost, refusal)

    def _ask_beside_the_line(self, request: Request) -> Decision | int:
        """Ask for a request that could not join: its code has interrupted a change of the line."""
        decision = self.attempt(request)
        if decision.allowed or decision.reason != "limited":
            return decision
        now, wait = self.clock(), decision.retry_after_ns
        pause = _UNKNOWN if wait is None else wait
        if now + pause > request.deadline:
            return decision
        return pause

    def leave(self, request: Request) -> None:
        """Remove a request, whatever happened to it. Safe to repeat."""
        if not request.ticket:
            return  # it never joined
        self._waiting.pop(request.ticket, None)
        self._alone(self._remove, request)

    def _return(self, request: Request) -> None:
        """Take back a request that was passed over, at its old place."""
        self._waiting[request.ticket] = request
        self._rebuild()

    def _remove(self, request: Request) -> None:
        if request.queue is not None:
            self._queues.remove(request)

    # All requests -------------------------------------------------------------------------------

    def freed(self, places: Iterable[Place]) -> None:
        """Wake the requests that are first at these buckets. Takes no lock, unless one of them
        cannot be woken."""
        self._free = next(self._frees)
        queues = self._queues
        for place in places:
            queue = queues.first_at(place)
            if queue is not None:
                first: Request = queue.first
                first.again = True
                if not first.sleeper.wake():
                    self.leave(first)

    def changed(self) -> None:
        """Queue all requests again, in the order of arrival: they may meet other buckets now."""
        self._change = change = next(self._changes)
        places = {request: self._places(request) for request in paced(list(self._waiting.values()))}
        if places:
            self._alone(self._queue_again, change, places)

    def _queue_again(self, change: int, places: dict[Request, tuple[Place, ...]]) -> None:
        if change != self._change:
            return  # another change came, and does the same
        for request, found in places.items():
            request.places = found
        self._rebuild()

    def passed(self) -> None:
        """Wake every request: a test has moved the clock."""
        self._alone(self._queues.put_off, self.clock())
        for request in list(self._waiting.values()):
            request.sleeper.wake()

    def after_fork_in_child(self) -> None:
        """Forget the requests of other threads, which do not exist here."""
        mine = threading.get_ident()
        self._waiting = {
            ticket: request for ticket, request in self._waiting.items() if request.thread == mine
        }
        self._noted = True
        if not self._lock._is_owned():  # type: ignore[attr-defined]  # noqa: SLF001
            self._lock = threading.RLock()
            self._alone(_nothing)

    # Changes of the queues ----------------------------------------------------------------------

    def _alone(self, work: Callable[..., object], *args: Any) -> None:
        """Change the queues, and wake the requests that may be checked then."""
        if self._lock._is_owned():  # type: ignore[attr-defined]  # noqa: SLF001
            self._noted = True  # this code has interrupted a change, which goes on afterwards
            return
        while True:
            with self._lock:
                if self._torn or self._noted:
                    self._rebuild()
                self._torn = True
                work(*args)
                self._rouse()
                self._engine.watch(self if self._waiting else None)
                self._torn = False
            if not self._noted:
                return
            work, args = _nothing, ()

    def _rebuild(self) -> None:
        """Build the queues again from the set of waiting requests."""
        self._torn, self._noted = True, False
        self._queues = Queues()
        for ticket in sorted(self._waiting):
            request = self._waiting.get(ticket)
            if request is not None:
                self._queues.add(request)

    def _rouse(self) -> None:
        """Wake the requests that have become the first ones. Drop those that cannot be woken."""
        roused = self._queues.roused
        while roused:
            request = roused.pop()
            request.queue.due = self.clock()
            if not request.sleeper.wake():
                log.warning(
                    "a request for %r waited in an event loop that was closed", request.scope
                )
                self._waiting.pop(request.ticket, None)
                self._queues.remove(request)


def _nothing() -> None:
    pass
