"""A group: the buckets of one identity and one set of overrides, by key."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any, Final, Protocol

from ratectl.engine.algorithms.protocol import NEVER, State, migrate
from ratectl.engine.api import LimitUsage
from ratectl.engine.buckets.counters import plain, shown
from ratectl.engine.buckets.seed import lend

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from ratectl.engine.algorithms.protocol import Algorithm
    from ratectl.engine.buckets.counters import Counters, Key
    from ratectl.engine.buckets.seed import Seed
    from ratectl.engine.limit_plan import Identity, LimitPlan

__all__ = ["Bucket", "Group", "Maker", "Stood"]

Bucket = tuple[State, int, int]
"""State of one key, the epoch of the group's parameters that it follows, and its serial number."""

Stood = dict["Group", tuple[State, int]]
"""Memo for one request: bucket state and its time, by group. Lines of seeds branch and rejoin."""

_serials = count(1)
"""Serial numbers of buckets: a recreated bucket differs from the one that was charged."""

_PENDING: Final = 32


class Maker(Protocol):
    """Factory of the parts in which engines differ."""

    def counters(self) -> Counters:
        """Return counts that are all zero."""

    def group(self, limit: LimitPlan, genesis: State | None, counters: Counters) -> Group:
        """Return a group without buckets."""


