"""A member's own share: while it is not lent, the member grants itself tokens of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratectl.cluster.protocol.capacity import GRAINS
from ratectl.cluster.protocol.cooling import fitting
from ratectl.cluster.protocol.lender import FOREVER
from ratectl.cluster.protocol.messages import Drawn, Lending, PoolId
from ratectl.cluster.protocol.pool import Account, LentLimit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ratectl.cluster.protocol.capacity import Size
    from ratectl.cluster.protocol.wallets import Wallets

__all__ = ["OwnShare"]


class _Own:
    """The pool of one limit with one bucket, and the tokens of it in the wallet."""

    def __init__(self, name: str, wallets: Wallets, clock: Callable[[], int], now: int) -> None:
        self.limit = LentLimit(now)
        self._clock = clock
        self._id = PoolId(name, "")
        self._wallets = wallets
        self._account = self.limit.pool("", now).accounts[""] = Account(0)
        self._spent_before = wallets.read(self._id).spent
        self._returned = 0

    def fill(self, now: int) -> None:
        """Put what has accrued into the wallet, or take out what the pool has no room for."""
        self._report(now)
        hold = self._account.hold
        if hold is not None and self._account.held > hold:
            self._returned += self._wallets.take(self._id, self._account.held - hold)
            self._report(now)
        pool = self.limit.pools[""]
        self._wallets.add(self._id, pool.grant(self._account, pool.free))

    def empty(self, now: int) -> Lending:
        """Take all tokens out of the wallet for good; return what is in the pool then.

        Nothing may be spent any more.
        """
        for _ in range(2):  # a refund may come after the first time: after the report, none does
            self._returned += self._wallets.take(self._id, FOREVER)
            self._report(now)
        self._wallets.drop(self._id)
        return self.limit.all_of(now)

    def _report(self, now: int) -> None:
        spent = self._wallets.read(self._id).spent - self._spent_before
        drawn = Drawn(self._id, 0, spent, 0, self._returned, 0, 0)
        now = max(now, self._clock())  # the last token may have been spent just now
        self.limit.pool("", now).report(self._account, drawn, self.limit.lent)


class OwnShare:
    """Pools of a member's own share, for limits with one bucket (see ``protocol.lender.Own``).

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
        self._own: dict[str, _Own] = {}
        self._lent = False

    def change(self, share: int, sizes: Mapping[str, Size], now: int) -> None:
        """Change the share (millionths), or the sizes of the limits."""
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
        if old is None and self._full and name not in self._known:
            left = Lending(size.burst * GRAINS, {})
        own.limit.lend(size, share, left, now)
        if old is not None:
            own.limit.change(old, -self._share, now)
        self._known.add(name)

    def tick(self, now: int, until: int) -> None:
        """Put what has accrued into the wallets, to be spent until an instant."""
        if not self._lent:
            for own in self._own.values():
                own.fill(now)
            self._wallets.deadline = until

    def lend(self, now: int) -> Mapping[str, Lending]:
        """Empty the wallets and the pools; return what was in them, by limit."""
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
