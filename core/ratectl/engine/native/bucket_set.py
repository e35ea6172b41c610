"""A group whose buckets lie packed in the compiled core."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, Final

from ratectl.engine.algorithms.concurrency import FOREVER, Concurrency, Slot, SlotState
from ratectl.engine.algorithms.quota import Quota
from ratectl.engine.algorithms.sliding_window import SlidingWindow
from ratectl.engine.algorithms.token_bucket import TokenBucket
from ratectl.engine.buckets.bucket_set import Group, fixed
from ratectl.engine.native import _fast

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ratectl.engine.api import Algorithm, Bucket, LimitPlan, State
    from ratectl.engine.buckets.bucket_set import Stood
    from ratectl.engine.buckets.counters import Counters, Key

__all__ = ["FastGroup"]

_WIDE, _TOKENS, _WINDOW, _QUOTA, _HELD = range(5)
_HALF: Final = (1 << 64) - 1
_ALWAYS: Final = (1 << 63) - 1
_NEVER: Final = -(1 << 63)


# Rules ------------------------------------------------------------------------------------------


def rule_of(algorithm: Algorithm) -> _fast.Rule:
    """An algorithm's parameters, as the core has them; of kind 0 where they are beyond it."""
    try:
        if isinstance(algorithm, TokenBucket):
            of = algorithm
            return _fast.Rule(_TOKENS, False, of.burst, of.per_ns, of.per_token, 1, 1, 0, None)
        if isinstance(algorithm, SlidingWindow):
            blocked, slot_ns = algorithm.blocked, algorithm.slot_ns
            return _fast.Rule(_WINDOW, blocked, algorithm.most, 1, 1, slot_ns, 1, 0, None)
        if isinstance(algorithm, Quota):
            blocked, even = algorithm.blocked, algorithm.window.even_ns
            return _fast.Rule(_QUOTA, blocked, algorithm.most, 1, 1, 1, 1, even, algorithm.offset)
        if isinstance(algorithm, Concurrency):
            return _fast.Rule(_HELD, False, algorithm.most, 1, 1, 1, algorithm.hold_ns, 0, None)
    except OverflowError:
        pass
    return _fast.Rule(_WIDE, False, 0, 1, 1, 1, 1, 0, None)


def _follows(old: Algorithm, new: Algorithm, before: _fast.Rule, after: _fast.Rule) -> bool:
    """Whether the core can migrate a bucket by itself."""
    if before.kind != after.kind or before.size != after.size:
        return False
    if isinstance(old, TokenBucket) and isinstance(new, TokenBucket):
        return old.per_token == new.per_token
    if isinstance(old, Quota):
        return old.same_window(new)
    return isinstance(old, SlidingWindow | Concurrency)


# Packing ----------------------------------------------------------------------------------------


class _Ended:
    """In place of the slot that was taken last."""

    __slots__ = ("until",)

    def __init__(self, until: int) -> None:
        self.until = until


class _PackedSlots(SlotState):
    """A bucket whose own slots lie in a batch of the core."""

    __slots__ = ()

    def take(self, cost: int, until: int) -> Slot:
        if _is_packed(self.own) and (abs(until) > _fast.MOST or cost > _fast.MOST):
            self.own = None  # the others end before; this one does where that can be said
        return super().take(cost, until)


def _fields(kind: int, state: Any) -> tuple[Any, ...] | None:
    """What is packed of a state; None where it has to be boxed."""
    if isinstance(state, SlotState):
        return _slot_fields(state)
    if kind == _TOKENS:
        level, at, high_at = state
        return (level >> 64, level & _HALF, at, high_at)
    if kind == _WINDOW:
        head, since, ring, _ = state
        return (head, since, *ring)
    fields: tuple[Any, ...] | None = state if kind == _QUOTA else None
    return fields