class Group:
    """Buckets of one identity. Not thread-safe: the engine's lock guards it."""

    __slots__ = (
        "_alike", "_changes", "_passed", "algorithm", "buckets", "budget", "counters", "epoch",
        "genesis", "lent_until", "max_debt", "name", "overflow", "overrides", "per", "retired_at",
        "scope", "seed", "seed_until", "shadow", "single",
    )  # fmt: skip

    def __init__(self, limit: LimitPlan, genesis: State | None, counters: Counters) -> None:
        self.scope = limit.scope
        self.name = limit.name
        self.budget = limit.budget
        self.overrides = limit.overrides
        self.per = limit.per
        self.shadow = limit.shadow
        self.algorithm: Algorithm[Any] = limit.algorithm
        self.genesis = genesis
        self.counters = counters
        self.buckets: dict[Key, Bucket] = {}
        self.overflow: dict[int, Bucket] = {}
        self.epoch = 0
        self.retired_at: int | None = None
        self.lent_until: int | None = NEVER
        self.seed: Seed | None = None
        self._alike = False
        self.seed_until: int | None = None
        self.max_debt = 0
        """Largest debt (cost below empty) of any bucket here, or of one that it began as."""
        self.single = limit.per[0] if len(limit.per) == 1 else None
        """Attribute that buckets are counted per, if there is only one."""
        self._changes: list[tuple[int, Algorithm[Any], Algorithm[Any]]] = []
        self._passed: list[tuple[int, Algorithm[Any]]] = []

    @property
    def identity(self) -> Identity:
        return (self.scope, self.name, self.budget)

    @property
    def names(self) -> Iterable[str]:
        """Attributes that select a request's bucket."""
        return self.per

    def find(self, key: Key, attributes: Mapping[str, str], now: int) -> tuple[State, int]:
        """Return the state of a key at the current parameters, and the serial number of its bucket.

        Serial number 0: the key is untracked, and its bucket is lost unless the table inserts it.
        """
        bucket = self._tracked_alone(key)
        if bucket is None:
            return self._first_touch(key, attributes, now)[0], 0
        state, _, serial = bucket
        return state, serial

    def key(self, attributes: Mapping[str, str]) -> Key:
        """Return the key of a request: the values that select its bucket.

        May run foreign code: methods of ``attributes`` and of its values.
        """
        if self.single is not None:
            key: Key = attributes.get(self.single)
        else:
            key = tuple([attributes.get(name) for name in self.per])
        return plain(key)

    def sources(
        self,
        attributes: Mapping[str, str],  # noqa: ARG002 - used by a family
        heir: Group,  # noqa: ARG002
        now: int,  # noqa: ARG002
        stood: Stood,  # noqa: ARG002
        *,
        alike: bool,  # noqa: ARG002
    ) -> tuple[Group, ...]:
        """Return the groups from whose buckets an heir's bucket starts: this one."""
        return (self,)

    def stands(self, attributes: Mapping[str, str], now: int, stood: Stood) -> tuple[State, int]:
        """Return the state of a request's key and its time: ``now``, or the retirement."""
        state_and_time = stood.get(self)
        if state_and_time is None:
            key = self.key(attributes)
            bucket = self._tracked_alone(key)
            if bucket is None:
                state_and_time = self._first_touch(key, attributes, now, stood)
            else:
                state_and_time = bucket[0], self._own_time(now)
            stood[self] = state_and_time
        return state_and_time

    def untouched(self, attributes: Mapping[str, str], now: int, stood: Stood) -> bool:
        """Return True if a request's bucket equals that of an untouched key."""
        state, at = self.stands(attributes, now, stood)
        return self.algorithm.same(state, self.initial(at), at)

    def _own_time(self, now: int) -> int:
        """Return ``now``; for a retired group, at most the instant of its retirement."""
        return now if self.retired_at is None else min(now, self.retired_at)

    def _first_touch(
        self, key: Key, attributes: Mapping[str, str], now: int, stood: Stood | None = None
    ) -> tuple[State, int]:
        """Return the state that an untracked key behaves as, and the state's time."""
        at = self._own_time(now)
        inherited: State | None = None
        if self.seeded(at):
            for state, since in self._inherited(attributes, now, {} if stood is None else stood):
                at = max(
                    at, since
                )  # untracked buckets of a group in use accrue, as tracked ones do
                inherited = (
                    state if inherited is None else self.algorithm.stricter(inherited, state, at)
                )
        else:
            self.seed = None
        shared = self._shared(key)
        if inherited is None:
            return (self.initial(at) if shared is None else self.algorithm.copied(shared[0])), at
        if shared is not None:
            inherited = self.algorithm.stricter(inherited, shared[0], at)
        return inherited, at

    def plant(self, seed: Seed, now: int, *, alike: bool) -> None:
        """Make untracked keys start, on first touch, from their bucket in ``seed``.

        ``alike``: equal conditions select equal buckets there.
        """
        self.seed = seed
        self._alike = alike
        self.max_debt = max(self.max_debt, seed.max_debt)
        self._passed = [(now, self.algorithm.fixed())]
        self._settle(now)

    def seeded(self, now: int) -> bool:
        """Return True if a bucket of the seed may still be less than full."""
        return self.seed is not None and (self.seed_until is None or now < self.seed_until)

    def lent(self, now: int) -> bool:
        """Return True if another group may still start keys from this one."""
        return self.lent_until is None or now < self.lent_until

    def _settle(self, now: int) -> None:
        """Keep the seed until every bucket that is empty at ``now`` is full."""
        span = self.algorithm.settled_after(self.max_debt)
        self.seed_until = None if span == NEVER else now + span
        lend(self.seed, self.seed_until)

    def expire(self, now: int) -> None:
        """Drop a seed whose buckets are all full."""
        if not self.seeded(now):
            self.seed = None

    def end_line(self) -> None:
        """Drop the seed, even if a bucket of it is not full yet."""
        self.seed = None

    def origins(self, attributes: Mapping[str, str], now: int, stood: Stood) -> tuple[Group, ...]:
        """Return the groups from whose buckets that of a request starts."""
        if self.seed is None or not self.seeded(self._own_time(now)):
            return ()
        return self.seed.sources(attributes, self, now, stood, alike=self._alike)

    def _inherited(
        self, attributes: Mapping[str, str], now: int, stood: Stood
    ) -> Iterator[tuple[State, int]]:
        """Yield the seed's buckets for a request, migrated through every change since.

        Buckets of a retired seed do not accrue; those of a seed in use do until the key is touched.
        """
        for source in self.origins(attributes, now, stood):
            state, at = source.stands(attributes, now, stood)
            before = source.algorithm
            for since, algorithm in self._passed:
                at = max(at, since)
                state = migrate(before, algorithm, state, at)
                before = algorithm
            yield state, at

    def _shared(self, key: Key) -> Bucket | None:
        """Return the overflow bucket of an untracked key, if it has one."""
        if not self.overflow:
            return None
        slot = self.slot(key)
        shared = self.overflow.get(slot)
        if shared is not None:
            shared = self.overflow[slot] = self._caught_up(shared)
        return shared

    def initial(self, now: int) -> State:
        """Return a new bucket: full, or a copy of the genesis bucket."""
        if self.genesis is None:
            return self.algorithm.full(now)
        return self.algorithm.copied(self.genesis)

    def evictable(self, key: Key, bucket: Bucket, now: int) -> bool:
        """Return True if evicting this bucket is invisible."""
        if bucket[1] != self.epoch:
            bucket = self.buckets[key] = self._caught_up(bucket)
        if self.seeded(now):
            return False
        initial = self.initial(now)
        if not self.algorithm.same(bucket[0], initial, now):
            return False
        shared = self._shared(key)
        return shared is None or self.algorithm.same(shared[0], initial, now)

    def adopt(self, plan: LimitPlan, now: int) -> None:
        """Follow a new plan for the same buckets."""
        self.shadow = plan.shadow
        if plan.algorithm != self.algorithm:
            self.change(plan.algorithm, self.genesis_for(plan.algorithm, now), now)

    def genesis_for(self, algorithm: Algorithm[Any], now: int) -> State | None:
        """Return an untouched bucket after a change to this algorithm; None for a full one."""
        state = migrate(self.algorithm, algorithm, self.initial(now), now)
        return None if algorithm.same(state, algorithm.full(now), now) else state

    def change(self, algorithm: Algorithm[Any], genesis: State | None, now: int) -> None:
        """Change the parameters at ``now``. Buckets follow when they are next touched.

        Changes keep ``fixed`` algorithms: the wall clock may be set before a bucket follows.
        """
        change = (now, self.algorithm.fixed(), algorithm.fixed())
        self._changes = [*self._changes, change]
        self.algorithm = algorithm
        self.genesis = genesis
        self.epoch += 1
        if self.seeded(now):
            if len(self._passed) >= _PENDING:
                self._passed.remove(max(self._passed, key=lambda passed: passed[1].capacity))
            self._passed.append((now, algorithm.fixed()))
            self._settle(now)

    def retire(self, now: int) -> None:
        """Stop accrual in all buckets. Other groups may start from them."""
        self.retired_at = now
        self.algorithm = self.algorithm.fixed()

    def changed_often(self) -> bool:
        """Return True if housekeeping must bring untouched buckets up to date."""
        return len(self._changes) > _PENDING

    def forget_changes(self, before: int) -> None:
        """Drop the changes up to this epoch, which every bucket has followed."""
        for slot in list(self.overflow):
            self.overflow[slot] = self._caught_up(self.overflow[slot])
        del self._changes[: len(self._changes) - (self.epoch - before)]

    def _caught_up(self, bucket: Bucket) -> Bucket:
        state, epoch, _ = bucket
        behind = self.epoch - epoch
        if not behind:
            return bucket
        for now, old, new in self._changes[len(self._changes) - behind :]:
            state = migrate(old, new, state, now)
        return state, self.epoch, self._new_serial()

    def _new_serial(self) -> int:
        return next(_serials)

    def slot(self, key: Key) -> int:
        """Return the number of the shared bucket of a key. Python keys the hash per process."""
        return hash(key) & 255

    def keep(self, key: Key, state: State) -> int:
        """Track a bucket from now on. Return its serial number."""
        serial = self._new_serial()
        self.buckets[key] = (state, self.epoch, serial)
        return serial

    def share(self, key: Key, state: State) -> int:
        """Put a key without room into a shared bucket. Return the bucket's serial number."""
        serial = self._new_serial()
        self.overflow[self.slot(key)] = (state, self.epoch, serial)
        return serial

    def write(self, key: Key, state: State, serial: int) -> None:
        """Replace the state of the key's own bucket, or of the one that it shares."""
        bucket = (state, self.epoch, serial)
        if self.buckets.get(key) is not None:
            self.buckets[key] = bucket
        else:
            self.overflow[self.slot(key)] = bucket

    def tracked(self, key: Key) -> Bucket | None:
        """Return the bucket of a key, or the one that it shares, at the current parameters."""
        bucket = self._tracked_alone(key)
        return self._shared(key) if bucket is None else bucket

    def _tracked_alone(self, key: Key) -> Bucket | None:
        """Return the bucket that a key has to itself, at the current parameters."""
        bucket = self.buckets.get(key)
        if bucket is not None and bucket[1] != self.epoch:
            bucket = self.buckets[key] = self._caught_up(bucket)
        return bucket

    def first_touch(self, key: Key, attributes: Mapping[str, str], now: int) -> State:
        """Return a copy of the state that an untracked key behaves as."""
        return self._first_touch(key, attributes, now)[0]

    def count_refusal(self, key: Key, attributes: Mapping[str, str], *, never: bool) -> None:  # noqa: ARG002
        """Count a refused request of these attributes."""
        self.counters.refuse(key, never=never)

    def correct(
        self, key: Key, bucket: Bucket, more: int, now: int, since: int, cost: int
    ) -> None:  # fmt: skip
        """Settle the bucket of a key (see ``Algorithm.settle``)."""
        algorithm, now = self.algorithm, self._own_time(now)
        state, _, serial = bucket
        state = algorithm.settle(state, more, now, since, cost)
        self.write(key, state, serial)
        debt = algorithm.used(state, now) - algorithm.capacity
        if debt > self.max_debt:
            self.max_debt = debt
        left = algorithm.remaining(state, now)
        counters = self.counters
        least = counters.lowest is None or left < counters.lowest
        if more > 0 and self.retired_at is None and least:
            counters.lowest = left

    def usage(self) -> LimitUsage:
        counters = self.counters
        lowest, counters.lowest = counters.lowest, None
        top = sorted(counters.refused_keys.items(), key=lambda item: -item[1])[:10]
        return LimitUsage(
            scope=self.scope,
            limit=self.name,
            overrides=self.overrides,
            budget=self.budget,
            shadow=self.shadow,
            allowed=counters.allowed,
            refused=counters.refused,
            never=counters.never,
            shadow_refused=counters.shadow_refused,
            waited=counters.waited,
            most=self.algorithm.capacity,
            lowest=lowest,
            keys=len(self.buckets),
            top_refused=tuple((shown(key), count) for key, count in top),
        )
