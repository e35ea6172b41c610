"""One member's interest in one pool: what it was granted, and how many tokens it should hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratectl.cluster.protocol.messages import Drawn

if TYPE_CHECKING:
    from ratectl.cluster.protocol.messages import Granted, PoolId
    from ratectl.cluster.protocol.timing import Timing
    from ratectl.cluster.protocol.wallets import Purse, Wallets
    from ratectl.engine.algorithms.refunds import Refund

__all__ = ["Draw"]


class Draw:
    """Totals in tokens since the draw began."""

    def __init__(self, number: int, purse: Purse, timing: Timing, now: int) -> None:
        self._timing = timing
        self.number = number
        self.used_at = now
        self.is_final = False
        """The member has no interest any more, and no token."""
        self._granted = self._voided = self._returned = self._refunded = 0
        self._charges: tuple[tuple[int, int], ...] = ()
        """Of refunds that are not confirmed: the first poll, and the instant of the charge."""
        self._base = purse.spent
        """What was spent of the wallet before."""
        self._wish = max(1, purse.largest)
        """Tokens that the demand of now needs."""
        self._least, self._least_at, self._least_from = 0, now, purse.spent
        self._stock = 0
        self._want = 0
        """Tokens that the wallet should hold, by the newest poll."""
        self._scarce = self._in_vain = False
        self._reported = purse
        """The wallet at the newest poll."""
        self._measured, self._measured_at = purse, now
        self._state: tuple[int, ...] = ()
        self._told_in: int | None = None
        """Number of the first poll with this state. None: no poll has it yet."""

    # Owner to member ----------------------------------------------------------------------------

    def grant(self, granted: Granted) -> int:
        """Take over what the owner says; return how many tokens are new."""
        more = max(0, granted.granted - self._granted)
        self._granted += more
        if more:
            self.is_final = False  # tokens that were on their way: they have to be given back
        self._scarce = granted.scarce
        self._stock = granted.stock
        if granted.in_vain and not self._in_vain:
            self._wish = 1
        self._in_vain = granted.in_vain
        return more

    def void(self, tokens: int) -> None:
        """Count tokens that the member may not spend any more."""
        self._voided += tokens

    @property
    def is_calm(self) -> bool:
        """True if the member wants nothing but the stock, until somebody asks again."""
        return not (self._wish or self._least or self.is_final)

    def is_over(self, answered: int) -> bool:
        """Return True if the owner knows that the member has no interest any more."""
        return self.is_final and self._told_in is not None and self._told_in <= answered

    # Member to owner ----------------------------------------------------------------------------

    def is_due(self, purse: Purse, since_poll: int, gap: int) -> bool:
        """Return True if the owner should hear of this wallet before the next regular poll."""
        if not self._state:
            return since_poll >= max(self._timing.shortest_gap, gap // 4)
        has_none = purse.tokens == 0 and self._stock > 0
        is_short = has_none or purse.missed != self._reported.missed
        if is_short and not self._scarce:
            return since_poll >= self._timing.shortest_gap
        if since_poll < gap:
            return False
        if self._want == 0:
            return purse.tokens > 0
        unreported = purse.spent - self._reported.spent
        return (
            purse.tokens < max(self._want, self._stock) // 2
            or unreported > self._want // 2
            or purse.tokens > 2 * self._want + 2
        )

    def refund(self, refund: Refund, poll: int) -> None:
        """Count tokens that were charged and not used. ``poll``: number of the next one."""
        self._refunded += refund.tokens
        self._charges += ((poll, refund.since),)

    def report(
        self,
        wallets: Wallets,
        pool: PoolId,
        poll: int,
        answered: int,
        now: int,
        horizon: int,
        interest: int,
        *,
        standing: bool,
    ) -> Drawn | None:
        """Return what a poll says about the pool; None if the owner knows it already.

        Tokens that are not needed leave the wallet.

        :param poll: number of the poll.
        :param answered: number of the newest poll that the owner has answered.
        :param horizon: how many nanoseconds of demand the wallet should last for.
        :param interest: nanoseconds after which tokens of a key that nobody asks for are returned.
        :param standing: the limit has one bucket, and is in force: the interest lasts.
        """
        is_over = not standing and (not pool.key or now - self.used_at >= interest)
        if is_over:
            wallets.keep(pool)
        purse = wallets.read(pool)
        self._void_lost(purse)
        if self._charges:
            self._charges = tuple(each for each in self._charges if each[0] > answered)
        self._measure(purse, now, horizon)
        if is_over:
            self._wish = self._stock = self._least = 0
        self._want = max(self._wish, self._stock, 0 if self._in_vain else self._least)
        purse = self._without_surplus(wallets, pool, purse)
        self.is_final = not standing and self._want == self._least == purse.tokens == 0
        self._reported = purse
        want = max(self._wish, self._stock)
        state = (
            max(0, purse.spent - self._base), self._voided, self._returned, want, self._least,
            self._refunded,
        )  # fmt: skip
        if state != self._state:
            self._state, self._told_in = state, None
        if self._told_in is None:
            self._told_in = poll
        elif self._told_in <= answered:
            return None
        return Drawn(pool, self.number, *state, self._age(now) if self._charges else 0)

    def _age(self, now: int) -> int:
        """Return the time since the oldest charge of refunds that are not confirmed."""
        return max(0, now - min(at for _, at in self._charges))

    def _without_surplus(self, wallets: Wallets, pool: PoolId, purse: Purse) -> Purse:
        """Return tokens that are far more than wanted; return what the wallet has then."""
        surplus = purse.tokens - self._want
        if surplus > self._want + 1 or (self._want == 0 and surplus > 0):
            self._returned += wallets.take(pool, surplus)
            purse = wallets.read(pool)
        return purse

    def _void_lost(self, purse: Purse) -> None:
        """Count the tokens of a wallet that is gone: its limit was out of force for a while."""
        known = max(0, purse.spent - self._base) + purse.tokens + self._voided + self._returned
        self._voided += max(0, self._granted - known)

    def _measure(self, purse: Purse, now: int, horizon: int) -> None:
        passed = now - self._measured_at
        if passed < self._timing.measure:
            return
        asked = purse.spent - self._measured.spent
        if not self._in_vain:
            asked += purse.missed - self._measured.missed
        self._measured, self._measured_at = purse, now
        wish = asked * horizon // passed + 1 if asked else 0
        fade = self._timing.fade
        fall = -(-(self._wish - wish) * min(passed, fade) // fade)
        self._wish = max(wish, self._wish - fall)
        if purse.largest > max(1, self._least):
            self._least, self._least_at, self._least_from = purse.largest, now, purse.spent
        elif (
            now - self._least_at >= self._timing.interest
            or purse.spent - self._least_from >= self._least
        ):
            self._least = 0  # nobody asked again, or it was spent
