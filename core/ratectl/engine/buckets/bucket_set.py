"""A group: the buckets of one identity and one set of overrides, by key.

A group lives as long as its limit is in force, however many publications come. An *event* is a
publication that changes its parameters, or after which some requests may have left it. A bucket
follows the events when it is next touched. For requests that left, it first saves its state as of
that instant: what others do with the bucket afterwards does not concern them.
"""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any, Protocol

from ratectl.engine.algorithms.protocol import State, migrate
from ratectl.engine.buckets.counters import plain
from ratectl.engine.buckets.events import Event, Saved, cannot_wait
from ratectl.engine.buckets.reading import NO_KEYS, counts_of, filled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from ratectl.engine.algorithms.protocol import Algorithm
    from ratectl.engine.api import LimitCounts
    from ratectl.engine.buckets.carry import Carry, Left
    from ratectl.engine.buckets.counters import Counters, Key, Show
    from ratectl.engine.buckets.events import Room
    from ratectl.engine.buckets.past import Stay
    from ratectl.engine.buckets.reading import KeyCounts
    from ratectl.engine.limit_plan import GroupName, Identity, LimitPlan

__all__ = ["Bucket", "Group", "Maker"]

Bucket = tuple[State, int, int]
"""State of one key, number of the last event that it follows, and its serial number."""

_serials = count(1)
"""Serial numbers of buckets: a recreated bucket differs from the one that was charged."""


class Maker(Protocol):
    """Factory of the parts in which engines differ."""

    def counters(self) -> Counters:
        """Return counts that are all zero."""

    def group(self, limit: LimitPlan, epoch: int, counters: Counters) -> Group:
        """Return a group without buckets, which begins after event ``epoch``."""

    def carry(self, path: tuple[Stay, ...], group: Group, left: Left) -> Carry:
        """Return the carry of requests that have taken a path to a group."""