def _slot_fields(state: SlotState) -> tuple[Any, ...] | None:
    newest = None if state.newest is None else state.newest.until
    if _is_packed(state.own) and [state.own] == [batch for batch, _ in state.batches]:
        return (state.own, newest)
    return None if any(batch.held for batch, _ in state.batches) else (None, newest)


def _parted(bucket: Bucket) -> Bucket:
    """A bucket that others may begin as: its next slots are its own, as after a copy."""
    state, _, _ = bucket
    if isinstance(state, SlotState):
        state.own = None
    return bucket


def _is_packed(batch: object) -> bool:
    return isinstance(batch, _fast.Batch)


def _packed(kind: int, bucket: Bucket) -> tuple[int, int, tuple[Any, ...]] | list[Any]:
    """The epoch, the serial number and the fields of a bucket; a list is to be boxed as it is."""
    state, epoch, serial = bucket
    fields = _fields(kind, state)
    return list(bucket) if fields is None else (epoch, serial, fields)


def _unpacked(packed: Any) -> Bucket | None:
    """The bucket that was packed or boxed; None is nobody's."""
    if packed is None:
        return None
    if packed.__class__ is list:
        boxed: Bucket = tuple(packed)
        return boxed
    kind, epoch, serial, *fields = packed
    if kind == _TOKENS:
        high, low, at, high_at = fields
        return ((high << 64) | low, at, high_at), epoch, serial
    if kind == _WINDOW:
        head, since, *ring = fields
        return (head, since, tuple(ring), sum(ring)), epoch, serial
    if kind == _QUOTA:
        return tuple(fields), epoch, serial
    return _unpacked_slots(*fields), epoch, serial


def _unpacked_slots(own: Any, newest: int | None) -> SlotState:
    made = _PackedSlots()
    if own is not None:
        made.own = own
        made.batches = ((own, FOREVER),)
    if newest is not None:
        made.newest = _Ended(newest)  # type: ignore[assignment]  # has what is asked of it
    return made


class _Buckets:
    """The tracked buckets of a group, as Group uses a dict of them."""

    __slots__ = ("_store",)

    def __init__(self, store: _fast.Group) -> None:
        self._store = store

    def get(self, key: int) -> Bucket | None:
        return _unpacked(self._store.get(key))

    def __setitem__(self, key: int, bucket: Bucket) -> None:
        store = self._store
        kind = store.rule.kind
        if not store.set(key, _packed(kind, bucket)):
            store.set(key, list(bucket))
        elif kind == _QUOTA:
            (start, end, _, _), _, _ = bucket  # type: ignore[misc]  # that of a quota
            store.know(start, end)

    def __len__(self) -> int:
        return self._store.count


class _Shared:
    """The overflow buckets of a group, as Group uses a dict of them."""

    __slots__ = ("_store",)

    def __init__(self, store: _fast.Group) -> None:
        self._store = store

    def get(self, slot: int) -> Bucket | None:
        return _unpacked(self._store.get_shared(slot))

    def __getitem__(self, slot: int) -> Bucket:
        bucket = self.get(slot)
        if bucket is None:
            raise KeyError(slot)
        return bucket

    def __setitem__(self, slot: int, bucket: Bucket) -> None:
        store = self._store
        if not store.set_shared(slot, _packed(store.rule.kind, bucket)):
            store.set_shared(slot, list(bucket))

    def __iter__(self) -> Iterator[int]:
        return iter(self._store.shared_slots())

    def __len__(self) -> int:
        return len(self._store.shared_slots())


# Groups -----------------------------------------------------------------------------------------


def _told(name: str, tell: Callable[[FastGroup], None]) -> Any:
    """An attribute of Group whose changes the core is told of."""
    slot = Group.__dict__[name]

    def change(group: FastGroup, value: object) -> None:
        slot.__set__(group, value)
        tell(group)

    return property(slot.__get__, change)


def _tell_rule(group: FastGroup) -> None:
    group.store.rule = rule_of(group.algorithm)


def _tell_shadow(group: FastGroup) -> None:
    group.store.shadow = bool(group.shadow)


