"""Wallets of one process whose tokens an engine spends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ratectl.cluster.keyed import KeyedLimit, KeyPurses
from ratectl.cluster.pools import PooledLimit
from ratectl.cluster.protocol.messages import PoolId
from ratectl.cluster.protocol.timing import FOREVER
from ratectl.cluster.protocol.wallets import Purse
from ratectl.engine.algorithms.pooled import LONG_AGO

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ratectl.engine.api import Engine

__all__ = ["EngineWallets"]

_MOST_TIME: Final = 1 << 61


class _PlainWallets:
    """Wallets of limits with one bucket, whose tokens an engine spends.

    Only one thread calls it.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.limits: Mapping[str, PooledLimit] = {}
        """Limits in force."""
        self._gone: dict[str, PooledLimit] = {}
        """Limits that were in force, until it is told what was spent of them."""
        self.deadline = LONG_AGO

    def follow(self, limits: Mapping[str, PooledLimit]) -> None:
        """Take over the limits in force. Nothing may be spent of those that are gone."""
        for pool, limit in self.limits.items():
            if pool not in limits:
                limit.wallet.deadline = LONG_AGO
                self._gone[pool] = limit
        for pool, limit in limits.items():
            known = self.limits.get(pool) or self._gone.get(pool)
            if known is None or known.wallet is not limit.wallet:
                limit.wallet.deadline = LONG_AGO
                self._empty(limit)  # what is in it belongs to somebody before, or to a parent
            self._gone.pop(pool, None)
            limit.wallet.deadline = self.deadline
        self.limits = limits

    def spend_until(self, instant: int) -> None:
        """Let nothing be spent from an instant on."""
        self.deadline = instant
        for limit in self.limits.values():
            limit.wallet.deadline = instant

    def _found(self, pool: PoolId) -> PooledLimit | None:
        return self.limits.get(pool.limit) or self._gone.get(pool.limit)

    def _spent(self, limit: PooledLimit) -> int:
        """Return what was spent. Without a bucket, nothing of what was granted is left."""
        spent = self._engine.spent(limit.name)
        return limit.wallet.granted if spent is None else spent

    def _told(self, limit: PooledLimit) -> int:
        """Return what was spent: it is not refunded any more."""
        wallet, spent = limit.wallet, self._spent(limit)
        if spent > wallet.reported:
            wallet.reported = spent
            spent = self._spent(limit)  # a refund may have come just before
        return spent

    def _empty(self, limit: PooledLimit) -> None:
        limit.wallet.granted = min(limit.wallet.granted, self._told(limit))

    def read(self, pool: PoolId) -> Purse:
        limit = self._found(pool)
        if limit is None:
            return Purse(0, 0, 0, 0)
        spent, wallet = self._told(limit), limit.wallet
        return Purse(max(0, wallet.granted - spent), spent, wallet.missed, wallet.largest)

    def add(self, pool: PoolId, tokens: int) -> None:
        limit = self._found(pool)
        if limit is not None:
            limit.wallet.granted += tokens
            limit.wallet.largest = 0

    def take(self, pool: PoolId, at_most: int) -> int:
        """Take tokens out: those that a decision spends at the same time stay."""
        limit = self._found(pool)
        if limit is None:
            return 0
        wallet, granted = limit.wallet, limit.wallet.granted
        kept = max(min(self._told(limit), granted), granted - min(at_most, FOREVER))
        wallet.granted = kept
        wallet.granted = kept = min(max(kept, self._spent(limit)), granted)
        return granted - kept

    def drop(self, pool: PoolId) -> None:
        """Empty the wallet. Its totals stay: the next draw begins with them."""
        limit = self._found(pool)
        if limit is not None:
            self._empty(limit)
            self._gone.pop(pool.limit, None)


