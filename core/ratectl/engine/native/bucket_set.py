"""A group whose buckets are packed in the compiled core."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, Final

from ratectl.engine.buckets.bucket_set import Group
from ratectl.engine.native.packing import BY_KIND, follows, packing_of, rule_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ratectl.engine.algorithms.protocol import Algorithm, State
    from ratectl.engine.buckets.bucket_set import Bucket, Stood
    from ratectl.engine.buckets.counters import Counters, Key
    from ratectl.engine.limit_plan import LimitPlan
    from ratectl.engine.native import _fast
    from ratectl.engine.native.packing import Packing

__all__ = ["FastGroup"]

_ALWAYS: Final = (1 << 63) - 1
_NEVER: Final = -(1 << 63)


def _packed(packing: Packing[Any, Any] | None, bucket: Bucket) -> Any:
    """Return epoch, serial number and fields of a bucket; a list, to be boxed, if it has none."""
    state, epoch, serial = bucket
    fields = None if packing is None else packing.fields(state)
    return list(bucket) if fields is None else (epoch, serial, fields)


def _unpacked(packed: Any) -> Bucket | None:
    """Return the bucket that was packed or boxed; None if there is none."""
    if packed is None:
        return None
    if packed.__class__ is list:
        boxed: Bucket = tuple(packed)
        return boxed
    kind, epoch, serial, fields = packed
    packing = BY_KIND[kind]
    assert packing is not None, "only kinds with a packing are packed"
    return packing.state(fields), epoch, serial


class _Buckets:
    """Tracked buckets of a group, with the methods of a dict that ``Group`` uses."""

    __slots__ = ("_store",)

    def __init__(self, store: _fast.Group) -> None:
        self._store = store

    def get(self, key: int) -> Bucket | None:
        return _unpacked(self._store.get(key))

    def __setitem__(self, key: int, bucket: Bucket) -> None:
        store = self._store
        packing = BY_KIND[store.rule.kind]
        if not store.set(key, _packed(packing, bucket)):
            store.set(key, list(bucket))
        elif packing is not None:
            state, _, _ = bucket
            packing.written(store, state)

    def __len__(self) -> int:
        return self._store.count


class _Shared:
    """Overflow buckets of a group, with the methods of a dict that ``Group`` uses."""

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
        if not store.set_shared(slot, _packed(BY_KIND[store.rule.kind], bucket)):
            store.set_shared(slot, list(bucket))

    def __iter__(self) -> Iterator[int]:
        return iter(self._store.shared_slots())

    def __len__(self) -> int:
        return len(self._store.shared_slots())


# Groups -----------------------------------------------------------------------------------------


def _told(name: str, tell: Callable[[FastGroup], None]) -> Any:
    """Return an attribute of ``Group`` whose changes are told to the core."""
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
    packing = BY_KIND[store.rule.kind]
    if genesis is None:
        store.set_genesis(None)
    else:
        store.set_genesis(False if packing is None else packing.fields(genesis) or False)


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
        """True if the core cannot follow a change. Then it cannot judge buckets for eviction."""
        super().__init__(limit, genesis, counters)
        self.buckets = _Buckets(self.store)  # type: ignore[assignment]
        self.overflow = _Shared(self.store)  # type: ignore[assignment]

    def seeded(self, now: int) -> bool:
        until = self.store.seed_until  # the core drops a seed as well
        return super().seeded(now) if until == _ALWAYS else now < until

    def key(self, attributes: Mapping[str, str]) -> Key:
        return self.store.key(attributes)

    def find(self, key: Key, attributes: Mapping[str, str], now: int) -> tuple[State, int]:
        state, serial = super().find(key, attributes, now)
        packing = packing_of(self.algorithm)
        return (state if packing is None else packing.taking(state)), serial

    def _new_serial(self) -> int:
        return self.store.serial()

    def slot(self, key: Key) -> int:
        assert isinstance(key, int)
        return key & 255

    def stands(self, attributes: Mapping[str, str], now: int, stood: Stood) -> tuple[State, int]:
        known = self in stood
        state, at = super().stands(attributes, now, stood)
        if not known and self._part(state):
            key: Any = self.key(attributes)
            bucket = self.buckets.get(key)
            if bucket is not None:
                self._part(bucket[0])
                self.buckets[key] = bucket
        return state, at

    def _part(self, state: State) -> bool:
        """Hide later charges of a bucket from its copies. Return True if that changed it."""
        packing = packing_of(self.algorithm)
        return packing is not None and packing.part(state)

    def _shared(self, key: Key) -> Bucket | None:
        bucket = super()._shared(key)
        if bucket is not None and self._part(bucket[0]):
            self.overflow[self.slot(key)] = bucket
        return bucket

    def count_refusal(self, key: Key, attributes: Mapping[str, str], *, never: bool) -> None:
        counters: Any = self.counters
        counters.refuse(key, super().key(attributes), never)

    def change(self, algorithm: Algorithm[Any], genesis: State | None, now: int) -> None:
        old = self.algorithm
        before, after = rule_of(old.fixed()), rule_of(algorithm.fixed())
        shared: dict[int, Bucket] = {}
        if before.kind != after.kind:
            shared = {slot: self.overflow[slot] for slot in list(self.overflow)}
            self.store.clear_shared()
        super().change(algorithm, genesis, now)
        native = before.kind == after.kind and follows(old, algorithm)
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
