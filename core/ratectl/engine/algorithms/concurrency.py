"""Concurrency: at most ``capacity`` admitted and not yet released.

A request takes a *slot*: an object that its decision keeps. A release frees it; without one, it is
freed when it was held for ``hold_ns``. Slots lie in *batches*, which count the cost held in them. A
bucket is a list of batches: its own, and those of the buckets that it began as (a copy shares the
batches of its original). So a release counts at once, and in constant time, in every bucket that
inherited the slot, whatever was published since. A batch that was shared is *closed*: it takes no
more slots, as these would count in every bucket that shares it.

The time of the next release cannot be known: a wait is ``UNKNOWN``.
"""

from __future__ import annotations

from itertools import islice
from typing import Final, NamedTuple

from ratectl.engine.algorithms.protocol import FOREVER, NEVER, UNKNOWN, Algorithm, Extent

__all__ = ["FOREVER", "Concurrency", "Slot", "SlotState"]

_PIECE: Final = 64
"""Slots that are checked together when some have expired."""


class Slot:
    """Slots that one request took, ``cost`` of them; freed at ``until`` if not released before."""

    __slots__ = ("_batch", "cost", "until")

    def __init__(self, batch: _Batch, cost: int, until: int) -> None:
        self._batch = batch
        self.cost = cost
        self.until = until

    def release(self) -> None:
        """Free the slot in every bucket that counts it. Only the first call has an effect."""
        batch = self._batch
        if self in batch.slots:
            del batch.slots[self]
            batch.held -= self.cost


class _Batch:
    """Slots in the order in which they end, and the sum of their costs.

    A new slot ends no earlier than those that are held already, even if the clock steps back.
    """

    __slots__ = ("closed", "held", "latest", "slots", "soonest")

    def __init__(self) -> None:
        self.closed = False
        """True if other buckets count its slots too: it takes no more of them."""
        self.held = 0
        self.slots: dict[Slot, None] = {}
        self.latest = 0
        """End of the slot that was added last, in nanoseconds."""
        self.soonest = FOREVER
        """No slot ends before this instant."""

    def take(self, cost: int, until: int) -> Slot:
        """Add a slot. Call it only while no other decision is made."""
        if self.slots:
            until = max(until, self.latest)
        slot = Slot(self, cost, until)
        # No calls from here on: a release may interrupt any call (see ``control``).
        self.latest = until
        if not self.slots:
            self.soonest = until
        self.slots[slot] = None
        self.held += cost
        return slot

    def expire(self, now: int) -> None:
        """Free the slots that have expired by ``now``; needed only from ``soonest`` on."""
        while first := list(islice(self.slots, _PIECE)):
            for slot in first:
                if slot.until > now:
                    self.soonest = slot.until
                    return
                slot.release()


class _Missing(NamedTuple):
    """Stand-in for a batch: cost that another algorithm admitted, and that nothing releases."""

    held: int

    @property
    def soonest(self) -> int:
        """The end of the earliest slot, if it had any: only the bucket knows its end."""
        return FOREVER

    def expire(self, now: int) -> None:
        """Do nothing."""


class SlotState:
    """State of one bucket: batches, each with the instant from which it no longer counts."""

    __slots__ = ("batches", "newest", "own")

    def __init__(self, batches: tuple[tuple[_Batch | _Missing, int], ...] = ()) -> None:
        self.batches = batches
        self.own: _Batch | None = None
        """Batch that takes new slots until it is closed; None if there is none yet."""
        self.newest: Slot | None = None
        """Slot that was taken last."""

    def take(self, cost: int, until: int) -> Slot:
        """Take a slot that expires at ``until``."""
        own = self.own
        if own is None or own.closed:
            own = self._new_batch(cost, until)
            self._add(own)
            self.own = own
        self.newest = slot = own.take(cost, until)
        return slot

    def _new_batch(self, cost: int, until: int) -> _Batch:  # noqa: ARG002
        """Return an empty batch for such a slot."""
        return _Batch()

    def _add(self, batch: _Batch) -> None:
        while True:
            before = self.batches
            after = (*before, (batch, FOREVER))
            if self.batches is before:
                self.batches = after
                return

    def prune(self, now: int) -> None:
        """Drop the batches that no longer count."""
        before = self.batches
        after = _live(self, now)
        if self.batches is before:
            self.batches = after

    def copy(self, until: int = FOREVER) -> SlotState:
        """Return a bucket that begins as this one and counts its slots until ``until`` at most."""
        own, self.own = self.own, None
        if own is not None:
            own.closed = True
        return SlotState(
            tuple((batch, min(end, until)) for batch, end in self.batches if batch.held)
        )


