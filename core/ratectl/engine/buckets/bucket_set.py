"""A group: the buckets of one identity (and one set of overrides), by key."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Final, Protocol

from ratectl.engine.algorithms.concurrency import SlotState
from ratectl.engine.algorithms.migrate import migrate
from ratectl.engine.algorithms.quota import Quota
from ratectl.engine.api import LimitUsage
from ratectl.engine.buckets.counters import plain, shown
from ratectl.engine.decision import NEVER

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from ratectl.engine.api import Algorithm, Bucket, Identity, LimitPlan, State
    from ratectl.engine.buckets.counters import Counters, Key
    from ratectl.engine.buckets.variants import Family

__all__ = ["Group", "Maker", "Stood", "fixed", "lend"]

Stood = dict["Group", tuple["State", int]]
"""Where groups stand for one request, as far as looked at: lines of seeds part and meet again."""

_serials = count(1)
"""Serial numbers of buckets: a bucket that is made again differs from the one that was charged."""

_PENDING: Final = 32


class Maker(Protocol):
    """Makes the parts that engines differ in."""

    def counters(self) -> Counters:
        """Counts that are all zero."""

    def group(self, limit: LimitPlan, genesis: State | None, counters: Counters) -> Group:
        """A group without buckets."""


class Group:
    """Buckets of one identity. Not thread-safe: its engine's lock guards it."""

    __slots__ = (
        "_alike",
        "_changes",
        "_passed",
        "algorithm",
        "buckets",
        "budget",
        "counters",
        "epoch",
        "genesis",
        "lent_until",
        "name",
        "overflow",
        "overrides",
        "owed",
        "per",
        "retired_at",
        "scope",
        "seed",
        "seed_until",
        "shadow",
        "single",
    )

    def __init__(self, limit: LimitPlan, genesis: State | None, counters: Counters) -> None:
        self.scope = limit.scope
        self.name = limit.name
        self.budget = limit.budget
        self.overrides = limit.overrides
        self.per = limit.per
        self.shadow = limit.shadow
        self.algorithm: Algorithm = limit.algorithm
        self.genesis = genesis
        self.counters = counters
        self.buckets: dict[Key, Bucket] = {}
        self.overflow: dict[int, Bucket] = {}
        self.epoch = 0
        self.retired_at: int | None = None
        self.lent_until: int | None = NEVER
        self.seed: Group | Family | None = None
        self._alike = False
        self.seed_until: int | None = None
        self.owed = 0
        """What any bucket here, or one that it began as, ever held below empty."""
        self.single = limit.per[0] if len(limit.per) == 1 else None
        """The attribute that buckets are counted per, where there is just one."""
        self._changes: list[tuple[int, Algorithm, Algorithm]] = []
        self._passed: list[tuple[int, Algorithm]] = []

    @property
    def identity(self) -> Identity:
        return (self.scope, self.name, self.budget)

    @property
    def names(self) -> Iterable[str]:
        """Attributes that tell which bucket a request has here."""
        return self.per

    def find(self, key: Key, attributes: Mapping[str, str], now: int) -> tuple[State, int]:
        """Return the state of a key at the current parameters, and the serial number of its bucket.

        Number 0 is an untracked key: its bucket must be inserted into the table to be kept.
        """
        bucket = self._tracked_alone(key)
        if bucket is None:
            return self._first_touch(key, attributes, now)[0], 0
        state, _, serial = bucket
        return state, serial

    def key(self, attributes: Mapping[str, str]) -> Key:
        """Return the key of a request: the values by which its bucket is found.

        Runs the code of whoever made ``attributes`` and its values.
        """
        if self.single is not None:
            key: Key = attributes.get(self.single)
        else:
            key = tuple([attributes.get(name) for name in self.per])
        return plain(key)

    def sources(
        self,
        attributes: Mapping[str, str],  # noqa: ARG002 - a family's
        heir: Group,  # noqa: ARG002
        now: int,  # noqa: ARG002
        stood: Stood,  # noqa: ARG002
        *,
        alike: bool,  # noqa: ARG002
    ) -> tuple[Group, ...]:
        """As a seed: the groups from whose buckets an heir's bucket starts."""
        return (self,)

    def stands(self, attributes: Mapping[str, str], now: int, stood: Stood) -> tuple[State, int]:
        """The state of a request's key, and when: ``now``, or when it was set aside."""
        found = stood.get(self)
        if found is None:
            key = self.key(attributes)
            bucket = self._tracked_alone(key)
            if bucket is None:
                found = self._first_touch(key, attributes, now, stood)
            else:
                found = bucket[0], self._own(now)
            stood[self] = found
        return found

    def untouched(self, attributes: Mapping[str, str], now: int, stood: Stood) -> bool:
        """Whether a request's bucket is just like that of any other key."""
        state, at = self.stands(attributes, now, stood)
        return self.algorithm.same(state, self.initial(at), at)

    def _own(self, now: int) -> int:
        return now if self.retired_at is None else min(now, self.retired_at)

    def _first_touch(
        self, key: Key, attributes: Mapping[str, str], now: int, stood: Stood | None = None
    ) -> tuple[State, int]:
        """The bucket that an untracked key behaves as, and when it stood so."""
        at = self._own(now)
        inherited: State | None = None
        if self.seeded(at):
            for state, since in self._inherited(attributes, now, {} if stood is None else stood):
                at = max(at, since)  # a living group's untracked bucket goes on, as a tracked one
                inherited = (
                    state if inherited is None else self.algorithm.stricter(inherited, state, at)
                )
        else:
            self.seed = None
        shared = self._shared(key)
        if inherited is None:
            return (self.initial(at) if shared is None else _begun(shared[0])), at
        if shared is not None:
            inherited = self.algorithm.stricter(inherited, shared[0], at)
        return inherited, at

    def plant(self, seed: Group | Family, now: int, *, alike: bool) -> None:
        """Untracked keys start, on first touch, from their bucket in ``seed``.

        ``alike``: the same conditions select the same buckets there.
        """
        self.seed = seed
        self._alike = alike
        self.owed = max(self.owed, seed.owed)
        self._passed = [(now, fixed(self.algorithm))]
        self._settle(now)

    def seeded(self, now: int) -> bool:
        """Whether a seed may still say anything but "full"."""
        return self.seed is not None and (self.seed_until is None or now < self.seed_until)

    def lent(self, now: int) -> bool:
        """Whether another group may still start keys from this one."""
        return self.lent_until is None or now < self.lent_until

    def _settle(self, now: int) -> None:
        """Keep the seed until every bucket that is empty at ``now`` is full."""
        span = self.algorithm.settled_after(self.owed)
        self.seed_until = None if span == NEVER else now + span
        lend(self.seed, self.seed_until)

    def expire(self, now: int) -> None:
        """Let go of a seed that has nothing more to say, and of its buckets with it."""
        if not self.seeded(now):
            self.seed = None

    def end_line(self) -> None:
        """Forget what was before, though it may have had more to say."""
        self.seed = None

    def origins(self, attributes: Mapping[str, str], now: int, stood: Stood) -> tuple[Group, ...]:
        """The groups from whose buckets that of a request starts."""
        if self.seed is None or not self.seeded(self._own(now)):
            return ()
        return self.seed.sources(attributes, self, now, stood, alike=self._alike)

    def _inherited(
        self, attributes: Mapping[str, str], now: int, stood: Stood
    ) -> Iterator[tuple[State, int]]:
        """The seed's buckets for a request, taken through every change since.

        A seed that was set aside stands still; a living one goes on until the key is touched.
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
        """The overflow bucket of an untracked key, if it has one."""
        if not self.overflow:
            return None
        slot = self.slot(key)
        shared = self.overflow.get(slot)
        if shared is not None:
            shared = self.overflow[slot] = self._caught_up(shared)
        return shared

    def initial(self, now: int) -> State:
        """A new bucket: full, or as far as the genesis bucket has come since the last change."""
        return self.algorithm.full(now) if self.genesis is None else _begun(self.genesis)

    def evictable(self, key: Key, bucket: Bucket, now: int) -> bool:
        """Whether forgetting this bucket could not be noticed."""
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

    def genesis_for(self, algorithm: Algorithm, now: int) -> State | None:
        """What an untouched bucket is when the algorithm becomes this one; None for full."""
        state = migrate(self.algorithm, algorithm, self.initial(now), now)
        return None if algorithm.same(state, algorithm.full(now), now) else state

    def change(self, algorithm: Algorithm, genesis: State | None, now: int) -> None:
        """New parameters from ``now`` on; buckets follow when they are next touched."""
        change = (now, fixed(self.algorithm), fixed(algorithm))
        self._changes = [*self._changes, change]
        self.algorithm = algorithm
        self.genesis = genesis
        self.epoch += 1
        if self.seeded(now):
            if len(self._passed) >= _PENDING:
                self._passed.remove(max(self._passed, key=lambda passed: passed[1].most))
            self._passed.append((now, fixed(algorithm)))
            self._settle(now)

    def retire(self, now: int) -> None:
        """From now on the buckets stand still; others may start from them."""
        self.retired_at = now
        self.algorithm = fixed(self.algorithm)

    def changed_often(self) -> bool:
        """Whether buckets that nobody touches have to follow the changes by and by."""
        return len(self._changes) > _PENDING

    def forget_changes(self, before: int) -> None:
        """Every bucket has followed the changes up to this epoch."""
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
        """Which shared bucket an untrackable key falls into; Python keys the hash per process."""
        return hash(key) & 255

    def keep(self, key: Key, state: State) -> int:
        """Track a bucket from now on; returns its serial number."""
        serial = self._new_serial()
        self.buckets[key] = (state, self.epoch, serial)
        return serial

    def share(self, key: Key, state: State) -> int:
        """Let a key without room share a bucket with others; returns its serial number."""
        serial = self._new_serial()
        self.overflow[self.slot(key)] = (state, self.epoch, serial)
        return serial

    def write(self, key: Key, state: State, serial: int) -> None:
        """Put a state that was changed in place of the old one: the key's own, or a shared one."""
        bucket = (state, self.epoch, serial)
        if self.buckets.get(key) is not None:
            self.buckets[key] = bucket
        else:
            self.overflow[self.slot(key)] = bucket

    def tracked(self, key: Key) -> Bucket | None:
        """The bucket of a key, or the one that it shares, at the current parameters."""
        bucket = self._tracked_alone(key)
        return self._shared(key) if bucket is None else bucket

    def _tracked_alone(self, key: Key) -> Bucket | None:
        """The bucket that a key has to itself, at the current parameters."""
        bucket = self.buckets.get(key)
        if bucket is not None and bucket[1] != self.epoch:
            bucket = self.buckets[key] = self._caught_up(bucket)
        return bucket

    def first_touch(self, key: Key, attributes: Mapping[str, str], now: int) -> State:
        """A scratch copy of the bucket that an untracked key behaves as."""
        return self._first_touch(key, attributes, now)[0]

    def count_refusal(self, key: Key, attributes: Mapping[str, str], *, never: bool) -> None:  # noqa: ARG002
        """Count a refused request of these attributes."""
        self.counters.refuse(key, never=never)

    def correct(
        self, key: Key, bucket: Bucket, more: int, now: int, since: int, cost: int
    ) -> None:  # fmt: skip
        """Settle the bucket of a key (see ``Algorithm.settle``)."""
        algorithm, now = self.algorithm, self._own(now)
        state, _, serial = bucket
        state = algorithm.settle(state, more, now, since, cost)
        self.write(key, state, serial)
        owed = algorithm.used(state, now) - algorithm.most
        if owed > self.owed:
            self.owed = owed
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
            most=self.algorithm.most,
            lowest=lowest,
            keys=len(self.buckets),
            top_refused=tuple((shown(key), count) for key, count in top),
        )


def _begun(state: State) -> State:
    """A state for another bucket that begins as this one."""
    return state.copy() if isinstance(state, SlotState) else state


def fixed(algorithm: Algorithm) -> Algorithm:
    """The maths of a change: buckets follow it later, when the wall clock may have been set."""
    return algorithm.fixed() if isinstance(algorithm, Quota) else algorithm


def lend(seed: Group | Family | None, until: int | None) -> None:
    """Mark a seed, and those behind it, as asked until then; None is for ever."""
    while seed is not None:
        if until is None or seed.lent_until is None:
            seed.lent_until = None
        else:
            seed.lent_until = max(seed.lent_until, until)
        seed = seed.seed
