"""Buckets of a simulated member: wallets, its own share, and the one bucket that rules them all."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ratectl.cluster.protocol.capacity import GRAINS, WHOLE, Size
from ratectl.cluster.protocol.messages import Lending, PoolId
from ratectl.cluster.protocol.wallets import Purse

if TYPE_CHECKING:
    from collections.abc import Mapping

BURST = GRAINS // WHOLE


class DictWallets:
    """Wallets in a dictionary."""

    def __init__(self) -> None:
        self.deadline = -(1 << 62)
        self._purses: dict[PoolId, list[int]] = {}
        self._touched: dict[PoolId, None] = {}

    def spend(self, pool: PoolId, cost: int, now: int) -> bool:
        self._touched[pool] = None
        purse = self._purses.setdefault(pool, [0, 0, 0, 0])
        if self.usable(now) and purse[0] >= cost:
            purse[0] -= cost
            purse[1] += cost
            return True
        purse[2] += cost
        purse[3] = max(purse[3], cost)
        return False

    def usable(self, now: int) -> bool:
        return now < self.deadline

    def touched(self) -> list[PoolId]:
        touched, self._touched = list(self._touched), {}
        return touched

    def read(self, pool: PoolId) -> Purse:
        return Purse(*self._purses.get(pool, (0, 0, 0, 0)))

    def tokens(self, pool: PoolId) -> int:
        purse = self._purses.get(pool)
        return purse[0] if purse else 0

    def add(self, pool: PoolId, tokens: int) -> None:
        purse = self._purses.setdefault(pool, [0, 0, 0, 0])
        purse[0] += tokens
        purse[3] = 0

    def take(self, pool: PoolId, at_most: int) -> int:
        purse = self._purses.get(pool)
        if purse is None:
            return 0
        taken = min(purse[0], at_most)
        purse[0] -= taken
        return taken

    def drop(self, pool: PoolId) -> None:
        self._purses.pop(pool, None)

    def live(self, pool: PoolId, now: int) -> int:
        """Tokens that a request could spend now."""
        return self.read(pool).tokens if self.usable(now) else 0


@dataclass
class Level:
    grains: int
    at: int


class OwnBuckets:
    """Buckets of a member's own share. Keys without one have the level of ``untouched``."""

    def __init__(self, sizes: Mapping[str, Size], share: int, now: int, full: bool) -> None:
        self.sizes = sizes
        self.share = share
        self._untouched = {
            limit: Level(size.burst * share * BURST if full else 0, now)
            for limit, size in sizes.items()
        }
        self._levels: dict[PoolId, Level] = {}

    def _settle(self, level: Level, limit: str, now: int) -> int:
        size = self.sizes[limit]
        if now > level.at:
            level.grains += size.rate * self.share * (now - level.at)
            level.at = now
        level.grains = min(level.grains, size.burst * self.share * BURST)
        return level.grains

    def level(self, pool: PoolId, now: int) -> int:
        """Grains that requests could spend now."""
        level = self._levels.get(pool) or self._untouched[pool.limit]
        return self._settle(Level(level.grains, level.at), pool.limit, now)

    def spend(self, pool: PoolId, cost: int, now: int) -> bool:
        if pool not in self._levels:
            untouched = self._untouched[pool.limit]
            self._settle(untouched, pool.limit, now)
            self._levels[pool] = Level(untouched.grains, untouched.at)
        level = self._levels[pool]
        if self._settle(level, pool.limit, now) < cost * GRAINS:
            return False
        level.grains -= cost * GRAINS
        return True

    def change(self, now: int, share: int, sizes: Mapping[str, Size]) -> None:
        for pool in list(self._levels):
            self._settle(self._levels[pool], pool.limit, now)
        for limit, level in self._untouched.items():
            self._settle(level, limit, now)
        self.share, self.sizes = share, sizes
        for pool in list(self._levels):
            self._settle(self._levels[pool], pool.limit, now)
        for limit, level in self._untouched.items():
            self._settle(level, limit, now)

    def lend(self, now: int) -> dict[str, Lending]:
        lending = {
            limit: Lending(
                self._settle(level, limit, now),
                {
                    pool.key: self._settle(touched, limit, now)
                    for pool, touched in self._levels.items()
                    if pool.limit == limit
                },
            )
            for limit, level in self._untouched.items()
        }
        self.resume(now)
        return lending

    def resume(self, now: int) -> None:
        self._levels = {}
        self._untouched = {limit: Level(0, now) for limit in self.sizes}


@dataclass
class Central:
    """The bucket that one central limiter would have, in true time: what is admitted fits in it."""

    size: Size
    level: int = field(init=False)
    at: int = 0

    def __post_init__(self) -> None:
        self.level = self.size.burst * GRAINS

    def now(self, now: int) -> int:
        """Grains in the bucket."""
        return min(self.size.burst * GRAINS, self.level + self.size.rate * WHOLE * (now - self.at))

    def admit(self, cost: int, now: int) -> int:
        """Charge a request that was admitted; return what is left, below 0 if it was too much."""
        self.level, self.at = self.now(now) - cost * GRAINS, now
        return self.level

    def refund(self, tokens: int, now: int) -> None:
        """Put back what a request has not used."""
        self.level, self.at = self.now(now) + tokens * GRAINS, now

    def resize(self, size: Size, now: int) -> None:
        self.level, self.at = self.now(now), now
        self.size = size
        self.level = self.now(now)