class Group:
    """Buckets of one identity. Not thread-safe: the engine's lock guards it."""

    __slots__ = (
        "_events", "_followed", "algorithm", "buckets", "budget", "counters", "default", "ended",
        "epoch", "held", "max_debt", "name", "overflow", "overrides", "per", "saved", "scope",
        "seen", "shadow", "single", "skips", "unit",
    )  # fmt: skip

    def __init__(self, limit: LimitPlan, epoch: int, counters: Counters) -> None:
        self.scope = limit.scope
        self.name = limit.name
        self.budget = limit.budget
        self.overrides = limit.overrides
        self.per = limit.per
        self.unit = limit.unit
        self.shadow = limit.shadow
        self.skips = limit.skips
        self.algorithm: Algorithm[Any] = limit.algorithm
        self.counters = counters
        self.buckets: dict[Key, Bucket] = {}
        self.overflow: dict[int, Bucket] = {}
        self.epoch = epoch
        """Number of the last event."""
        self.seen = epoch
        """Number of the last publication that the group has followed."""
        self.ended: Event | None = None
        """The event that ended the group; None while its limit is in force."""
        self.max_debt = 0
        """Largest cost that was ever missing from a bucket here beyond its capacity."""
        self.default: State | None = None
        """State of a key without a bucket; None for a full bucket."""
        self.saved: dict[int, Saved] = {}
        """States at the events at which requests may have left, by number of the event."""
        self.held = self._held()
        """Held keys of a pure engine; None if keys are not counted here."""
        self.single = limit.per[0] if len(limit.per) == 1 else None
        """Attribute that buckets are counted per, if there is only one."""
        self._events: list[Event] = []
        self._followed = epoch
        """Number of the last event that all buckets have followed."""

    @property
    def identity(self) -> Identity:
        return (self.scope, self.name, self.budget)

    @property
    def group_name(self) -> GroupName:
        return (self.scope, self.name, self.budget, self.overrides, self.per, self.unit)

    @property
    def names(self) -> Iterable[str]:
        """Attributes that select a request's bucket."""
        return self.per

    # Keys and buckets ---------------------------------------------------------------------------

    def key(self, attributes: Mapping[str, str]) -> Key:
        """Return the key of a request: the values that select its bucket.

        May run foreign code: methods of ``attributes`` and of its values.
        """
        if self.single is not None:
            key: Key = attributes.get(self.single)
        else:
            key = tuple([attributes.get(name) for name in self.per])
        return plain(key)

    def lacks(self, attributes: Mapping[str, str]) -> bool:
        """Return True if a request lacks an attribute that buckets are counted per."""
        for name in self.per:  # noqa: SIM110  any() takes longer, and each decision does this
            if attributes.get(name) is None:
                return True
        return False

    def find(self, key: Key, now: int) -> tuple[State, int]:
        """Return the state of a key at the current parameters, and the serial number of its bucket.

        Serial number 0: the key is untracked, and its bucket is lost unless the table inserts it.
        """
        bucket = self._tracked_alone(key)
        if bucket is None:
            return self.first_touch(key, now), 0
        state, _, serial = bucket
        return state, serial

    def first_touch(self, key: Key, now: int) -> State:
        """Return a copy of the state that an untracked key behaves as."""
        shared = self._shared(key)
        if shared is not None:
            return self.algorithm.copied(shared[0])
        return self.default_at(now)

    def default_at(self, now: int) -> State:
        """Return a copy of the state of a key without a bucket."""
        algorithm = self.algorithm
        is_full = self.default is None or algorithm.starts_full
        state: State = algorithm.full(now) if is_full else self.default
        return algorithm.copied(state)

    def tracked(self, key: Key) -> Bucket | None:
        """Return the bucket of a key, or the one that it shares, at the current parameters."""
        bucket = self._tracked_alone(key)
        return self._shared(key) if bucket is None else bucket

    def _tracked_alone(self, key: Key) -> Bucket | None:
        """Return the bucket that a key has to itself, at the current parameters."""
        bucket = self.buckets.get(key)
        if bucket is not None and bucket[1] != self.epoch:
            bucket = self.buckets[key] = self._caught_up(bucket, key)
        return bucket

    def _shared(self, key: Key) -> Bucket | None:
        """Return the overflow bucket of an untracked key, if it has one."""
        if not self.overflow:
            return None
        return self.shared_at(self.slot(key))

    def shared_at(self, slot: int) -> Bucket | None:
        """Return the bucket of this number that keys share, at the current parameters."""
        shared = self.overflow.get(slot)
        if shared is not None and shared[1] != self.epoch:
            shared = self.overflow[slot] = self._caught_up(shared, slot, shared=True)
        return shared

    def reset(self, key: Key, now: int) -> bool:
        """Make the own bucket of a key as that of an untracked one. Return False if it has none.

        It is another bucket from now on: slots that it held, and refunds of older charges, are not
        those of the new one.
        """
        if self._tracked_alone(key) is None:
            return False
        self.write(key, self.default_at(now), self.new_serial())
        return True

    def joined(self, state: State, carried: State, now: int) -> State:
        """Return the state of a bucket with what a request has carried over."""
        algorithm = self.algorithm
        carried = algorithm.relative(carried, self.default_at(now), now)
        joined: State = algorithm.stricter(state, carried, now)
        return joined

    def slot(self, key: Key) -> int:
        """Return the number of the shared bucket of a key. Python keys the hash per process."""
        return hash(key) & 255

    def slots_after_restart(self, slot: int) -> Iterable[int]:  # noqa: ARG002
        """Return the shared buckets of keys that shared the bucket ``slot`` in another process."""
        return range(256)

    def pieces(self, most: int) -> Iterator[list[Key]]:
        """Yield the keys of all buckets, at most so many at a time."""
        keys = list(self.buckets)
        for at in range(0, len(keys), most):
            yield keys[at : at + most]

    def evictable(self, key: Key, bucket: Bucket, now: int) -> bool:
        """Return True if evicting this bucket is invisible: it equals that of an untracked key."""
        if bucket[1] != self.epoch:
            bucket = self.buckets[key] = self._caught_up(bucket, key)
        default = self.default_at(now)
        if not self.algorithm.same(bucket[0], default, now):
            return False
        shared = self._shared(key)
        return shared is None or self.algorithm.same(shared[0], default, now)

    def keep(self, key: Key, state: State) -> int:
        """Track a bucket from now on. Return its serial number."""
        serial = self.new_serial()
        self.buckets[key] = (state, self.epoch, serial)
        return serial

    def share(self, key: Key, state: State) -> int:
        """Put a key without room into a shared bucket. Return the bucket's serial number."""
        serial = self.new_serial()
        self.overflow[self.slot(key)] = (state, self.epoch, serial)
        return serial

    def write_shared(self, slot: int, state: State) -> None:
        """Replace a bucket that keys share."""
        self.overflow[slot] = (state, self.epoch, self.new_serial())

    def write(self, key: Key, state: State, serial: int) -> None:
        """Replace the state of the key's own bucket, or of the one that it shares."""
        bucket = (state, self.epoch, serial)
        if self.buckets.get(key) is not None:
            self.buckets[key] = bucket
        else:
            self.overflow[self.slot(key)] = bucket

    def new_serial(self) -> int:
        return next(_serials)

    # Publications -------------------------------------------------------------------------------

    def follow(
        self, limit: LimitPlan, seq: int, at: int, *, left: bool, room: Room | None = None
    ) -> None:
        """Follow a publication: take its parameters. ``left``: requests may have left the group.

        Events keep ``fixed`` algorithms: the wall clock may be set before a bucket follows.
        ``room``: for the states that are saved then.
        """
        self.seen = seq
        self.shadow = limit.shadow
        self.skips = limit.skips
        changed = limit.algorithm != self.algorithm
        if not (changed or left):
            return
        before = self.algorithm.fixed()
        after = limit.algorithm.fixed() if changed else before
        event = Event(seq, at, before, after, left, self._default_aged(at))
        if left:
            assert room is not None
            self.saved[seq] = Saved(event, room)
        if changed:
            self.algorithm = limit.algorithm
        self._take(event)

    def empty(self, missing: int, seq: int, at: int) -> None:
        """Take so much from every bucket: it is not known what its requests had elsewhere."""
        self.seen = seq
        algorithm = self.algorithm.fixed()
        self._take(Event(seq, at, algorithm, algorithm, False, self._default_aged(at), missing))

    def _default_aged(self, at: int) -> State:
        return migrate(self.algorithm, self.algorithm, self.default_at(at), at)

    def _take(self, event: Event) -> None:
        default = event.followed(event.default)
        self._events = [*self._events, event._replace(default_after=default)]
        self.epoch = event.seq
        full = event.after.same(default, event.after.full(event.at), event.at)
        self.default = None if full else default

    def end(self, seq: int, at: int) -> None:
        """End the group: its limit is gone. Its buckets stay as they are, for those who left."""
        self.seen = seq
        self.algorithm = self.algorithm.fixed()
        default = self._default_aged(at)
        self.ended = Event(seq, at, self.algorithm, self.algorithm, True, default)

    def state_at(self, key: Key, change: int) -> State:
        """Return a copy of a key's state as of an event at which requests left."""
        event = self.ended
        if event is not None and event.seq == change:
            state, _ = self.find(key, event.at)
        else:
            event = self.saved[change].event
            state = self._before(event, key)
        algorithm = event.before
        state = migrate(algorithm, algorithm, state, event.at)
        return algorithm.absolute(algorithm.copied(state), event.default, event.at)

    def _before(self, event: Event, key: Key) -> State:
        bucket = self.buckets.get(key)
        if bucket is None and self.overflow:
            bucket = self.overflow.get(self.slot(key))
        if bucket is None or bucket[1] >= event.seq:
            return self.saved[event.seq].of(key, self.slot(key))
        state, epoch, _ = bucket  # not used since
        for earlier in self._events:
            if epoch < earlier.seq < event.seq:
                state = earlier.followed(state)
        return state

    def forget(self) -> None:
        """Forget what was saved, and the events that changed no parameters."""
        for saved in self.saved.values():
            saved.free()
        self.saved = {}
        self._events = [event for event in self._events if event.changes]

    def changed_often(self) -> bool:
        """Return True if housekeeping must bring untouched buckets up to date."""
        return cannot_wait([event for event in self._events if event.seq > self._followed])

    def forget_events(self, before: int) -> None:
        """Drop the events up to this one, which every bucket has followed."""
        for slot in list(self.overflow):
            self.shared_at(slot)
        self._followed = before
        kept = [event for event in self._events if event.seq > before or event.seq in self.saved]
        self._events = kept

    def _caught_up(self, bucket: Bucket, key: Any, *, shared: bool = False) -> Bucket:
        """Return a bucket that follows all events. ``key``: of the bucket, or its shared slot."""
        state, epoch, serial = bucket
        for event in self._events:
            if event.seq <= epoch:
                continue
            if event.seq in self.saved:
                self.saved[event.seq].save(key, state, shared=shared)
            if event.changes:
                state = event.followed(state)
                serial = self.new_serial()
                self.owe(event.after, state, event.at)
        return state, self.epoch, serial

    # Corrections and counts ---------------------------------------------------------------------

    def correct(
        self, key: Key, bucket: Bucket, more: int, now: int, since: int, cost: int
    ) -> None:  # fmt: skip
        """Settle the bucket of a key (see ``Algorithm.settle``)."""
        algorithm = self.algorithm
        if self.ended is not None:
            now = min(now, self.ended.at)
        state, _, serial = bucket
        state = algorithm.settle(state, more, now, since, cost)
        self.write(key, state, serial)
        self.owe(algorithm, state, now)
        left = algorithm.remaining(state, now)
        counters = self.counters
        least = counters.lowest is None or left < counters.lowest
        if more > 0 and self.ended is None and least:
            counters.lowest = left

    def owe(self, algorithm: Algorithm[Any], state: State, now: int) -> None:
        """Take note of a cost that is missing beyond the capacity."""
        debt = algorithm.used(state, now) - algorithm.capacity
        if debt > self.max_debt:
            self.max_debt = debt

    def _held(self) -> dict[Key, list[int]] | None:
        return self.counters.traffic.held if self.per else None

    def count_key(self, key: Key, attributes: Mapping[str, str]) -> None:  # noqa: ARG002
        """Count a request of these attributes in the traffic of its key."""
        self.counters.traffic.add(key)

    def count_refusal(self, key: Key, attributes: Mapping[str, str], *, never: bool) -> None:  # noqa: ARG002
        """Count a refused request of these attributes."""
        self.counters.refuse(key, never=never)

    def filled(self, now: Callable[[], int]) -> Iterator[tuple[int, ...]]:
        """Count keys by their use (see ``LimitCounts.fill``), in small pieces under the lock."""
        return filled(self, now)

    def usage(self, show: Show, keys: KeyCounts = NO_KEYS) -> LimitCounts:
        """Return the counts so far, and reset ``lowest``. ``show``: texts for keys."""
        return counts_of(self, show, keys)
