"""The bounded table of all buckets of one engine.

Only buckets that equal what an untracked key would get are evicted, so eviction cannot be noticed
(save by a clock that steps back: an evicted bucket's own time is forgotten).
When the table is full of buckets that cannot be evicted, keys without a bucket share *overflow*
buckets, chosen by a keyed hash: they may be refused for each other's requests, but never admitted
beyond their limit, and nobody's own bucket is reset. A key that later gets a bucket of its own
starts it as a copy of the shared one.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from ratectl.engine.api import State
    from ratectl.engine.buckets.bucket_set import Group
    from ratectl.engine.buckets.counters import Key
    from ratectl.engine.buckets.settle import Look
    from ratectl.engine.buckets.variants import Family

__all__ = ["DEFAULT_MAX_BYTES", "Table"]

DEFAULT_MAX_BYTES: Final = 256 * 1024 * 1024

_BUCKET_BYTES: Final = 512
"""What a pure-Python bucket takes at most, with its key and its places in two containers."""

_LOOK_EACH: Final = 2
"""Old buckets looked at for each new one: twice what comes, so that the table can shrink."""

_LOOK_FULL: Final = 16

_PIECE: Final = 64
"""Buckets looked at, or let go, between two chances for others."""


class Table:
    """Counts and evicts; the buckets themselves lie in their groups.

    ``behind``, while a swap is under way, tells whether it has not reached a group yet: what its
    buckets are worth is not known then.
    """

    behind: Callable[[Group], bool] | None = None

    evicts: bool = True
    """False in tests whose clock steps back, which an eviction could be noticed by."""

    def __init__(self, max_bytes: int, max_buckets: int | None) -> None:
        fit = max_bytes // _BUCKET_BYTES
        self._max = fit if max_buckets is None else min(fit, max_buckets)
        if self._max < 1:
            raise ValueError("a table holds at least one bucket")
        self._count = 0
        self._queue: deque[tuple[Group, Key]] = deque()
        self._retired: list[tuple[Group, Group | Family]] = []
        self.overflowed = 0

    def __len__(self) -> int:
        return self._count

    def insert(
        self, group: Group, key: Key, state: State, now: int, held: Sequence[Look] = ()
    ) -> int:
        """Track an untracked key from now on; returns the serial number of its bucket.

        Buckets of the looks ``held`` are about to be charged: they are not evicted now.
        """
        self._sweep(_LOOK_EACH, now, held)
        if self._count >= self._max:
            self._sweep(_LOOK_FULL, now, held)
            if self._count >= self._max:
                self.overflowed += 1
                # What first_touch returned has seen the shared bucket, if there was one.
                return group.share(key, state)
        self._count += 1
        self._queue.append((group, key))
        return group.keep(key, state)

    def retire(self, group: Group, owner: Group | Family, now: int) -> None:
        """The group's buckets no longer count; entries of the queue go as they come up.

        They are kept while others may start from the buckets of ``owner``.
        """
        group.retire(now)
        self._count -= len(group.buckets)
        self._retired.append((group, owner))

    def tend(self, groups: Iterable[Group], now: int) -> Iterator[None]:
        """Housekeeping in small pieces, each under the engine's lock.

        Every bucket of groups that changed often is brought up to date, so that what was before
        can be forgotten; and what retired groups held is let go, once nobody starts from it.
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
                group.forget_changes(epoch)
        retired, self._retired = self._retired, []
        while retired:
            group, owner = retired.pop()
            if owner.lent(now):
                self._retired.append((group, owner))
                continue
            while group.buckets:
                for _ in range(min(_PIECE, len(group.buckets))):
                    group.buckets.popitem()
                yield

    def _sweep(self, looks: int, now: int, held: Sequence[Look]) -> None:
        for _ in range(min(looks, len(self._queue))):
            group, key = self._queue[0]
            bucket = group.buckets.get(key)
            if group.retired_at is not None or bucket is None:
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
            else:
                if not self.evicts:
                    group.tracked(key)  # it follows what changed, and that is all
                self._queue.rotate(-1)