class Concurrency(Algorithm[SlotState]):
    """Parameters: at most ``capacity`` slots held, each for ``hold_ns`` nanoseconds at most."""

    __slots__ = ("_key", "capacity", "hold_ns")

    holds = True

    def __init__(self, capacity: int, hold_ns: int) -> None:
        if capacity < 0 or hold_ns <= 0:
            raise ValueError("a count is not negative and a slot is held for some time")
        self.capacity = capacity
        self.hold_ns = hold_ns
        self._key = (capacity, hold_ns)

    def full(self, now: int) -> SlotState:  # noqa: ARG002
        """Return a bucket in which no slot is held."""
        return SlotState()

    def spent(self, used: int, now: int) -> SlotState:
        """Return a bucket of which ``used`` slots were taken just now. Nothing releases them."""
        return SlotState(((_Missing(used), now + self.hold_ns),) if used else ())

    def copied(self, state: SlotState) -> SlotState:
        """Return a bucket that shares the slots held in this one."""
        return state.copy()

    def detached(self, state: SlotState) -> SlotState:
        """Return a bucket that counts the slots held in this one, and takes others for itself."""
        return SlotState(state.batches)

    def attempt(
        self, state: SlotState, cost: int, now: int
    ) -> tuple[int, SlotState, int, Slot | None]:
        """Take ``cost`` slots if they are free (see ``Algorithm.attempt``)."""
        if cost > self.capacity:
            return NEVER, state, 0, None
        left = self.capacity - self.used(state, now) - cost
        if left < 0:
            return UNKNOWN, state, 0, None
        return 0, state, left, state.take(cost, now + self.hold_ns) if cost else None

    def settle(self, state: SlotState, more: int, now: int, since: int, cost: int) -> SlotState:  # noqa: ARG002
        """Return the state as it is: a request holds the slots that it was admitted with."""
        return state

    def remaining(self, state: SlotState, now: int) -> int:
        """Return the free slots."""
        return max(0, self.capacity - self.used(state, now))

    def reset_after(self, state: SlotState, now: int) -> int:
        """Return 0 if no slot is held, otherwise ``UNKNOWN``."""
        return UNKNOWN if self.used(state, now) else 0

    def extent(self) -> Extent:
        """See ``Algorithm.extent``."""
        return Extent(self.capacity, 0, self.hold_ns)

    def used(self, state: SlotState, now: int) -> int:
        """Return the slots that are held."""
        held = 0
        ended = False
        for batch, end in state.batches:
            if now >= batch.soonest:
                batch.expire(now)
            if now < end and batch.held:
                held += batch.held
            else:
                ended = ended or batch is not state.own
        if ended:
            state.prune(now)
        return held

    def at(self, state: SlotState, now: int) -> int:
        """Return ``now``, or the instant of the bucket's own last charge if that is later."""
        newest = state.newest
        return now if newest is None else max(now, newest.until - self.hold_ns)

    def continued(self, old: Concurrency, state: SlotState, now: int) -> SlotState:  # noqa: ARG002
        """Return a bucket that shares the slots held in the old one.

        A slot is freed when it is released, when its old ``hold`` ends, or when the new ``hold``,
        counted from ``now``, ends: a shorter ``hold`` also frees slots that leaked before.
        """
        return state.copy(now + self.hold_ns)

    def same(self, one: SlotState, other: SlotState, now: int) -> bool:
        """Return True if two buckets hold nothing, or the same slots."""
        if not self.used(one, now) and not self.used(other, now):
            return True
        return _live(one, now) == _live(other, now)

    def stricter(self, one: SlotState, other: SlotState, now: int) -> SlotState:  # noqa: ARG002
        """Return a bucket that holds the slots of both.

        Of what is missing without a slot, it holds, at every later instant, the larger of both.
        """
        ends: dict[_Batch, int] = {}
        for batch, end in (*one.copy().batches, *other.copy().batches):
            if not isinstance(batch, _Missing):
                ends[batch] = max(end, ends.get(batch, end))
        return SlotState((*_larger(one, other), *ends.items()))


def _larger(*states: SlotState) -> list[tuple[_Missing, int]]:
    """Return, for every later instant, the largest of the costs that are missing in states."""
    missing = [
        [(batch.held, end) for batch, end in state.batches if isinstance(batch, _Missing)]
        for state in states
    ]
    found: list[tuple[_Missing, int]] = []
    counted = 0
    for instant in sorted({end for each in missing for _, end in each}, reverse=True):
        most = max(sum(held for held, end in each if end >= instant) for each in missing)
        if most > counted:
            found.append((_Missing(most - counted), instant))
            counted = most
    return found


def _live(state: SlotState, now: int) -> tuple[tuple[_Batch | _Missing, int], ...]:
    """Return the batches that still count, and the bucket's own."""
    return tuple(
        (batch, end)
        for batch, end in state.batches
        if (batch.held and now < end) or batch is state.own
    )
