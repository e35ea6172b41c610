"""Packing: buckets of each algorithm as the compiled core keeps them.

The core has a *kind* of rule for each algorithm here (``Kind`` in rule.h). A bucket that does not
fit its packed form is *boxed*: the core keeps its state as a Python object, and Python decides. All
buckets of an algorithm without a packing are boxed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Final, Generic, TypeVar

from ratectl.engine.algorithms.concurrency import Concurrency, Slot, SlotState
from ratectl.engine.algorithms.keyed_bucket import KeyedBucket
from ratectl.engine.algorithms.pooled import PooledBucket
from ratectl.engine.algorithms.protocol import FOREVER, Algorithm
from ratectl.engine.algorithms.quota import Quota, QuotaState
from ratectl.engine.algorithms.sliding_window import CELLS, SlidingWindow, WindowState
from ratectl.engine.algorithms.token_bucket import TokenBucket, TokenState
from ratectl.engine.native import _fast

__all__ = ["BY_KIND", "Packing", "follows", "packing_of", "rule_of"]

_WIDE: Final = 0
"""Kind of a rule whose buckets are all boxed."""

_HALF: Final = (1 << 64) - 1
_NO_INSTANT: Final = -(1 << 63)

Fields = tuple[Any, ...]
"""Packed fields of a state, as the core takes and returns them."""

A = TypeVar("A", bound=Algorithm[Any])
S = TypeVar("S")


class Packing(ABC, Generic[A, S]):
    """Conversion of one algorithm's parameters and states to and from the core's."""

    kind: ClassVar[int]
    """Number of the kind in rule.h."""

    @abstractmethod
    def rule(self, algorithm: A) -> _fast.Rule:
        """Return the core's form of the parameters.

        :raises OverflowError: they do not fit.
        """

    @abstractmethod
    def fields(self, state: S) -> Fields | None:
        """Return the packed fields of a state; None if it must be boxed."""

    @abstractmethod
    def state(self, fields: Fields) -> S:
        """Return the state that was packed."""

    def follows(self, old: A, new: A) -> bool:
        """Return True if the core itself can convert a bucket from ``old`` to ``new``."""
        return new.continues(old)

    def taking(self, state: S) -> S:
        """Return a state that was made in Python, so that its next charge can be packed."""
        return state

    def written(self, store: _fast.Group, state: S) -> None:
        """Take note of a state that was just packed into ``store``."""


def _rule(
    kind: int,
    capacity: int,
    *,
    blocked: bool = False,
    per_ns: int = 1,
    per_token: int = 1,
    window_ns: int = 1,
    cells: int = CELLS,
    hold_ns: int = 1,
    even_ns: int = 0,
    offset: object = None,
) -> _fast.Rule:
    return _fast.Rule(
        kind, blocked, capacity, per_ns, per_token, window_ns, cells, hold_ns, even_ns, offset
    )


class _TokenPacking(Packing[TokenBucket, TokenState]):
    kind = 1

    def rule(self, algorithm: TokenBucket) -> _fast.Rule:
        return _rule(
            self.kind,
            algorithm.capacity,
            per_ns=algorithm.per_ns,
            per_token=algorithm.per_token,
        )

    def fields(self, state: TokenState) -> Fields | None:
        level, at, high_at, hidden = state
        return None if hidden else (level >> 64, level & _HALF, at, high_at)

    def state(self, fields: Fields) -> TokenState:
        high, low, at, high_at = fields
        return ((high << 64) | low, at, high_at, 0)

    def follows(self, old: TokenBucket, new: TokenBucket) -> bool:
        return old.per_token == new.per_token and old.capacity <= new.capacity


class _WindowPacking(Packing[SlidingWindow, WindowState]):
    kind = 2

    def rule(self, algorithm: SlidingWindow) -> _fast.Rule:
        return _rule(
            self.kind,
            algorithm.capacity,
            blocked=algorithm.blocked,
            window_ns=algorithm.window_ns,
            cells=algorithm.cells,
        )

    def fields(self, state: WindowState) -> Fields:
        cells, opaque, _ = state
        return (cells, opaque)

    def state(self, fields: Fields) -> WindowState:
        cells, opaque = fields
        return cells, opaque, sum(count for _, count in cells)


class _QuotaPacking(Packing[Quota, QuotaState]):
    kind = 3

    def rule(self, algorithm: Quota) -> _fast.Rule:
        return _rule(
            self.kind,
            algorithm.capacity,
            blocked=algorithm.blocked,
            even_ns=algorithm.window.even_ns,
            offset=algorithm.offset,
        )

    def fields(self, state: QuotaState) -> Fields:
        return state

    def state(self, fields: Fields) -> QuotaState:
        start, end, since, used = fields
        return (start, end, since, used)

    def written(self, store: _fast.Group, state: QuotaState) -> None:
        """Store the present calendar window in the core."""
        start, end, _, _ = state
        store.know(start, end)


class _SlotPacking(Packing[Concurrency, SlotState]):
    kind = 4

    def rule(self, algorithm: Concurrency) -> _fast.Rule:
        return _rule(self.kind, algorithm.capacity, hold_ns=algorithm.hold_ns)

    def fields(self, state: SlotState) -> Fields | None:
        newest = None if state.newest is None else state.newest.until
        own = state.own if _is_packed(state.own) else None
        older = tuple([each for each in state.batches if each[0].held and each[0] is not own])
        return (own, newest, older) if all(_is_packed(batch) for batch, _ in older) else None

    def state(self, fields: Fields) -> SlotState:
        own, newest, older = fields
        state = _PackedSlots(older)
        if own is not None:
            state.own = own
            state.batches = (*older, (own, FOREVER))
        if newest is not None:
            state.newest = _Ended(newest)  # type: ignore[assignment]  # it has `until`
        return state

    def taking(self, state: SlotState) -> SlotState:
        if isinstance(state, _PackedSlots):
            return state
        packed = _PackedSlots(state.batches)
        packed.own, packed.newest = state.own, state.newest
        return packed


class _Ended:
    """Stand-in for the slot that was taken last."""

    __slots__ = ("until",)

    def __init__(self, until: int) -> None:
        self.until = until


class _PackedSlots(SlotState):
    """A bucket whose new slots are in a batch of the core, if their numbers fit."""

    __slots__ = ()

    def take(self, cost: int, until: int) -> Slot:
        own, fits = self.own, _fits(cost, until)
        in_order = own is None or _is_packed(own) or not own.held or until >= own.latest
        if _is_packed(own) != fits and in_order:
            self.own = None  # it gets a batch of the other kind
        return super().take(cost, until)

    def _new_batch(self, cost: int, until: int) -> Any:
        return _fast.Batch() if _fits(cost, until) else super()._new_batch(cost, until)


def _fits(cost: int, until: int) -> bool:
    return cost <= _fast.MOST and abs(until) <= _fast.MOST


def _is_packed(batch: object) -> bool:
    return isinstance(batch, _fast.Batch)


class _PoolPacking(Packing[PooledBucket, int]):
    kind = 5

    def rule(self, algorithm: PooledBucket) -> _fast.Rule:
        return _rule(
            self.kind,
            algorithm.capacity,
            per_ns=algorithm.token_ns,
            hold_ns=algorithm.least_wait,
            offset=algorithm.wallet,
        )

    def fields(self, state: int) -> Fields:
        return (state,)

    def state(self, fields: Fields) -> int:
        (spent,) = fields
        return int(spent)


class _KeyedPacking(_TokenPacking):
    kind = 6

    def rule(self, algorithm: TokenBucket) -> _fast.Rule:
        assert isinstance(algorithm, KeyedBucket)
        rule = _rule(
            self.kind,
            algorithm.capacity,
            per_ns=algorithm.per_ns,
            per_token=algorithm.per_token,
            window_ns=algorithm.token_ns,
            hold_ns=algorithm.least_wait,
            offset=algorithm.wallets,
        )
        since = _NO_INSTANT if algorithm.since is None else algorithm.since
        rule.own_part(algorithm.full_level >> 64, algorithm.full_level & _HALF, since)
        return rule

    def follows(self, old: TokenBucket, new: TokenBucket) -> bool:
        return new.continues(old)


# In the order of their kinds.
_PACKINGS: Final[dict[type, Packing[Any, Any]]] = {
    TokenBucket: _TokenPacking(),
    SlidingWindow: _WindowPacking(),
    Quota: _QuotaPacking(),
    Concurrency: _SlotPacking(),
    PooledBucket: _PoolPacking(),
    KeyedBucket: _KeyedPacking(),
}
BY_KIND: Final[tuple[Packing[Any, Any] | None, ...]] = (None, *_PACKINGS.values())
"""Packings by the number of the kind; None for the kind whose buckets are all boxed."""


def packing_of(algorithm: Algorithm[Any]) -> Packing[Any, Any] | None:
    """Return the packing of an algorithm; None if its buckets are all boxed."""
    return _PACKINGS.get(type(algorithm))


def rule_of(algorithm: Algorithm[Any]) -> _fast.Rule:
    """Return the core's form of an algorithm; of kind 0 if it does not fit the core."""
    packing = packing_of(algorithm)
    if packing is not None:
        try:
            return packing.rule(algorithm)
        except OverflowError:
            pass
    return _rule(_WIDE, 0)


def follows(old: Algorithm[Any], new: Algorithm[Any]) -> bool:
    """Return True if the core itself can convert buckets from ``old`` to ``new``."""
    packing = packing_of(new)
    return packing is not None and type(old) is type(new) and packing.follows(old, new)
