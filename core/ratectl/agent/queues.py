"""Queues of requests that wait: which of them may be checked, and which have to wait for others.

Requests that meet the same buckets wait in one queue, in the order of arrival, and only the first
of a queue is ever checked: so it is served first, whatever it costs. A queue *stands at* the bucket
that refused its first request (of several refusals, the longest). Queues that share that bucket,
and whose first request is younger, stand behind it there; at other buckets it is in nobody's way.
If that bucket then admits the request and another refuses it, the queue goes to stand there
instead. After the fourth such turn it keeps the buckets at which it stands as well, so that no
request is passed over for ever. Nobody ever waits for a younger request: there is no deadlock, and
the oldest request of all can always be checked.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ratectl.engine.buckets.place import Place

__all__ = ["Queue", "Queues", "Waiter"]

_TURNS: Final = 4
"""Number of times that a queue leaves the bucket at which it stands for another one."""

_NOWHERE: Final[frozenset[Place]] = frozenset()


class Waiter(Protocol):
    """A request that waits."""

    ticket: int
    """Number of its arrival."""
    places: tuple[Place, ...]
    """Buckets that can refuse it."""
    queue: Queue
    """Queue in which it waits."""


class Queue:
    """Requests that meet the same buckets, in the order of arrival."""

    __slots__ = (
        "announced", "due", "first", "key", "places", "ready", "stands", "ticket", "turns",
        "untried", "waiters",
    )  # fmt: skip

    def __init__(self, places: tuple[Place, ...], first: Waiter) -> None:
        self.places = places
        self.key = frozenset(places)
        self.waiters: OrderedDict[int, Waiter] = OrderedDict()
        self.stands = _NOWHERE
        """Buckets at which younger queues stand behind this one."""
        self.begin(first)

    def begin(self, first: Waiter) -> None:
        """Make a request the first one, which has not been checked yet."""
        self.first: Any = first
        self.ticket = first.ticket
        self.ready = False
        """True if the first request may be checked: no older one stands at any of its buckets."""
        self.due = 0
        """Instant of its next check (nanoseconds)."""
        self.announced = 0
        """Instant before which its bucket admits it in no case; 0 if that is not known."""
        self.turns = 0
        self.untried = True
        """True until the first check."""


class Queues:
    """All queues of an engine. Not thread-safe."""

    def __init__(self) -> None:
        self._queues: dict[frozenset[Place], Queue] = {}
        self._lines: dict[Place, list[Queue]] = {}
        """Queues that stand at each bucket, those with the oldest first request first."""
        self._doubtful: list[Queue] = []
        """Queues whose readiness has to be decided again."""
        self.roused: list[Any] = []
        """First requests that may be checked at once, and do not know it yet."""

    def __len__(self) -> int:
        return len(self._queues)

    def add(self, waiter: Waiter) -> None:
        """Append a request, which must be younger than all others, to its queue."""
        queue = self._queues.get(frozenset(waiter.places))
        if queue is None:
            queue = Queue(waiter.places, waiter)
            self._queues[queue.key] = queue
            self._doubtful.append(queue)
        queue.waiters[waiter.ticket] = waiter
        waiter.queue = queue
        self._decide()

    def remove(self, waiter: Waiter) -> None:
        """Remove a request. Without effect if it is in no queue."""
        queue = waiter.queue
        if not self._has(queue) or queue.waiters.pop(waiter.ticket, None) is None:
            return
        if queue.first is waiter:
            stood = queue.stands
            self._stand(queue, _NOWHERE)
            if queue.waiters:
                queue.begin(next(iter(queue.waiters.values())))
                self._stand(queue, stood)
                self._doubtful.append(queue)
            else:
                del self._queues[queue.key]
        self._decide()

    def refused(self, waiter: Waiter, at: Iterable[Place], due: int, announced: int) -> None:
        """A bucket has refused a first request: check it again at ``due`` (nanoseconds)."""
        queue = waiter.queue
        if not self._has(queue) or queue.first is not waiter:
            return  # it was passed over, or all queues were built again
        places = frozenset(at) or queue.key
        queue.due, queue.announced = due, announced
        if not queue.untried and not places & queue.stands:
            queue.turns += 1
            if queue.turns > _TURNS:
                places |= queue.stands
        queue.untried = False
        self._stand(queue, places)
        self._doubtful.append(queue)
        self._decide()

    def put_off(self, now: int) -> None:
        """Make overdue checks due now: after a jump of the clock nobody is late."""
        for queue in self._queues.values():
            queue.due = max(queue.due, now)

    def _has(self, queue: Queue) -> bool:
        """Return False for a queue of earlier queues, which were built again since."""
        return self._queues.get(queue.key) is queue

    def first_at(self, place: Place) -> Queue | None:
        """Return the queue that stands first at a bucket. Needs no lock."""
        line = self._lines.get(place)
        try:
            return line[0] if line else None
        except IndexError:  # another thread removed it just now
            return None

    def ahead(self, queue: Queue) -> Queue | None:
        """Return a queue that this one stands behind."""
        for place in queue.stands:
            first = self.first_at(place)
            if first is not None and first is not queue:
                return first
        return None

    def _decide(self) -> None:
        """Decide which of the doubtful queues are ready: the oldest of them first."""
        while self._doubtful:
            queue = min(self._doubtful, key=_ticket)
            self._doubtful.remove(queue)
            if not queue.waiters:
                continue
            obstacle = self._obstacle(queue)
            if obstacle is not None:
                queue.ready = False
                if queue.stands != {obstacle}:
                    self._stand(queue, frozenset((obstacle,)))
            elif not queue.ready:
                queue.ready = True
                if not queue.stands:
                    # Until its first check it stands at all of them, so that none is passed over.
                    self._stand(queue, queue.key)
                self.roused.append(queue.first)

    def _obstacle(self, queue: Queue) -> Place | None:
        """Return a bucket of a queue at which an older one stands; one where it stands itself, if
        there is such a one."""
        for places in (queue.stands, queue.places):
            for place in places:
                line = self._lines.get(place)
                if line and line[0].ticket < queue.ticket:
                    return place
        return None

    def _stand(self, queue: Queue, places: frozenset[Place]) -> None:
        """Make a queue stand at these buckets only."""
        before, queue.stands = queue.stands, places
        for place in before - places:
            line = self._lines[place]
            was_first = line[0] is queue
            del line[bisect_left(line, queue.ticket, key=_ticket)]
            if not line:
                del self._lines[place]
            elif was_first:
                self._doubtful.append(line[0])
        for place in places - before:
            line = self._lines.setdefault(place, [])
            if line and line[0].ticket > queue.ticket:
                self._doubtful.append(line[0])  # it is not the first any more
            insort(line, queue, key=_ticket)


def _ticket(queue: Queue) -> int:
    return queue.ticket
