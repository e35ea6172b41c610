"""Concurrency: at most ``most`` admitted and not yet released.

What a request takes is a *slot*: an object that its decision keeps, and that is freed by a release
or, should none come, once it was held for ``hold_ns``. Slots lie in *batches*, which count what is
held in them. A bucket is a list of batches: its own, and those of the buckets that it began as (a
copy shares the batches of its original). So a release counts at once, and in constant time, in
every bucket that inherited the slot, whatever was published since.

Nobody can tell when the next release will come: a wait is ``UNKNOWN``.
"""

from __future__ import annotations

from itertools import islice
from typing import Final

from ratectl.engine.decision import NEVER, UNKNOWN

__all__ = ["FOREVER", "Concurrency", "Slot", "SlotState"]

FOREVER: Final = 1 << 100
"""Later than any instant."""

_PIECE: Final = 64
"""Slots looked at together when some have ended."""


class Slot:
    """``cost`` slots taken by one request; freed at ``until`` if not released before."""

    __slots__ = ("_batch", "cost", "until")

    def __init__(self, batch: _Batch, cost: int, until: int) -> None:
        self._batch = batch
        self.cost = cost
        self.until = until

    def release(self) -> None:
        """Give the slot back, wherever it is counted; only the first time does anything."""
        batch = self._batch
        if self in batch.slots:
            del batch.slots[self]
            batch.held -= self.cost


class _Batch:
    """Slots in the order in which they end, and the sum of their costs.

    A new slot ends no earlier than those that are held already, even where the clock steps back.
    """

    __slots__ = ("held", "latest", "slots", "soonest")

    def __init__(self) -> None:
        self.held = 0
        self.slots: dict[Slot, None] = {}
        self.latest = 0
        """End of the slot that was added last, in nanoseconds."""
        self.soonest = FOREVER
        """No slot ends before this instant."""

    def take(self, cost: int, until: int) -> Slot:
        """Add a slot; only while nobody else decides."""
        if self.slots:
            until = max(until, self.latest)
        slot = Slot(self, cost, until)
        # No call from here on: a release may come from anywhere (see ``control``).
        self.latest = until
        if not self.slots:
            self.soonest = until
        self.slots[slot] = None
        self.held += cost
        return slot

    def expire(self, now: int) -> None:
        """Free slots that were held for too long; needed only when ``soonest`` has come."""
        while first := list(islice(self.slots, _PIECE)):
            for slot in first:
                if slot.until > now:
                    self.soonest = slot.until
                    return
                slot.release()


class SlotState:
    """A bucket: batches, each with the instant from which this bucket no longer counts it."""

    __slots__ = ("batches", "newest", "own")

    def __init__(self, batches: tuple[tuple[_Batch, int], ...] = ()) -> None:
        self.batches = batches
        self.own: _Batch | None = None
        """The batch that takes new slots; None after a copy, which shares all there were."""
        self.newest: Slot | None = None
        """The slot that was taken last."""

    def take(self, cost: int, until: int) -> Slot:
        """Take a slot, held by ``until`` at most."""
        own = self.own
        if own is None:
            own = _Batch()
            self._add(own)
            self.own = own
        self.newest = slot = own.take(cost, until)
        return slot

    def _add(self, batch: _Batch) -> None:
        while True:
            before = self.batches
            after = (*before, (batch, FOREVER))
            if self.batches is before:
                self.batches = after
                return

    def prune(self, now: int) -> None:
        """Let go of batches that do not count any more."""
        before = self.batches
        after = _live(self, now)
        if self.batches is before:
            self.batches = after

    def copy(self, until: int = FOREVER) -> SlotState:
        """A bucket that begins as this one, with what that holds until ``until`` at most."""
        self.own = None
        return SlotState(
            tuple((batch, min(end, until)) for batch, end in self.batches if batch.held)
        )