class _WalletsByKey:
    """Wallets of limits that count per key. Only one thread calls it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._purses: dict[str, KeyPurses] = {}
        self.deadline = self.until = LONG_AGO

    def follow(self, limits: Mapping[str, KeyedLimit]) -> None:
        """Take over the limits in force. Nothing may be spent of those that are gone."""
        for pool, purses in list(self._purses.items()):
            limit = limits.get(pool)
            if limit is None or limit.wallets is not purses.limit.wallets:
                purses.limit.wallets.deadline = purses.limit.wallets.until = LONG_AGO
                self._engine.with_wallets(purses.limit.wallets.clear)
                del self._purses[pool]
        for pool, limit in limits.items():
            if pool not in self._purses:
                limit.wallets.deadline = limit.wallets.until = LONG_AGO
                # What is in them belongs to somebody before, or to a parent.
                self._engine.with_wallets(limit.wallets.clear)
                self._purses[pool] = KeyPurses(self._engine, limit)
            limit.wallets.deadline, limit.wallets.until = self.deadline, self.until

    def spend_until(self, deadline: int, until: int) -> None:
        """Let nothing be spent of wallets, and of the own parts, from two instants on."""
        self.deadline, self.until = deadline, until
        for purses in self._purses.values():
            purses.limit.wallets.deadline = deadline
            purses.limit.wallets.until = until

    def of(self, pool: str) -> KeyPurses | None:
        """Return the wallets of a limit in force."""
        return self._purses.get(pool)

    def touched(self) -> list[PoolId]:
        """Read the wallets of the keys that were asked for since the last call."""
        return [
            PoolId(pool, key) for pool, purses in self._purses.items() for key in purses.collect()
        ]


class EngineWallets:
    """Wallets whose tokens an engine spends (see ``protocol.wallets.Wallets``).

    Only one thread calls it.
    """

    def __init__(self, engine: Engine) -> None:
        self.limits: Mapping[str, PooledLimit | KeyedLimit] = {}
        """Limits in force, by the name of the pool."""
        self._plain = _PlainWallets(engine)
        self._keyed = _WalletsByKey(engine)
        self._touches = 0

    def follow(self, limits: Mapping[str, PooledLimit | KeyedLimit]) -> None:
        """Take over the limits in force. Nothing may be spent of those that are gone."""
        self.limits = limits
        self._plain.follow({n: each for n, each in limits.items() if isinstance(each, PooledLimit)})
        self._keyed.follow({n: each for n, each in limits.items() if isinstance(each, KeyedLimit)})

    @property
    def keyed(self) -> frozenset[str]:
        """Limits in force that count per key."""
        return frozenset(n for n, each in self.limits.items() if isinstance(each, KeyedLimit))

    @property
    def activity(self) -> int:
        """A number that grows while the wallets are used."""
        wallets = [each.wallet for each in self._plain.limits.values()]
        return self._touches + sum(wallet.missed + wallet.reported for wallet in wallets)

    @property
    def deadline(self) -> int:
        """Instant from which on nothing may be spent of wallets."""
        return self._plain.deadline

    @deadline.setter
    def deadline(self, instant: int) -> None:
        instant = min(max(instant, LONG_AGO), _MOST_TIME)
        self._plain.spend_until(instant)
        self._keyed.spend_until(instant, self._keyed.until)

    def use_own_part_until(self, instant: int) -> None:
        """Let nothing be spent of own parts, which are never lent, from an instant on."""
        until = min(max(instant, LONG_AGO), _MOST_TIME)
        self._keyed.spend_until(self._keyed.deadline, until)

    def touched(self) -> list[PoolId]:
        """Return the keys that were asked for since the last call.

        Limits with one bucket are not among them: members always hold tokens of those.
        """
        touched = self._keyed.touched()
        self._touches += len(touched)
        return touched

    def read(self, pool: PoolId) -> Purse:
        """Return the state of a wallet. One that nobody has used is empty."""
        purses = self._keyed.of(pool.limit)
        return self._plain.read(pool) if purses is None else purses.read(pool.key)

    def add(self, pool: PoolId, tokens: int) -> None:
        """Put tokens into a wallet."""
        purses = self._keyed.of(pool.limit)
        if purses is None:
            self._plain.add(pool, tokens)
        else:
            purses.add(pool.key, tokens)

    def keep(self, pool: PoolId) -> None:
        """Move tokens of a wallet into the own part of its key: they count as spent."""
        purses = self._keyed.of(pool.limit)
        if purses is not None:
            purses.keep(pool.key)

    def take(self, pool: PoolId, at_most: int) -> int:
        """Take tokens out of a wallet; return how many it had, at most so many."""
        purses = self._keyed.of(pool.limit)
        if purses is None:
            return self._plain.take(pool, at_most)
        return purses.take(pool.key, min(at_most, FOREVER))

    def drop(self, pool: PoolId) -> None:
        """Forget a wallet."""
        purses = self._keyed.of(pool.limit)
        if purses is None:
            self._plain.drop(pool)
        else:
            purses.drop(pool.key)
