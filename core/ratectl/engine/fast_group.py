"""A group whose buckets lie packed in the compiled core."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, Final

from ratectl.engine import _fast
from ratectl.engine.concurrency import FOREVER, Concurrency, SlotState
from ratectl.engine.group import Group, fixed
from ratectl.engine.quota import Quota, QuotaState
from ratectl.engine.sliding_window import SlidingWindow, WindowState
from ratectl.engine.token_bucket import TokenBucket, TokenState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ratectl.engine.base import Algorithm, LimitPlan, State
    from ratectl.engine.counters import Counters, Key
    from ratectl.engine.group import Stood

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

    def take(self, cost: int, until: int) -> None:
        if _is_packed(self.own) and (abs(until) > _fast.MOST or cost > _fast.MOST):
            self.own = None  # the others end before; this one does where that can be said
        super().take(cost, until)


def _fields(state: State) -> tuple[Any, ...] | None:
    """What is packed of a state; None where it has to be boxed."""
    if isinstance(state, TokenState):
        return (state.level >> 64, state.level & _HALF, state.at, state.high_at)
    if isinstance(state, WindowState):
        return (state.head, state.since, *state.ring)
    if isinstance(state, QuotaState):
        return (state.start, state.end, state.since, state.used)
    newest = None if state.newest is None else state.newest.until
    if _is_packed(state.own) and [batch for batch, _ in state.batches] == [state.own]:
        return (state.own, newest)
    return None if any(batch.held for batch, _ in state.batches) else (None, newest)


def _parted(state: SlotState) -> SlotState:
    """A bucket that others may begin as: its next slots are its own, as after a copy."""
    state.own = None
    return state


def _is_packed(batch: object) -> bool:
    return isinstance(batch, _fast.Batch)


def _unpacked(packed: Any) -> State | None:
    """The state of which these are the fields; a boxed one is itself, and None nobody's."""
    if packed.__class__ is not tuple:
        state: State | None = packed
        return state
    kind, epoch, serial, *fields = packed
    made: State
    if kind == _TOKENS:
        made = TokenState((fields[0] << 64) | fields[1], fields[2])
        made.high_at = fields[3]
    elif kind == _WINDOW:
        made = WindowState(*fields[:2])
        made.ring = fields[2:]
        made.total = sum(made.ring)
    elif kind == _QUOTA:
        made = QuotaState(*fields)
    else:
        made = _PackedSlots()
        own, newest = fields
        if own is not None:
            made.own = own
            made.batches.append((own, FOREVER))
        if newest is not None:
            made.newest = _Ended(newest)  # type: ignore[assignment]  # has what is asked of it
    made.epoch = epoch
    made.serial = serial
    return made


class _Buckets:
    """The tracked buckets of a group, as Group uses a dict of them."""

    __slots__ = ("_store",)

    def __init__(self, store: _fast.Group) -> None:
        self._store = store

    def get(self, key: int) -> State | None:
        return _unpacked(self._store.get(key))

    def __setitem__(self, key: int, state: State) -> None:
        store, fields = self._store, _fields(state)
        if fields is None or not store.set(key, state.epoch, state.serial, fields):
            store.set(key, 0, 0, state)
        elif isinstance(state, QuotaState):
            store.know(state.start, state.end)

    def __len__(self) -> int:
        return self._store.count


class _Shared:
    """The overflow buckets of a group, as Group uses a dict of them."""

    __slots__ = ("_store",)

    def __init__(self, store: _fast.Group) -> None:
        self._store = store

    def get(self, slot: int) -> State | None:
        return _unpacked(self._store.get_shared(slot))

    __getitem__ = get

    def __setitem__(self, slot: int, state: State) -> None:
        store, fields = self._store, _fields(state)
        if fields is None or not store.set_shared(slot, state.epoch, state.serial, fields):
            store.set_shared(slot, 0, 0, state)

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
    genesis = group.genesis
    group.store.set_genesis(None if genesis is None else _fields(genesis) or False)


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

    def find(self, attributes: Mapping[str, str], now: int) -> tuple[Key, State, bool]:
        key = self.store.key(attributes)
        state = self._tracked_alone(key)
        if state is None:
            return key, self.first_touch(key, attributes, now), True
        return key, state, False

    def seeded(self, now: int) -> bool:
        until = self.store.seed_until  # the core lets go of a seed as well
        return super().seeded(now) if until == _ALWAYS else now < until

    def key(self, attributes: Mapping[str, str]) -> Key:
        return self.store.key(attributes)

    def slot(self, key: Key) -> int:
        assert isinstance(key, int)
        return key & 255

    def write(self, key: Key, state: State) -> None:
        """Put back a bucket that was changed: the key's own, or the one that it shares."""
        assert isinstance(key, int)
        if self.store.get(key) is not None:
            self.buckets[key] = state
        else:
            self.overflow[self.slot(key)] = state

    def stands(self, attributes: Mapping[str, str], now: int, stood: Stood) -> tuple[State, int]:
        known = self in stood
        state, at = super().stands(attributes, now, stood)
        if not known and isinstance(state, SlotState) and state.own is not None:
            key: Any = self.key(attributes)
            if self.store.get(key) is not None:
                self.buckets[key] = _parted(state)
        return state, at

    def _shared(self, key: Key) -> State | None:
        state = super()._shared(key)
        if isinstance(state, SlotState) and state.own is not None:
            self.overflow[self.slot(key)] = _parted(state)
        return state

    def count_refusal(self, key: Key, attributes: Mapping[str, str], *, never: bool) -> None:
        counters: Any = self.counters
        counters.refuse(key, super().key(attributes), never)

    def correct(
        self, key: Key, state: State, more: int, now: int, since: int, cost: int
    ) -> None:  # fmt: skip
        super().correct(key, state, more, now, since, cost)
        self.write(key, state)

    def change(self, algorithm: Algorithm, genesis: State | None, now: int) -> None:
        old = self.algorithm
        before, after = rule_of(fixed(old)), rule_of(fixed(algorithm))
        shared: dict[int, State] = {}
        if (before.kind, before.size) != (after.kind, after.size):
            shared = {slot: self.overflow[slot] for slot in list(self.overflow)}
            self.store.clear_shared()
        super().change(algorithm, genesis, now)
        native = _follows(old, algorithm, before, after)
        self._foreign = self._foreign or not native
        self.store.changed(now, before, after, native)
        for slot, state in shared.items():
            self.overflow[slot] = self._caught_up(state)

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