def _tell_epoch(group: FastGroup) -> None:
    group.store.epoch = group.epoch


def _tell_genesis(group: FastGroup) -> None:
    store, genesis = group.store, group.genesis
    store.set_genesis(None if genesis is None else _fields(store.rule.kind, genesis) or False)


def _tell_seed(group: FastGroup) -> None:
    until = _NEVER
    if group.seed is not None:
        until = _ALWAYS if group.seed_until is None else min(group.seed_until, _ALWAYS)
    group.store.seed_until = until


class FastGroup(Group):
    """Buckets of one identity, packed in ``store``. Keys are fingerprints."""

    __slots__ = ("__weakref__", "_foreign", "store")

    algorithm = _told("algorithm", _tell_rule)
    shadow = _told("shadow", _tell_shadow)
    epoch = _told("epoch", _tell_epoch)
    genesis = _told("genesis", _tell_genesis)
    seed = _told("seed", _tell_seed)
    seed_until = _told("seed_until", _tell_seed)

    def __init__(
        self, core: _fast.Core, limit: LimitPlan, genesis: State | None, counters: Counters
    ) -> None:
        self.store = core.group(limit.scope, limit.name, limit.per, counters)
        self.store.owner = weakref.ref(self)
        self._foreign = False
        """Whether the core cannot follow a change: nor can it tell which buckets to forget."""
        super().__init__(limit, genesis, counters)
        self.buckets = _Buckets(self.store)  # type: ignore[assignment]
        self.overflow = _Shared(self.store)  # type: ignore[assignment]

    def seeded(self, now: int) -> bool:
        until = self.store.seed_until  # the core lets go of a seed as well
        return super().seeded(now) if until == _ALWAYS else now < until

    def key(self, attributes: Mapping[str, str]) -> Key:
        return self.store.key(attributes)

    def _new_serial(self) -> int:
        return self.store.serial()

    def slot(self, key: Key) -> int:
        assert isinstance(key, int)
        return key & 255

    def stands(self, attributes: Mapping[str, str], now: int, stood: Stood) -> tuple[State, int]:
        known = self in stood
        state, at = super().stands(attributes, now, stood)
        if not known and isinstance(state, SlotState) and state.own is not None:
            key: Any = self.key(attributes)
            bucket = self.buckets.get(key)
            if bucket is not None:
                self.buckets[key] = _parted(bucket)
            state.own = None
        return state, at

    def _shared(self, key: Key) -> Bucket | None:
        bucket = super()._shared(key)
        if bucket is not None and isinstance(bucket[0], SlotState) and bucket[0].own is not None:
            bucket = self.overflow[self.slot(key)] = _parted(bucket)
        return bucket

    def count_refusal(self, key: Key, attributes: Mapping[str, str], *, never: bool) -> None:
        counters: Any = self.counters
        counters.refuse(key, super().key(attributes), never)

    def change(self, algorithm: Algorithm, genesis: State | None, now: int) -> None:
        old = self.algorithm
        before, after = rule_of(fixed(old)), rule_of(fixed(algorithm))
        shared: dict[int, Bucket] = {}
        if (before.kind, before.size) != (after.kind, after.size):
            shared = {slot: self.overflow[slot] for slot in list(self.overflow)}
            self.store.clear_shared()
        super().change(algorithm, genesis, now)
        native = _follows(old, algorithm, before, after)
        self._foreign = self._foreign or not native
        self.store.changed(now, before, after, native)
        for slot, bucket in shared.items():
            self.overflow[slot] = self._caught_up(bucket)

    def changed_often(self) -> bool:
        return super().changed_often() or self._foreign or self.store.former > 0

    def forget_changes(self, before: int) -> None:
        count = len(self._changes) - (self.epoch - before)
        super().forget_changes(before)
        self.store.forget(count)
        self._foreign = False

    def usage(self) -> Any:
        self.store.flush()
        return super().usage()
