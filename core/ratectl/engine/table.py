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

from ratectl.engine.group import overflow_slot

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ratectl.engine.base import State
    from ratectl.engine.group import Group, Key

__all__ = ["DEFAULT_MAX_BUCKETS", "Table"]

DEFAULT_MAX_BUCKETS: Final = 500_000
"""About 200 MB of pure-Python buckets."""

_LOOK_EACH: Final = 2
"""Old buckets looked at for each new one: twice what comes, so that the table can shrink."""

_LOOK_FULL: Final = 16


class Table:
    """Counts and evicts; the buckets themselves lie in their groups."""

    def __init__(self, max_buckets: int) -> None:
        if max_buckets < 1:
            raise ValueError("a table holds at least one bucket")
        self._max = max_buckets
        self._count = 0
        self._queue: deque[tuple[Group, Key]] = deque()
        self.overflowed = 0

    def __len__(self) -> int:
        return self._count

    def insert(
        self, group: Group, key: Key, state: State, now: int, held: Sequence[State] = ()
    ) -> State:
        """Track an untracked key from now on; returns the state to charge.

        ``held`` are states that the caller is about to charge: they are not evicted now.
        """
        self._sweep(_LOOK_EACH, now, held)
        if self._count >= self._max:
            self._sweep(_LOOK_FULL, now, held)
            if self._count >= self._max:
                self.overflowed += 1
                # What first_touch returned has seen the shared bucket, if there was one.
                group.overflow[overflow_slot(key)] = state
                return state
        group.buckets[key] = state
        self._count += 1
        self._queue.append((group, key))
        return state

    def retire(self, group: Group, now: int) -> None:
        """The group's buckets no longer count; entries of the queue go as they come up."""
        group.retired_at = now
        self._count -= len(group.buckets)

    def _sweep(self, looks: int, now: int, held: Sequence[State]) -> None:
        for _ in range(min(looks, len(self._queue))):
            group, key = self._queue.popleft()
            state = group.buckets.get(key)
            if group.retired_at is not None or state is None:
                continue
            if not any(state is one for one in held) and group.evictable(key, state, now):
                del group.buckets[key]
                self._count -= 1
            else:
                self._queue.append((group, key))
