"""Wallets of one process whose tokens an engine spends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ratectl.cluster.keyed import KeyedLimit, KeyPurses, first_deadline
from ratectl.cluster.pools import PooledLimit
from ratectl.cluster.protocol.messages import PoolId
from ratectl.cluster.protocol.timing import FOREVER
from ratectl.cluster.protocol.wallets import Purse
from ratectl.cluster.sharding import SHARDS
from ratectl.engine.algorithms.pooled import LONG_AGO
from ratectl.engine.algorithms.refunds import NOTHING, Refund

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from ratectl.engine.api import Engine

__all__ = ["EngineWallets"]

_MOST_TIME: Final = 1 << 61
_Refunded = tuple[int, PoolId, Refund]
"""A refund: the shard that it is for, and the pool."""


class _Part:
    """Tokens of one shard in a wallet. Totals as in ``Purse``."""

    __slots__ = ("is_used", "largest", "left", "missed", "spent")

    def __init__(self) -> None:
        self.left = self.spent = self.missed = self.largest = 0
        self.is_used = False
        """False: the shard has dropped the wallet, or does not have the limit."""


class _Shared:
    """A wallet with tokens of several shards.

    A decision does not say whose tokens it spends: each shard's are spent in proportion to what is
    left of them. All may be spent until the first of them are void.
    """

    def __init__(self, limit: PooledLimit, deadlines: Sequence[int], spent: int) -> None:
        """``deadlines``: see ``first_deadline``. After a change, call ``set_deadline``."""
        self.limit = limit
        self.parts = [_Part() for _ in deadlines]
        self._deadlines = deadlines
        self._spent = spent
        """What of the wallet's total is in the parts. What was spent beyond all tokens, as
        requests turned out to cost more, is taken from those that come next."""
        self._missed = limit.wallet.missed

    def sync(self, spent: int) -> None:
        """Share out what was spent and missed since the last call. ``spent``: total of the wallet.

        Each shard that has tokens for the limit brings some for what was missed.
        """
        wallet = self.limit.wallet
        if spent > self._spent:
            self._take(min(spent - self._spent, sum(part.left for part in self.parts)))
        if wallet.largest or wallet.missed != self._missed:
            self._share_missed()

    def _share_missed(self) -> None:
        wallet = self.limit.wallet
        used = [part for part in self.parts if part.is_used]
        parts, count = used or self.parts, len(used) or 1
        missed, self._missed = wallet.missed - self._missed, wallet.missed
        for number, part in enumerate(parts, wallet.missed):
            part.missed += (missed + number % count) // count
            part.largest = max(part.largest, -(-wallet.largest // count))

    def split(self, refund: Refund) -> Iterator[tuple[int, Refund]]:
        """Yield the part of a refund for each shard that has tokens for the limit."""
        used = [shard for shard, part in enumerate(self.parts) if part.is_used]
        for number, shard in enumerate(used):
            yield shard, refund._replace(tokens=(refund.tokens + number) // len(used))

    def _take(self, spent: int) -> None:
        """Share out tokens, no more than there are."""
        self._spent += spent
        total = sum(part.left for part in self.parts)
        for part in sorted(self.parts, key=lambda part: part.left):
            taken = spent * part.left // total if total else 0
            total -= part.left
            spent -= taken
            part.left -= taken
            part.spent += taken

    def set_deadline(self) -> None:
        """Let all tokens be spent until the first of them are void."""
        left = [part.left for part in self.parts]
        self.limit.wallet.deadline = first_deadline(left, self._deadlines)


class _PlainWallets:
    """Wallets of limits with one bucket, whose tokens an engine spends.

    Only one thread calls it.
    """

    def __init__(self, engine: Engine, deadlines: Sequence[int]) -> None:
        """``deadlines``: see ``first_deadline``. After a change, call ``set_deadlines``."""
        self._engine = engine
        self._deadlines = deadlines
        self.limits: Mapping[str, PooledLimit] = {}
        """Limits in force."""
        self._shared: dict[str, _Shared] = {}
        """Also of limits that were in force, until all shards are told what was spent of them."""

    def follow(self, limits: Mapping[str, PooledLimit]) -> None:
        """Take over the limits in force. Nothing may be spent of those that are gone."""
        for pool, limit in self.limits.items():
            if pool not in limits:
                limit.wallet.deadline = LONG_AGO
        for pool, limit in limits.items():
            known = self._shared.get(pool)
            if known is None or known.limit.wallet is not limit.wallet:
                limit.wallet.deadline = LONG_AGO
                self._empty(limit)  # what is in it belongs to somebody before, or to a parent
                known = _Shared(limit, self._deadlines, self._spent(limit))
                self._shared[pool] = known
            known.limit = limit
            known.set_deadline()
        self.limits = limits

    def set_deadlines(self) -> None:
        """Let the tokens in each wallet be spent until the first of them are void."""
        for pool in self.limits:
            self._shared[pool].set_deadline()

    def _spent(self, limit: PooledLimit) -> int:
        """Return what was spent. Without a bucket, nothing of what was granted is left."""
        spent = self._engine.spent(limit.name)
        return limit.wallet.granted if spent is None else spent

    def _told(self, limit: PooledLimit) -> int:
        """Return what was spent: it is not refunded any more, but for what is owed."""
        wallet, spent = limit.wallet, self._spent(limit)
        if min(spent, wallet.granted) > wallet.reported:
            wallet.reported = min(spent, wallet.granted)
            spent = self._spent(limit)  # a refund may have come just before
        return spent

    def _empty(self, limit: PooledLimit) -> None:
        limit.wallet.granted = min(limit.wallet.granted, self._told(limit))

    def _synced(self, pool: PoolId) -> _Shared | None:
        shared = self._shared.get(pool.limit)
        if shared is not None:
            shared.sync(self._told(shared.limit))
        return shared

    def read(self, shard: int, pool: PoolId) -> Purse:
        shared = self._synced(pool)
        if shared is None:
            return Purse(0, 0, 0, 0)
        part = shared.parts[shard]
        return Purse(part.left, part.spent, part.missed, part.largest)

    def refunds(self) -> Iterator[_Refunded]:
        """Yield what was refunded since the last call."""
        for pool, limit in self.limits.items():
            if limit.refunds:
                for refund in self._engine.with_wallets(limit.refunds.take).values():
                    for shard, part in self._shared[pool].split(refund):
                        yield shard, PoolId(pool, ""), part

    def add(self, shard: int, pool: PoolId, tokens: int) -> None:
        shared = self._synced(pool)
        if shared is not None:
            part = shared.parts[shard]
            part.left += tokens
            part.largest, part.is_used = 0, True
            if pool.limit in self.limits:
                shared.set_deadline()  # before the tokens may be spent
            shared.limit.wallet.granted += tokens
            shared.limit.wallet.largest = 0

    def take(self, shard: int, pool: PoolId, at_most: int) -> int:
        """Take tokens out: those that a decision spends at the same time stay."""
        shared = self._synced(pool)
        if shared is None:
            return 0
        limit, part = shared.limit, shared.parts[shard]
        wallet, granted = limit.wallet, limit.wallet.granted
        wallet.granted = kept = granted - min(at_most, part.left)
        wallet.granted = kept = min(max(kept, self._spent(limit)), granted)
        part.left -= granted - kept
        if pool.limit in self.limits:
            shared.set_deadline()
        return granted - kept

    def drop(self, shard: int, pool: PoolId) -> None:
        """Empty the wallet. Its totals stay: the next draw begins with them."""
        self.take(shard, pool, FOREVER)
        shared = self._shared.get(pool.limit)
        if shared is None:
            return
        shared.parts[shard].is_used = False
        if pool.limit not in self.limits and not any(part.left for part in shared.parts):
            del self._shared[pool.limit]


class _WalletsByKey:
    """Wallets of limits that count per key, each in one shard. Only one thread calls it."""

    def __init__(self, engine: Engine, deadlines: Sequence[int]) -> None:
        """``deadlines``: see ``first_deadline``. After a change, call ``set_deadlines``."""
        self._engine = engine
        self._deadlines = deadlines
        self._purses: dict[str, KeyPurses] = {}
        self.until = LONG_AGO

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
                self._purses[pool] = KeyPurses(self._engine, limit, self._deadlines)
            self._purses[pool].set_deadline()
            limit.wallets.until = self.until

    def set_deadlines(self) -> None:
        """Let the tokens in the wallets be spent until the first of them are void."""
        for purses in self._purses.values():
            purses.set_deadline()

    def use_own_part_until(self, instant: int) -> None:
        """Let nothing be spent of own parts from an instant on."""
        self.until = instant
        for purses in self._purses.values():
            purses.limit.wallets.until = instant

    def of(self, pool: str) -> KeyPurses | None:
        """Return the wallets of a limit in force."""
        return self._purses.get(pool)

    def touched(self) -> list[tuple[int, PoolId]]:
        """Read the wallets of the keys that were asked for since the last call.

        :return: the shard of each key, and its pool.
        """
        return [
            (shard, PoolId(pool, key))
            for pool, purses in self._purses.items()
            for shard, key in purses.collect()
        ]

    def refunds(self) -> Iterator[_Refunded]:
        """Yield what was refunded, as the wallets were read."""
        for pool, purses in self._purses.items():
            if purses.refunds:
                found, purses.refunds = purses.refunds, []
                for shard, key, refund in found:
                    yield shard, PoolId(pool, key), refund


class EngineWallets:
    """Wallets whose tokens an engine spends. Each shard brings tokens of its own.

    Only one thread uses it.
    """

    def __init__(self, engine: Engine, shards: int = SHARDS) -> None:
        self.limits: Mapping[str, PooledLimit | KeyedLimit] = {}
        """Limits in force, by the name of the pool."""
        self._deadlines = [LONG_AGO] * shards
        self._plain = _PlainWallets(engine, self._deadlines)
        self._keyed = _WalletsByKey(engine, self._deadlines)
        self.shards = tuple(
            ShardWallets(self, self._plain, self._keyed, shard) for shard in range(shards)
        )
        """Each shard's tokens."""
        self._touched: list[dict[PoolId, None]] = [{} for _ in range(shards)]
        self._refunds: list[dict[PoolId, Refund]] = [{} for _ in range(shards)]
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

    def use_own_part_until(self, instant: int) -> None:
        """Let nothing be spent of own parts, which are never lent, from an instant on."""
        self._keyed.use_own_part_until(_bounded(instant))

    def deadline(self, shard: int) -> int:
        """Return the instant from which on nothing may be spent of a shard's tokens."""
        return self._deadlines[shard]

    def set_deadline(self, shard: int, instant: int) -> None:
        """Let nothing be spent of a shard's tokens from an instant on."""
        self._deadlines[shard] = _bounded(instant)
        self._plain.set_deadlines()
        self._keyed.set_deadlines()

    def touched(self, shard: int) -> Iterable[PoolId]:
        """Return the keys of a shard that were asked for since the last call for it.

        Limits with one bucket are not among them: members always hold tokens of those.
        """
        touched = self._keyed.touched()
        self._touches += len(touched)
        for of_shard, pool in touched:
            self._touched[of_shard][pool] = None
        mine, self._touched[shard] = self._touched[shard], {}
        return mine

    def refunds(self, shard: int) -> Mapping[PoolId, Refund]:
        """Return what was refunded to a shard since the last call for it."""
        for of_shard, pool, refund in (*self._plain.refunds(), *self._keyed.refunds()):
            known = self._refunds[of_shard]
            known[pool] = refund.joined(known.get(pool, NOTHING))
        mine, self._refunds[shard] = self._refunds[shard], {}
        return mine


