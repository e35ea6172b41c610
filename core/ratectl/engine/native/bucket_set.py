"""A group whose buckets are packed in the compiled core."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, Final

from ratectl.engine.algorithms.concurrency import Concurrency
from ratectl.engine.buckets.bucket_set import Group
from ratectl.engine.buckets.carry import Carry
from ratectl.engine.buckets.reading import NO_KEYS
from ratectl.engine.cost import REQUESTS
from ratectl.engine.native import _fast
from ratectl.engine.native.packing import BY_KIND, follows, packing_of, rule_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from ratectl.engine.algorithms.protocol import State
    from ratectl.engine.buckets.bucket_set import Bucket
    from ratectl.engine.buckets.carry import Left
    from ratectl.engine.buckets.counters import Counters, Key, Show
    from ratectl.engine.buckets.events import Room
    from ratectl.engine.buckets.past import Stay
    from ratectl.engine.buckets.reading import KeyCounts
    from ratectl.engine.limit_plan import LimitPlan
    from ratectl.engine.native.packing import Packing

__all__ = ["FastCarry", "FastGroup"]

_MARKS: Final = Concurrency(1, 1)
"""Rule of the smallest buckets: a mark is a key alone."""


_PLACES: Final = 512
"""Places of a table that are examined in one piece of work: some microseconds."""


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


def _tell_skips(group: FastGroup) -> None:
    group.store.skips = bool(group.skips)


def _tell_epoch(group: FastGroup) -> None:
    group.store.epoch = group.epoch


def _tell_default(group: FastGroup) -> None:
    packed: Any = None
    if group.default is not None and not group.algorithm.starts_full:
        packing = packing_of(group.algorithm)
        packed = packing.fields(group.default) if packing else None
        packed = packed or ()
    group.store.begin(packed)


class FastCarry(Carry):
    """A carry whose marks the core reads."""

    __slots__ = ("store",)

    def __init__(self, core: _fast.Core, path: tuple[Stay, ...], group: Group, left: Left) -> None:
        super().__init__(path, group, left)
        self.store = core.group(group.scope, group.name, self.names, _fast.Counters(), None)
        self.store.rule = rule_of(_MARKS)
        self.store.retire()  # it holds no buckets

    def mark(self, attributes: Mapping[str, str]) -> Key:
        return self.store.key(attributes)

    def is_done(self, mark: Any) -> bool:
        return self.store.marked(mark)

    def done(self, mark: Any) -> None:
        self.store.mark(mark)


class FastGroup(Group):
    """Buckets of one identity, packed in ``store``. Keys are fingerprints."""

    __slots__ = ("__weakref__", "_foreign", "store")

    algorithm = _told("algorithm", _tell_rule)
    shadow = _told("shadow", _tell_shadow)
    skips = _told("skips", _tell_skips)
    epoch = _told("epoch", _tell_epoch)
    default = _told("default", _tell_default)

    def __init__(self, core: _fast.Core, limit: LimitPlan, epoch: int, counters: Counters) -> None:
        unit = None if limit.unit == REQUESTS else limit.unit
        self.store = core.group(limit.scope, limit.name, limit.per, counters, unit)
        self.store.owner = weakref.ref(self)
        self._foreign = False
        """True if the core cannot follow an event. Then it cannot judge buckets for eviction."""
        super().__init__(limit, epoch, counters)
        self.buckets = _Buckets(self.store)  # type: ignore[assignment]
        self.overflow = _Shared(self.store)  # type: ignore[assignment]

    def key(self, attributes: Mapping[str, str]) -> Key:
        return self.store.key(attributes)

    def find(self, key: Key, now: int) -> tuple[State, int]:
        state, serial = super().find(key, now)
        packing = packing_of(self.algorithm)
        return (state if packing is None else packing.taking(state)), serial

    def new_serial(self) -> int:
        return self.store.serial()

    def slot(self, key: Key) -> int:
        assert isinstance(key, int)
        return key & 255

    def slots_after_restart(self, slot: int) -> Iterable[int]:
        return (slot,)  # keys that are kept have stable numbers

    def pieces(self, most: int) -> Iterator[list[Key]]:
        at = 0
        while at >= 0:
            at, keys = self.store.keys(at, most)
            yield list(keys)

    def _held(self) -> None:
        return None  # the core has them

    def count_key(self, key: Key, attributes: Mapping[str, str]) -> None:
        counters: Any = self.counters
        counters.seen(key, super().key(attributes))

    def count_refusal(self, key: Key, attributes: Mapping[str, str], *, never: bool) -> None:
        counters: Any = self.counters
        counters.refuse(key, super().key(attributes), never)

    def follow(
        self, limit: LimitPlan, seq: int, at: int, *, left: bool, room: Room | None = None
    ) -> None:
        before = after = rule_of(self.algorithm.fixed())
        if limit.algorithm != self.algorithm:
            after = rule_of(limit.algorithm.fixed())
        shared: dict[int, Bucket] = {}
        if before.kind != after.kind:
            shared = {slot: self.overflow[slot] for slot in list(self.overflow)}
            self.store.clear_shared()
        old, full = self.algorithm, self.default is None
        super().follow(limit, seq, at, left=left, room=room)
        if self.epoch != seq:
            return
        native = before.kind == after.kind and follows(old, limit.algorithm)
        self._foreign = self._foreign or not native
        self.store.changed(seq, at, before, after, native and (full or not left), left)
        for slot, bucket in shared.items():
            self.overflow[slot] = self._caught_up(bucket, slot, shared=True)

    def empty(self, missing: int, seq: int, at: int) -> None:
        super().empty(missing, seq, at)
        rule = rule_of(self.algorithm.fixed())
        self._foreign = True
        self.store.changed(seq, at, rule, rule, False, False)

    def changed_often(self) -> bool:
        return super().changed_often() or self._foreign or self.store.former > 0

    def forget(self) -> None:
        super().forget()
        self.store.free_saved()

    def forget_events(self, before: int) -> None:
        super().forget_events(before)
        self.store.forget(before)
        self._foreign = False

    def filled(self, now: Callable[[], int]) -> Iterator[tuple[int, ...]]:
        at = 0
        while at >= 0:
            at, counts = _fast.fill(self.store, at, _PLACES, min(now(), _fast.MOST))
            yield counts

    def usage(self, show: Show, keys: KeyCounts = NO_KEYS) -> Any:
        self.store.flush()
        return super().usage(show, keys)
