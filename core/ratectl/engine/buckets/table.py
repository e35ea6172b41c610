"""The bounded table of all buckets of one engine.

A bucket is evicted only if it equals what an untracked key would get, so eviction is invisible:
an engine's time never steps back.
When the table is full of buckets that cannot be evicted, keys without a bucket share *overflow*
buckets, chosen by a keyed hash: they may be refused for each other's requests, but never admitted
beyond their limit, and no other key's bucket is reset. A key that later gets a bucket of its own
starts it as a copy of the shared one.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from ratectl.engine.algorithms.protocol import State
    from ratectl.engine.buckets.bucket_set import Group
    from ratectl.engine.buckets.charges import Look
    from ratectl.engine.buckets.counters import Key

__all__ = ["DEFAULT_MAX_BYTES", "Table"]

DEFAULT_MAX_BYTES: Final = 256 * 1024 * 1024

_BUCKET_BYTES: Final = 512
"""Most memory of a pure-Python bucket, with its key and its places in two containers."""

_LOOK_EACH: Final = 2
"""Old buckets examined for each new one: more than one, so that the table can shrink."""

_LOOK_FULL: Final = 16

_PIECE: Final = 64
"""Buckets that are examined or dropped in one piece of work."""


class Table:
    """Count of all buckets, and their eviction; the groups hold the buckets themselves.

    ``behind`` is set while a swap is under way: it returns True for a group that the swap has not
    reached yet, whose buckets cannot be judged.
    """

    behind: Callable[[Group], bool] | None = None

    evicts: bool = True
    """False in tests of settlements: an evicted bucket does not know which charges it counted."""

    def __init__(self, max_bytes: int, max_buckets: int | None) -> None:
        fit = max_bytes // _BUCKET_BYTES
        self._max = fit if max_buckets is None else min(fit, max_buckets)
        if self._max < 1:
            raise ValueError("a table holds at least one bucket")
        self._count = 0
        self._queue: deque[tuple[Group, Key]] = deque()
        self._dropped: list[Group] = []
        self.overflowed = 0
        self.evicted = 0

    def __len__(self) -> int:
        return self._count

    @property
    def capacity(self) -> int:
        """Most buckets of the table."""
        return self._max

    @property
    def bytes(self) -> int:
        """Memory of the buckets: at most so much."""
        return self._count * _BUCKET_BYTES

    @property
    def max_bytes(self) -> int:
        """Most memory of the buckets."""
        return self._max * _BUCKET_BYTES

    def insert(
        self, group: Group, key: Key, state: State, now: int, held: Sequence[Look] = ()
    ) -> int:
        """Track an untracked key from now on. Return the serial number of its bucket.

        The buckets of the looks ``held`` are about to be charged: they are not evicted now.
        """
        self._sweep(_LOOK_EACH, now, held)
        if self._count >= self._max:
            self._sweep(_LOOK_FULL, now, held)
            if self._count >= self._max:
                self.overflowed += 1
                # ``state`` already includes the shared bucket, if there was one.
                return group.share(key, state)
        self._count += 1
        self._queue.append((group, key))
        return group.keep(key, state)

    def retire(self, group: Group) -> None:
        """Stop counting a group's buckets; their queue entries are removed when they come up."""
        self._count -= len(group.buckets)

    def drop(self, group: Group) -> None:
        """Free the buckets of a retired group, in the next housekeeping."""
        self._dropped.append(group)

    def tend(self, groups: Iterable[Group], now: int) -> Iterator[None]:
        """Do housekeeping in small pieces, each under the engine's lock.

        Every bucket of a group that changed often follows the changes, so that the changes can be
        forgotten.
        """
        often = []
        for group in groups:
            if group.changed_often():
                often.append((group, group.epoch))
            yield
        if often:
            for _ in range(-(-len(self._queue) // _PIECE)):
                self._sweep(_PIECE, now, ())
                yield
            for group, epoch in often:
                group.forget_events(epoch)
        while self._dropped:
            group = self._dropped.pop()
            while group.buckets:
                for _ in range(min(_PIECE, len(group.buckets))):
                    group.buckets.popitem()
                yield

    def _sweep(self, looks: int, now: int, held: Sequence[Look]) -> None:
        for _ in range(min(looks, len(self._queue))):
            group, key = self._queue[0]
            bucket = group.buckets.get(key)
            if group.ended is not None or bucket is None:
                self._queue.popleft()
                continue
            if (
                self.evicts
                and not (self.behind and self.behind(group))
                and group.evictable(key, bucket, now)
                and not any(of is group and other == key for of, other, *_ in held)
            ):
                self._queue.popleft()
                del group.buckets[key]
                self._count -= 1
                self.evicted += 1
            else:
                if not self.evicts:
                    group.tracked(key)  # only to follow the changes
                self._queue.rotate(-1)
