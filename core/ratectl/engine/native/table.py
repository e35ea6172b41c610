"""The bounded table of the compiled core, with the interface of ``Table``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ratectl.engine.buckets.table import Table
from ratectl.engine.native.bucket_set import FastGroup

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from ratectl.engine.algorithms.protocol import State
    from ratectl.engine.buckets.bucket_set import Group
    from ratectl.engine.buckets.charges import Look
    from ratectl.engine.buckets.counters import Key
    from ratectl.engine.native import _fast

__all__ = ["FastTable"]

_PIECE: Final = 64
"""Buckets that are brought up to date in one piece of work."""

_CHUNKS: Final = 8
"""Chunks, of a thousand buckets each, that are dropped in one piece of work."""


class FastTable(Table):
    """Table whose buckets are counted, bounded and evicted by the core."""

    def __init__(self, core: _fast.Core) -> None:
        self._core = core
        self._behind: Callable[[Group], bool] | None = None
        self._dropped: list[Group] = []

    def __len__(self) -> int:
        return self._core.buckets

    @property
    def overflowed(self) -> int:  # type: ignore[override]
        return self._core.overflowed

    @property
    def evicted(self) -> int:  # type: ignore[override]
        return self._core.evicted

    @property
    def bytes(self) -> int:
        return self._core.bytes

    @property
    def max_bytes(self) -> int:
        return self._core.most_bytes

    @property
    def evicts(self) -> bool:
        return self._core.evicts

    @evicts.setter
    def evicts(self, evicts: bool) -> None:
        self._core.evicts = evicts

    @property
    def behind(self) -> Callable[[Group], bool] | None:
        return self._behind

    @behind.setter
    def behind(self, behind: Callable[[Group], bool] | None) -> None:
        self._behind = behind
        self._core.sweeping = (
            behind is None
        )  # the core does not know which groups a swap has reached

    def insert(
        self, group: Group, key: Key, state: State, now: int, held: Sequence[Look] = ()
    ) -> int:
        assert isinstance(group, FastGroup)
        assert isinstance(key, int)
        stores: list[Any] = [
            (of.store, other) for of, other, *_ in held if isinstance(of, FastGroup)
        ]
        tracked = group.store.add(key, now, stores)
        return group.keep(key, state) if tracked else group.share(key, state)

    @property
    def capacity(self) -> int:
        return self._core.most_buckets

    def retire(self, group: Group) -> None:
        assert isinstance(group, FastGroup)
        group.store.retire()

    def tend(self, groups: Iterable[Group], now: int) -> Iterator[None]:
        for group in groups:
            assert isinstance(group, FastGroup)
            yield
            for key in group.store.boxed:
                if key >= 0:
                    self._look(group, key, now)
                    yield
            if group.changed_often():
                epoch = group.epoch
                yield from self._bring(group, now)
                group.forget_events(epoch)
        while self._dropped:
            dropped = self._dropped.pop()
            assert isinstance(dropped, FastGroup)
            while dropped.store.drop(_CHUNKS):
                yield

    def _bring(self, group: FastGroup, now: int) -> Iterator[None]:
        """Bring every bucket of a group up to date, or evict it."""
        while True:
            at = 0
            while at >= 0:
                at, keys = group.store.behind(at, _PIECE)
                for key in keys:
                    self._look(group, key, now)
                yield
            if not group.store.former:
                return

    def _look(self, group: FastGroup, key: int, now: int) -> None:
        bucket = group.buckets.get(key)
        if bucket is None:
            return
        if not self.evicts:
            group.tracked(key)  # only to follow the changes
        elif group.evictable(key, bucket, now):
            group.store.remove(key)
