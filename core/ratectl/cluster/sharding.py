"""Shards: each has an owner of its own, so that a crash of one does not stop all limits.

A large limit with one bucket is in all shards, in equal parts: each is a limit of its own, and the
parts add up to the limit. A small one is in one shard: all members need some tokens of each part.
Of a limit that counts per key, each key is in one shard.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Final

from ratectl.cluster.protocol.capacity import Size
from ratectl.policy.validation.cluster_bursts import PARTS, parts_in
from ratectl.records import owner_shard

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ratectl.cluster.keyed import KeyedLimit
    from ratectl.cluster.pools import PooledLimit

__all__ = [
    "SHARDS", "SHARD_NAMES", "Parts", "parts_of", "shard_of_key", "shard_of_owner",
    "shard_of_pool",
]  # fmt: skip

SHARDS: Final = PARTS
"""Number of shards of an environment: all members must agree."""
SHARD_NAMES: Final = tuple(str(shard) for shard in range(SHARDS))
"""Names of the shards in the store."""

Sizes = tuple[Size | None, ...]
"""Size of the part of a limit in each shard; None: it is not in the shard."""


def shard_of_owner(owner: str) -> int | None:
    """Return the shard of an owner, by its name; None if no owner has such a name."""
    shard = owner_shard(owner)
    return SHARD_NAMES.index(shard) if shard in SHARD_NAMES else None


def shard_of_key(number: int, shards: int) -> int:
    """Return the shard of a key, by its number (see ``StableKeys``)."""
    return number % shards


def shard_of_pool(pool: str, shards: int) -> int:
    """Return the shard of a small limit with one bucket, by the name of its pool."""
    return zlib.crc32(pool.encode()) % shards


def parts_of(pool: str, limit: PooledLimit | KeyedLimit, shards: int) -> Sizes:
    """Return the part of a limit in each shard. ``pool``: the name of its pools."""
    size = limit.size
    *_, per, _ = limit.name
    if per:
        return (size,) * shards
    if parts_in(size.burst) > 1:
        return tuple(_part(size, shard, shards) for shard in range(shards))
    only = shard_of_pool(pool, shards)
    return tuple(size if shard == only else None for shard in range(shards))


def _part(size: Size, shard: int, shards: int) -> Size:
    def part(whole: int) -> int:
        return (whole + shards - 1 - shard) // shards

    return Size(part(size.rate), part(size.burst), size.window, part(size.added), part(size.kept))


class Parts:
    """Parts of the limits in force.

    A limit that moves to other shards has in each shard no more than before, until nobody counts
    what it had before: its parts never add up to more than the limit.
    """

    def __init__(self, shards: int) -> None:
        self._none: Sizes = (None,) * shards
        self._wanted: dict[str, Sizes] = {}
        self._counted: dict[str, Sizes] = {}
        """Largest parts that owners, or the member itself, may still count."""
        self.now: dict[str, Sizes] = {}
        """Parts that the member may lend or use."""

    def follow(self, limits: Mapping[str, PooledLimit | KeyedLimit]) -> None:
        """Take over the limits in force, by the name of their pools."""
        shards = len(self._none)
        self._wanted = {pool: parts_of(pool, limit, shards) for pool, limit in limits.items()}
        for pool, now in self.now.items():
            counted = self._counted.get(pool, self._none)
            self._counted[pool] = tuple(map(_larger, counted, now))
        self._choose()

    @property
    def are_settled(self) -> bool:
        """True if every limit has all of its parts, and nobody counts others."""
        return self._counted == self.now == self._wanted

    def settle(self) -> bool:
        """Take note that nobody counts more than the member lends or uses now.

        :return: True if some parts are larger now.
        """
        before = self._counted = self.now
        self._choose()
        return self.now != before

    def of(self, shard: int) -> dict[str, Size]:
        """Return the parts in one shard."""
        parts = ((pool, sizes[shard]) for pool, sizes in self.now.items())
        return {pool: size for pool, size in parts if size is not None}

    def _choose(self) -> None:
        self.now = {
            pool: self._chosen(self._counted.get(pool, self._none), wanted)
            for pool, wanted in self._wanted.items()
        }

    def _chosen(self, counted: Sizes, wanted: Sizes) -> Sizes:
        """Return the parts that a limit may have."""
        smaller = tuple(map(_smaller, counted, wanted))
        moves = _places(counted) != _places(wanted)
        return smaller if moves and smaller != counted else wanted


def _places(sizes: Sizes) -> list[bool]:
    return [size is not None for size in sizes]


def _larger(one: Size | None, other: Size | None) -> Size | None:
    if one is None or other is None:
        return one or other
    return Size(*map(max, one, other))


def _smaller(one: Size | None, other: Size | None) -> Size | None:
    if one is None or other is None or one.window != other.window:
        return None
    return Size(*map(min, one, other))
