"""Buckets of a simulated member: wallets, its own share, and the one bucket that rules them all."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING

from ratectl.cluster.protocol.capacity import GRAINS, WHOLE, Size
from ratectl.cluster.protocol.messages import Lending, PoolId
from ratectl.cluster.protocol.pool import Account, LentLimit
from ratectl.cluster.protocol.wallets import Purse
from ratectl.engine.algorithms.refunds import NOTHING, Refund

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class DictWallets:
    """Wallets in a dictionary."""

    def __init__(self) -> None:
        self.deadline = -(1 << 62)
        self._purses: dict[PoolId, list[int]] = {}
        self._refunds: dict[PoolId, Refund] = {}
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

    def refund(self, pool: PoolId, tokens: int, charged_at: int) -> None:
        """Take note of tokens that a request was charged and did not use."""
        self._touched[pool] = None
        refund = Refund(tokens, charged_at)
        self._refunds[pool] = refund.joined(self._refunds.get(pool, NOTHING))

    def refunds(self) -> dict[PoolId, Refund]:
        refunds, self._refunds = self._refunds, {}
        return refunds

    def keep(self, pool: PoolId) -> None:
        """There is no part that is never lent."""

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


class OwnBuckets:
    """Buckets of a member's own share. Requests take tokens out of the pools, without wallets."""

    def __init__(self, sizes: Mapping[str, Size], share: int, now: int, full: bool) -> None:
        self.sizes = sizes
        self.share = share
        self.limits: dict[str, LentLimit] = {}
        whole = {
            limit: Lending((size.burst + size.added) * GRAINS, {}) for limit, size in sizes.items()
        }
        self.resume(now, whole if full else {})

    def level(self, pool: PoolId, now: int) -> int:
        """Grains that requests could spend now."""
        limit = self.limits[pool.limit]
        found = limit.pools.get(pool.key, limit.untouched)
        found.settle(now, limit.lent)
        return found.level

    def spend(self, pool: PoolId, cost: int, now: int) -> bool:
        limit = self.limits[pool.limit]
        found = limit.pool(pool.key, now)
        if found.level < cost * GRAINS:
            return False
        found.level -= cost * GRAINS
        found.clamp(limit.lent)
        return True

    def refund(self, pool: PoolId, tokens: int, charged_at: int, now: int) -> None:
        """Put back what a request was charged and did not use, if there was room for it."""
        limit = self.limits[pool.limit]
        account = Account(0)
        account.refundable = tokens
        found = limit.pool(pool.key, now)
        found.refund(account, tokens, charged_at, limit.lent)

    def change(self, now: int, share: int, sizes: Mapping[str, Size]) -> None:
        for name, limit in self.limits.items():
            limit.change(sizes[name], share, now)
            limit.change(self.sizes[name], -self.share, now)
        self.share, self.sizes = share, sizes

    def lend(self, now: int) -> dict[str, Lending]:
        lending = {name: limit.all_of(now) for name, limit in self.limits.items()}
        self.resume(now, {})
        return lending

    def resume(self, now: int, left: Mapping[str, Lending]) -> None:
        self.limits = {name: LentLimit(now) for name in self.sizes}
        for name, limit in self.limits.items():
            limit.lend(self.sizes[name], self.share, left.get(name), now)


@dataclass
class Central:
    """The bucket that one central limiter would have, in true time: what is admitted fits in it."""

    size: Size
    level: int = field(init=False)
    at: int = 0

    def __post_init__(self) -> None:
        self.level = self.size.burst * GRAINS
        self._times: list[int] = []
        self._rooms: list[int] = []
        """Grains that were missing, before each charge and each change of the size."""

    def now(self, now: int) -> int:
        """Grains in the bucket."""
        return min(self.size.burst * GRAINS, self.level + self.size.rate * WHOLE * (now - self.at))

    def admit(self, cost: int, now: int) -> int:
        """Charge a request that was admitted; return what is left, below 0 if it was too much."""
        level = self.now(now)
        self._times.append(now)
        self._rooms.append(self.size.burst * GRAINS - level)
        self.level, self.at = level - cost * GRAINS, now
        return self.level

    def refund(self, tokens: int, charged_at: int, now: int) -> None:
        """Let a request have cost less: the bucket is as it would be then.

        It would have been fuller since, as far as it had room.
        """
        after = bisect_right(self._times, charged_at)
        self.level, self.at = self.now(now), now
        rooms = [*self._rooms[after:], self.size.burst * GRAINS - self.level]
        more = [min(tokens * GRAINS, least) for least in accumulate(rooms, min)]
        self._rooms[after:] = [room - fuller for room, fuller in zip(rooms, more, strict=True)][:-1]
        self.level += more[-1]

    def resize(self, size: Size, now: int) -> None:
        level = min(self.now(now), size.burst * GRAINS)
        self._times.append(now)
        self._rooms.append(min(self.size.burst, size.burst) * GRAINS - level)
        self.level, self.at, self.size = level, now, size


class CentralWindow:
    """The log of all that was admitted, in true time: no window of it may hold more than n.

    While sizes change, no more than the largest n in force is admitted in any window as short as
    the shortest in force. A token bucket that is in force bounds no window.

    :param lasts: how long after its end tokens of a size may be spent.
    """

    def __init__(self, size: Size, lasts: int = 0) -> None:
        self._seen = {size: 1 << 62}
        """When each size was in force last."""
        self._lasts = lasts
        self._times: list[int] = []
        self._totals = [0]

    def in_force(self, sizes: Iterable[Size], now: int) -> None:
        """Take over which sizes are in force: until the first call, the one from the start."""
        self._seen = {size: min(at, now) for size, at in self._seen.items()}
        self._seen.update(dict.fromkeys(sizes, now))

    def left(self, now: int) -> int:
        """Tokens that may be admitted now, below 0 if too many were."""
        left = 10**9
        for window in {size.window for size in self._seen} - {0}:
            seen = [s for s, at in self._seen.items() if at > now - window - self._lasts]
            if all(size.window >= window for size in seen):
                left = min(left, max(s.burst for s in seen) - self._admitted(now, window))
        return left

    def _admitted(self, now: int, window: int) -> int:
        return self._totals[-1] - self._totals[bisect_right(self._times, now - window)]

    def now(self, now: int) -> int:
        """Grains that may be admitted now."""
        return max(0, self.left(now)) * GRAINS

    def admit(self, cost: int, now: int) -> int:
        """Count a request that was admitted; return what is left, below 0 if it was too much."""
        self._times.append(now)
        self._totals.append(self._totals[-1] + cost)
        return self.left(now) * GRAINS

    def refund(self, tokens: int, charged_at: int, now: int) -> None:
        """Let the requests of an instant have cost less."""
        del now
        first = bisect_left(self._times, charged_at)
        for place in range(first, len(self._times)):
            self._totals[place + 1] -= tokens