class Concurrency:
    """Parameters: at most ``most`` held at once, each for ``hold_ns`` nanoseconds at most."""

    __slots__ = ("_key", "hold_ns", "most")

    holds: Final = True

    def __init__(self, most: int, hold_ns: int) -> None:
        if most < 0 or hold_ns <= 0:
            raise ValueError("a count is not negative and a slot is held for some time")
        self.most = most
        self.hold_ns = hold_ns
        self._key = (most, hold_ns)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Concurrency) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def full(self, now: int) -> SlotState:  # noqa: ARG002 - as of every algorithm
        """A bucket in which nothing is held: all of ``most`` is free."""
        return SlotState()

    def spent(self, used: int, now: int) -> SlotState:
        """A bucket of which ``used`` was taken just now, by nobody who could release it."""
        state = SlotState()
        if used:
            state.take(used, now + self.hold_ns)
        return state

    def advance(self, state: SlotState, now: int) -> SlotState:  # noqa: ARG002
        """Return the state itself: slots end when they are next counted."""
        return state

    def attempt(
        self, state: SlotState, cost: int, now: int
    ) -> tuple[int, SlotState, int, Slot | None]:
        """Take ``cost`` slots if they are free (see ``Algorithm.attempt``)."""
        if cost > self.most:
            return NEVER, state, 0, None
        left = self.most - self.used(state, now) - cost
        if left < 0:
            return UNKNOWN, state, 0, None
        return 0, state, left, state.take(cost, now + self.hold_ns) if cost else None

    def settle(self, state: SlotState, more: int, now: int, since: int, cost: int) -> SlotState:  # noqa: ARG002
        """Nothing: slots are held, not spent, and a request holds those it was admitted with."""
        return state

    def remaining(self, state: SlotState, now: int) -> int:
        """What is free."""
        return max(0, self.most - self.used(state, now))

    def reset_after(self, state: SlotState, now: int) -> int:
        """0 when nothing is held; otherwise ``UNKNOWN``."""
        return UNKNOWN if self.used(state, now) else 0

    def settled_after(self, owed: int = 0) -> int:  # noqa: ARG002 - as of every algorithm
        """Nanoseconds after which nothing is held any more, released or not."""
        return self.hold_ns

    def used(self, state: SlotState, now: int) -> int:
        """What is held."""
        held = 0
        spent = False
        for batch, end in state.batches:
            if now >= batch.soonest:
                batch.expire(now)
            if now < end and batch.held:
                held += batch.held
            else:
                spent = spent or batch is not state.own
        if spent:
            state.prune(now)
        return held

    def at(self, state: SlotState, now: int) -> int:
        """``now``, or the instant of the bucket's own last charge if that is later."""
        newest = state.newest
        return now if newest is None else max(now, newest.until - self.hold_ns)

    def resumed(self, state: SlotState, now: int) -> SlotState:
        """The bucket under these parameters, of one that had others until ``now``.

        What is held stays so until it is released, until its old ``hold`` ends, or for this one's
        from now on: a ``hold`` that was shortened also frees what leaked before.
        """
        return state.copy(now + self.hold_ns)

    def same(self, one: SlotState, other: SlotState, now: int) -> bool:
        """Whether two buckets answer alike from ``now`` on."""
        if not self.used(one, now) and not self.used(other, now):
            return True
        return _live(one, now) == _live(other, now)

    def stricter(self, one: SlotState, other: SlotState, now: int) -> SlotState:  # noqa: ARG002
        """A bucket that admits no more than either: it holds what any of the two does."""
        ends: dict[_Batch, int] = {}
        for batch, end in (*one.copy().batches, *other.copy().batches):
            ends[batch] = max(end, ends.get(batch, end))
        return SlotState(tuple(ends.items()))


def _live(state: SlotState, now: int) -> tuple[tuple[_Batch, int], ...]:
    """The batches that still count, and the bucket's own."""
    return tuple(
        (batch, end)
        for batch, end in state.batches
        if (batch.held and now < end) or batch is state.own
    )
