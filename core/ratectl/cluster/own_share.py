"""A member's own share: while it is not lent, the member grants itself tokens of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ratectl.cluster.protocol.capacity import GRAINS
from ratectl.cluster.protocol.cooling import fitting
from ratectl.cluster.protocol.messages import Drawn, Lending, PoolId
from ratectl.cluster.protocol.pool import LentLimit
from ratectl.cluster.protocol.timing import FOREVER, SECOND

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from ratectl.cluster.protocol.capacity import Size
    from ratectl.cluster.protocol.wallets import Wallets
    from ratectl.engine.algorithms.refunds import Refund

__all__ = ["OwnShare"]

_INTEREST: Final = 2 * SECOND
"""A key that was not asked for as long as this gives its tokens back."""


class _Held:
    """The pool of one key, and the tokens of it in the wallet."""

    def __init__(
        self, pool: PoolId, limit: LentLimit, wallets: Wallets, clock: Callable[[], int], now: int
    ) -> None:
        self.used_at = now
        self._id = pool
        self._limit = limit
        self._wallets = wallets
        self._clock = clock
        self._account = limit.pool(pool.key, now).begin("", now)
        self._spent_before = wallets.read(pool).spent
        self._returned = self._refunded = 0

    def fill(self, now: int) -> None:
        """Put what has accrued into the wallet, or take out what the pool has no room for."""
        self._report(now)
        hold = self._account.hold
        if hold is not None and self._account.held > hold:
            self._return(self._account.held - hold, now)
        pool = self._limit.pools[self._id.key]
        granted = pool.grant(self._account, pool.free)
        if granted:
            self._wallets.add(self._id, granted)

    def keep(self) -> None:
        """Fill the part of the key that is never lent out of the wallet."""
        self._wallets.keep(self._id)

    def empty(self, now: int) -> None:
        """Take all tokens out of the wallet for good, and forget it.

        What is not in it any more, and not reported, counts as spent.
        """
        for _ in range(2):  # a refund may come after the first time: after the report, none does
            self._return(FOREVER, now)
        self._wallets.drop(self._id)
        self._limit.pools[self._id.key].void("", self._limit.lent)

    def _return(self, tokens: int, now: int) -> None:
        self._returned += self._wallets.take(self._id, tokens)
        self._report(now)

    def _report(self, now: int) -> None:
        spent = self._wallets.read(self._id).spent - self._spent_before
        drawn = Drawn(self._id, 0, spent, 0, self._returned, 0, 0)
        now = max(now, self._clock())  # the last token may have been spent just now
        pool = self._limit.pool(self._id.key, now)
        pool.report(self._account, drawn, self._limit.lent)

    def refund(self, refund: Refund, now: int) -> None:
        """Put back what was charged and not used, if there was room for it."""
        self._report(now)
        self._refunded += refund.tokens
        pool = self._limit.pools[self._id.key]
        pool.refund(self._account, self._refunded, refund.since, self._limit.lent)


class _Own:
    """Pools of one limit, and the tokens of them in wallets."""

    def __init__(self, name: str, wallets: Wallets, clock: Callable[[], int], now: int) -> None:
        self.limit = LentLimit(now)
        self._name = name
        self._wallets = wallets
        self._clock = clock
        self._held: dict[str, _Held] = {}
        self._swept_at = now

    def fill(self, keys: Iterable[str], now: int) -> None:
        """Fill the wallets of keys that are used."""
        for key in keys:
            self.hold(key, now).fill(now)
        if now - self._swept_at >= SECOND:
            self._sweep(now)

    def give_back(self, now: int) -> None:
        """Take out of wallets what the pools have no room for."""
        for held in self._held.values():
            held.fill(now)

    def hold(self, key: str, now: int) -> _Held:
        """Hold tokens of a key from now on."""
        held = self._held.get(key)
        if held is None:
            pool = PoolId(self._name, key)
            held = self._held[key] = _Held(pool, self.limit, self._wallets, self._clock, now)
        held.used_at = now
        return held

    def _sweep(self, now: int) -> None:
        self._swept_at = now
        for key, held in list(self._held.items()):
            if now - held.used_at >= _INTEREST:
                held.keep()
                held.empty(now)
                del self._held[key]
        self.limit.forget_unused(now)

    def keep(self) -> None:
        """Fill the parts that are never lent out of the wallets."""
        for held in self._held.values():
            held.keep()

    def empty(self, now: int) -> Lending:
        """Take all tokens out of the wallets for good; return what is in the pools then.

        Nothing may be spent any more.
        """
        for held in self._held.values():
            held.empty(now)
        self._held.clear()
        return self.limit.all_of(now)


class OwnShare:
    """Pools of a member's own share (see ``protocol.lender.Own``).

    The same arithmetic as an owner's: what is in a wallet still occupies the pool.

    :param full: the pools begin full: nobody has used these limits before.
    """

    def __init__(self, wallets: Wallets, clock: Callable[[], int], *, full: bool) -> None:
        self._wallets = wallets
        self._clock = clock
        self._full = full
        self._known: set[str] = set()
        """Limits that there are, or were: such a limit begins empty when it comes back."""
        self._share = 0
        self._sizes: Mapping[str, Size] = {}
        self._keyed: Collection[str] = ()
        self._own: dict[str, _Own] = {}
        self._lent = False

    def change(
        self, share: int, sizes: Mapping[str, Size], now: int, keyed: Collection[str] = ()
    ) -> None:
        """Change the share (millionths), or the sizes of the limits.

        :param keyed: limits that count per key. The others have one bucket.
        """
        self._keyed = keyed
        if not self._lent:
            for name in {**self._sizes, **sizes}:
                self._change(name, share, sizes.get(name), now)
        self._share, self._sizes = share, sizes

    def _change(
        self, name: str, share: int, size: Size | None, now: int, left: Lending | None = None
    ) -> None:
        old = self._sizes.get(name)
        own = self._own.get(name)
        if size is None:
            if own is not None:
                self._own.pop(name).empty(now)
            return
        if own is None:
            own = self._own[name] = _Own(name, self._wallets, self._clock, now)
            if name not in self._keyed:
                own.hold("", now)
        if old is None and self._full and name not in self._known:
            left = Lending((size.burst + size.added) * GRAINS, {})
        own.limit.lend(size, share, left, now)
        if old is not None:
            own.limit.change(old, -self._share, now)
            if own.limit.lent.recalling:
                own.give_back(now)
        self._known.add(name)

    def tick(self, now: int, until: int) -> None:
        """Put what has accrued into the wallets, to be spent until an instant."""
        if self._lent:
            return
        for pool, refund in self._wallets.refunds().items():
            if pool.limit in self._own:
                self._own[pool.limit].hold(pool.key, now).refund(refund, now)
        used: dict[str, list[str]] = {name: [] for name in self._own}
        for pool in self._wallets.touched():
            if pool.limit in used:
                used[pool.limit].append(pool.key)
        for name, own in self._own.items():
            own.fill(used[name] if name in self._keyed else ("",), now)
        self._wallets.deadline = until

    def lend(self, now: int) -> Mapping[str, Lending]:
        """Empty the wallets and the pools; return what was in them, by limit."""
        for own in self._own.values():
            own.keep()
        self._wallets.deadline = now
        lending = {name: own.empty(now) for name, own in self._own.items()}
        self._own, self._lent, self._full = {}, True, False
        return fitting(lending)

    def resume(self, now: int, left: Mapping[str, Lending]) -> None:
        """Fill the pools from now on, with what an owner gave back."""
        self._lent = False
        sizes, self._sizes = self._sizes, {}
        for name, size in sizes.items():
            self._change(name, self._share, size, now, left.get(name))
        self._sizes = sizes