class ShardWallets:
    """Tokens of one shard in the wallets (see ``protocol.wallets.Wallets``)."""

    def __init__(
        self, wallets: EngineWallets, plain: _PlainWallets, keyed: _WalletsByKey, shard: int
    ) -> None:
        self._wallets = wallets
        self._plain = plain
        self._keyed = keyed
        self._shard = shard

    @property
    def deadline(self) -> int:
        """Instant from which on nothing may be spent of this shard's tokens."""
        return self._wallets.deadline(self._shard)

    @deadline.setter
    def deadline(self, instant: int) -> None:
        self._wallets.set_deadline(self._shard, instant)

    def touched(self) -> Iterable[PoolId]:
        """Return the keys that were asked for since the last call."""
        return self._wallets.touched(self._shard)

    def refunds(self) -> Mapping[PoolId, Refund]:
        """Return what was refunded since the last call, beside what is in the wallets again."""
        return self._wallets.refunds(self._shard)

    def read(self, pool: PoolId) -> Purse:
        """Return the state of a wallet. One that nobody has used is empty."""
        purses = self._keyed.of(pool.limit)
        return self._plain.read(self._shard, pool) if purses is None else purses.read(pool.key)

    def add(self, pool: PoolId, tokens: int) -> None:
        """Put tokens into a wallet."""
        purses = self._keyed.of(pool.limit)
        if purses is None:
            self._plain.add(self._shard, pool, tokens)
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
            return self._plain.take(self._shard, pool, at_most)
        return purses.take(pool.key, min(at_most, FOREVER))

    def drop(self, pool: PoolId) -> None:
        """Forget a wallet."""
        purses = self._keyed.of(pool.limit)
        if purses is None:
            self._plain.drop(self._shard, pool)
        else:
            purses.drop(pool.key)


def _bounded(instant: int) -> int:
    return min(max(instant, LONG_AGO), _MOST_TIME)
