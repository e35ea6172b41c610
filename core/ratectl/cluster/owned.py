"""Tokens of the limits that the owner of this process pools, for reports about them."""

from __future__ import annotations

import threading
from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple

from ratectl.cluster.protocol.capacity import GRAINS
from ratectl.cluster.protocol.timing import MILLISECOND, SECOND
from ratectl.records import pool_use

if TYPE_CHECKING:
    from ratectl.cluster.protocol.owner import Owner
    from ratectl.cluster.protocol.pool import LentLimit, Pool

__all__ = ["OwnedLimit", "OwnedLimits"]

_EVERY: Final = 50 * MILLISECOND
"""How often pools are read: a bucket that is full again after less is too small (see RC303)."""
_FOR_EACH: Final = MILLISECOND // 20
"""Many pools are read more rarely: that takes at most some hundredths of a processor's time."""
_LATELY: Final = 5 * SECOND
"""Rows that are older than this are unknown: the thread that reads them stands still."""
_MOST_POOLS: Final = 1_000
"""Most pools of one limit that are read."""
_NEAR: Final = (0.5, 0.8, 0.9, 1.0)


class OwnedLimit(NamedTuple):
    """Tokens of one limit at one owner: totals of its buckets, so that several owners' add up."""

    pool: str
    """Name of the limit's pools, the same in every process."""
    owner: str
    capacity: int
    """Tokens that full buckets hold, of what members lend to this owner."""
    free: int
    """Tokens in the pools."""
    held: int
    """Tokens that members may still spend."""
    members: int
    """Members with a session at the owner."""
    keys: int
    """Buckets that are not full."""
    by_use: tuple[int, int, int, int, int]
    """Of these: used less than 50 %, 50 to 80, 80 to 90, 90 to 100, and all of it."""
    fullest: float
    """Use of the fullest bucket since the rows were taken the last time, 0 to 1."""
    is_one: bool
    """The limit has one bucket: its parts at several owners count as one key."""


class OwnedLimits:
    """Rows of an owner's limits. One thread looks at the owner; any thread takes the rows."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rows: dict[str, OwnedLimit] = {}
        self._fullest: dict[str, float] = {}
        """Use of the fullest bucket of each limit since the rows were taken."""
        self._looked_at = -_LATELY
        self._every = _EVERY

    def look(self, owner: Owner | None, now: int) -> None:
        """Read the pools of an owner, if it is time to; None: this process owns nothing."""
        if owner is None:
            self._rows = {}
            self._fullest = {}
        elif now - self._looked_at >= self._every:
            self._looked_at = now
            rows = [_row(owner, name, limit, now) for name, limit in owner.limits.items()]
            found = {row.pool: row for row in rows if row is not None}
            read = sum(min(len(limit.pools), _MOST_POOLS) for limit in owner.limits.values())
            self._every = max(_EVERY, read * _FOR_EACH)
            with self._lock:
                before = self._fullest
                self._rows = found
                self._fullest = {
                    pool: max(row.fullest, before.get(pool, 0.0)) for pool, row in found.items()
                }

    def take(self, now: int) -> tuple[OwnedLimit, ...]:
        """Return the rows. Their ``fullest`` is that since the call before."""
        if now - self._looked_at > _LATELY + self._every:
            return ()
        with self._lock:
            rows, fullest = self._rows, self._fullest
            self._fullest = {}
        return tuple(
            row._replace(fullest=max(row.fullest, fullest.get(pool, 0.0)))
            for pool, row in rows.items()
        )


def _row(owner: Owner, name: str, limit: LentLimit, now: int) -> OwnedLimit | None:
    """Return the row of a limit; None if nobody lends anything of it."""
    capacity = limit.lent.capacity
    if capacity < GRAINS:
        return None
    pools = list(islice(limit.pools.values(), _MOST_POOLS)) or [limit.untouched]
    uses = [_use(pool, limit, now) for pool in pools]
    by_use = [0] * (len(_NEAR) + 1)
    for use in uses:
        by_use[sum(use >= bound for bound in _NEAR)] += use > 0
    return OwnedLimit(
        pool=name,
        owner=owner.id.name,
        capacity=capacity * len(pools) // GRAINS,
        free=sum(pool.level for pool in pools) // GRAINS,
        held=sum(pool.held for pool in pools),
        members=len(owner.sessions),
        keys=sum(by_use),
        by_use=(by_use[0], by_use[1], by_use[2], by_use[3], by_use[4]),
        fullest=max(uses),
        is_one="" in limit.pools,
    )


def _use(pool: Pool, limit: LentLimit, now: int) -> float:
    """Return the use of a bucket, 0 to 1. What members hold is not used yet."""
    pool.settle(now, limit.lent)
    return pool_use(limit.lent.capacity, pool.level, pool.held * GRAINS)
