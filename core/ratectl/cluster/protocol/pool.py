"""Tokens of one limit at an owner: in its pools, in the hands of members, and spent ones.

A *place* is room for one token. A share of a limit has as many places as it has tokens at most.
Each place of a sliding window is free, held by a member, or cooling: then its token was spent, and
the window is not over yet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratectl.cluster.protocol.capacity import GRAINS, Lent
from ratectl.cluster.protocol.cooling import Cooling, Step, coarse
from ratectl.cluster.protocol.messages import Lending
from ratectl.cluster.protocol.rooms import Rooms

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ratectl.cluster.protocol.capacity import Size
    from ratectl.cluster.protocol.messages import Drawn

__all__ = ["Account", "LentLimit", "Pool"]


class Account:
    """Account of one member in one pool. Totals of one draw, in tokens."""

    __slots__ = (
        "draw", "granted", "hold", "in_vain", "least", "refundable", "refunded", "returned",
        "scarce", "spent", "told", "voided", "want",
    )  # fmt: skip

    def __init__(self, draw: int) -> None:
        self.draw = draw
        self.granted = self.spent = self.voided = self.returned = self.refunded = 0
        self.refundable = 0
        """Tokens that the member has spent, also in draws before, and that were not refunded."""
        self.want = self.least = 0
        self.scarce = self.in_vain = False
        self.hold: int | None = None
        """While capacity is recalled: how many tokens the member may keep."""
        self.told: int | None = None
        """Number of the first reply with this state. None: no reply has it yet."""

    @property
    def held(self) -> int:
        """Tokens that the member may still spend. Never below 0."""
        return self.granted - self.spent - self.voided - self.returned

    def missing(self, most: int) -> int:
        """Return how many tokens the member wants beyond those that it holds.

        :param most: tokens that the pool has room for: a request for more has to be refused.
        """
        wanted = max(self.want, self.least) if self.least <= most else self.want
        return max(0, wanted - self.held)

    def looks_in_vain(self, most: int) -> bool:
        """Find out if the pool has room for the largest request; return True on a change."""
        before, self.in_vain = self.in_vain, self.least > most
        return self.in_vain != before

    def saves(self, most: int) -> bool:
        """Return True if the member waits for a larger request than its tokens allow."""
        return self.held < self.least <= most

    def report(self, drawn: Drawn) -> int:
        """Take over what a member reports; return how many tokens it has given back.

        Nobody can spend or give back more than it holds.
        """
        spent = min(max(0, drawn.spent - self.spent), self.held)
        self.spent += spent
        self.refundable += spent
        self.voided += min(max(0, drawn.voided - self.voided), self.held)
        returned = min(max(0, drawn.returned - self.returned), self.held)
        self.returned += returned
        return returned


class Pool:
    """Tokens of one key.

    Tokens that members hold still occupy the bucket: what is in the pool and what is held are
    together never more than the capacity. Otherwise tokens granted long ago and spent now would
    come on top of what accrued in between.

    In a sliding window nothing accrues. A token that is spent or void, and one that is missing for
    another reason, is free again a window after the owner has learned of it.

    ``high_at`` is the last instant at which more than half of the capacity was free or held,
    ``changed_at`` the last one at which the capacity changed; both begin with the pool.
    """

    __slots__ = (
        "accounts", "at", "changed_at", "cooling", "ended", "held", "high_at", "large", "large_at",
        "level", "recalling", "rooms", "short", "waiting",
    )  # fmt: skip

    def __init__(self, now: int, level: int = 0, cooling: tuple[Step, ...] = ()) -> None:
        self.level = level
        """Grains that are free."""
        self.cooling = Cooling(cooling)
        self.at = self.high_at = self.changed_at = now
        self.held = 0
        """Tokens that members hold."""
        self.accounts: dict[str, Account] = {}
        self.waiting: dict[str, Account] = {}
        """Accounts that want more than the pool had, the first that asked first."""
        self.recalling = False
        self.short = False
        """Members should hold no tokens without requests: others wait for them."""
        self.large, self.large_at = 0, now
        """Largest cost for which a member had too few tokens lately, and when it was told of."""
        self.rooms: Rooms | None = None
        """Room of a bucket for refunds, from the first refund on."""
        self.ended: dict[str, int] | None = None
        """Tokens that members have spent who have no account now, and that may be refunded."""

    @property
    def free(self) -> int:
        """Whole tokens in the pool."""
        return self.level // GRAINS

    def has_token(self, now: int, lent: Lent) -> bool:
        """Return True if the pool may have a whole token by now."""
        return self.level + lent.rate * (now - self.at) >= GRAINS

    def note_large(self, cost: int, large_for: int) -> bool:
        """Take note of a request for which a member has too few tokens; return True on a change.

        :param large_for: time (nanoseconds) after which a cost is forgotten.
        """
        before = self.large
        if self.at - self.large_at >= large_for:
            self.large = 0
        if cost and cost >= self.large:
            self.large, self.large_at = cost, self.at
        return self.large != before

    def room(self, lent: Lent) -> int:
        """Return how many grains may be in the pool, if nothing cools."""
        return max(0, lent.capacity - self.held * GRAINS)

    def settle(self, now: int, lent: Lent) -> None:
        """Add what has accrued until now, or has cooled. Time never runs backwards."""
        if now > self.at:
            self.level += lent.rate * (now - self.at) + self.cooling.freed(now)
            self.at = now
        self.clamp(lent)

    def clamp(self, lent: Lent) -> tuple[int, list[Step]]:
        """Drop what the capacity has no room for, and let cool what is missing in a window.

        Ends a recall that is complete. Returns what was dropped: free grains, and cooling ones.
        """
        if lent.window:
            self.cooling.bound(self.at + lent.window, lent.window)
        elif self.cooling.total and lent.capacity:
            self.cooling = Cooling()  # a token bucket: tokens accrue
        room = self.room(lent)
        more = self.level + self.cooling.total - room
        cooling = self.cooling.drop(more)
        free = min(self.level, max(0, more - sum(step.grains for step in cooling)))
        self.level -= free
        if lent.window:
            self.cooling.add(-more, self.at + lent.window, lent.window)
        left = room - self.level
        if 2 * left < lent.capacity:
            self.high_at = self.at
        if self.rooms is not None:
            self.rooms.note(self.at, left)
        self._end_recall(lent)
        return free, cooling

    def _end_recall(self, lent: Lent) -> None:
        if self.recalling and self.held * GRAINS <= lent.capacity:
            self.recalling = False
            lent.recalling -= 1
            for account in self.accounts.values():
                account.hold = None

    def recall(self, lent: Lent) -> None:
        """Tell members how much they may keep, if they hold more than the capacity.

        The pool is empty, and stays empty, until they hold less.
        """
        held = self.held * GRAINS
        if held <= lent.capacity:
            return
        if not self.recalling:
            self.recalling = True
            lent.recalling += 1
        for account in self.accounts.values():
            account.hold = account.held * lent.capacity // held
            account.told = None

    def report(self, account: Account, drawn: Drawn, lent: Lent) -> None:
        """Take over what a member reports. What it gives back is in the pool again."""
        before = account.held
        returned = account.report(drawn)
        self.held += account.held - before
        self.level += returned * GRAINS
        self.clamp(lent)

    def refund(self, account: Account, refunded: int, charged_at: int, lent: Lent) -> None:
        """Put tokens back that requests were charged and did not use.

        The pool is never fuller than if they had not been charged (see ``Rooms``). A window frees
        places that were used before the charge instead: they would be free no later than those of
        the charge. A member cannot give back more than it has spent.

        :param refunded: total of the draw.
        :param charged_at: an instant before all charges of what is new in it.
        """
        tokens, account.refunded = refunded - account.refunded, max(account.refunded, refunded)
        grains = min(tokens, account.refundable) * GRAINS
        if grains <= 0 or charged_at <= self.changed_at:
            return
        if lent.window:
            grains = self.cooling.free(grains, charged_at, lent.window)
        else:
            if self.rooms is None:
                self.rooms = Rooms(max(self.high_at, self.changed_at), lent.capacity // 2)
            grains = self.rooms.take(grains, charged_at)
        account.refundable -= -(-grains // GRAINS)
        self.level += grains
        self.clamp(lent)

    def begin(self, member: str, draw: int) -> Account:
        """Begin an account of a member."""
        account = self.accounts[member] = Account(draw)
        if self.ended is not None:
            account.refundable = self.ended.pop(member, 0)
        return account

    def end(self, member: str) -> Account:
        """End the account of a member.

        The member may report its end again. If it had refunds, nothing more is refundable then.
        """
        account = self.accounts.pop(member)
        self.waiting.pop(member, None)
        if account.refundable and not account.refunded:
            self.ended = self.ended or {}
            self.ended[member] = account.refundable
        return account

    def grant(self, account: Account, tokens: int) -> int:
        """Give a member at most so many tokens; return how many it got."""
        tokens = min(tokens, self.free)
        if tokens > 0:
            self.level -= tokens * GRAINS
            self.held += tokens
            account.granted += tokens
            account.told = None
        return tokens

    def bring(self, level: int, steps: tuple[Step, ...], own: Lent, lent: Lent) -> None:
        """Add free and cooling grains of a share, at most as many as it has room for."""
        level = own.at_most(level)
        self.level += level
        left = own.capacity - level
        for after, grains in steps if lent.window else ():
            self.cooling.add(min(left, grains), self.at + after, lent.window)
            left -= min(left, max(0, grains))
        self.clamp(lent)

    def void(self, member: str, lent: Lent) -> None:
        """Take what a member holds for spent."""
        self.held -= self.end(member).held
        self.clamp(lent)


class LentLimit:
    """Pools of one limit, by key, and the capacity that members lend to them."""

    def __init__(self, now: int) -> None:
        self.lent = Lent()
        self.untouched = Pool(now)
        """The pool of every key that nobody has asked for."""
        self.pools: dict[str, Pool] = {}

    def _all(self) -> Iterator[Pool]:
        yield self.untouched
        yield from self.pools.values()

    def pool(self, key: str, now: int) -> Pool:
        """Return the pool of a key. A key that nobody has asked for becomes one of its own."""
        untouched = self.untouched
        untouched.settle(now, self.lent)
        pool = self.pools.get(key)
        if pool is None:
            cooling = tuple(untouched.cooling.steps)
            pool = self.pools[key] = Pool(now, untouched.level, cooling)
        pool.settle(now, self.lent)
        return pool

    def fill(self) -> None:
        """Fill all pools: nobody has used the limit before."""
        for pool in self._all():
            pool.level = pool.room(self.lent)

    def lend(self, size: Size, share: int, brought: Lending | None, now: int) -> None:
        """Add the share of a member, and the tokens that it brings: its buckets held no more."""
        self.change(size, share, now)
        if brought is None:
            return
        own = Lent()
        own.add(size, share)
        for key in (*brought.touched, *brought.cooling):
            self.pool(key, now)
        for key, pool in self.pools.items():
            level = brought.touched.get(key, brought.untouched)
            pool.bring(level, brought.cooling.get(key, ()), own, self.lent)
        self.untouched.bring(brought.untouched, (), own, self.lent)

    def change(self, size: Size, share: int, now: int, unused: int = 0) -> Lending:
        """Add a share. A negative share takes capacity away: tokens of it are recalled.

        Returns what was taken away: as much as was not in the hands of members.

        :param unused: grains of a window that are free at once: nobody can have spent them.
        """
        for pool in self._all():
            pool.settle(now, self.lent)
        self.lent.add(size, share)
        for pool in self._all():
            pool.changed_at, pool.rooms = now, None
            pool.ended = None  # nothing of before is refunded
        for pool in self._all() if unused else ():
            missing = pool.room(self.lent) - pool.level - pool.cooling.total
            pool.level += min(unused, max(0, missing))
        free, _ = self._changed(self.untouched)
        return _lending(free, {key: self._changed(pool) for key, pool in self.pools.items()}, now)

    def _changed(self, pool: Pool) -> tuple[int, list[Step]]:
        dropped = pool.clamp(self.lent)
        pool.recall(self.lent)
        return dropped

    def all_of(self, now: int) -> Lending:
        """Return what is in the pools."""
        for pool in self._all():
            pool.settle(now, self.lent)
        pools = {key: (pool.level, pool.cooling.steps) for key, pool in self.pools.items()}
        return _lending(self.untouched.level, pools, now)

    def forget_unused(self, now: int) -> None:
        """Drop pools that are as full as one that nobody has asked for."""
        self.untouched.settle(now, self.lent)
        for key, pool in list(self.pools.items()):
            if not pool.accounts:
                pool.settle(now, self.lent)
                if pool.level >= self.untouched.level and not pool.cooling.total:
                    del self.pools[key]


def _lending(untouched: int, pools: Mapping[str, tuple[int, list[Step]]], now: int) -> Lending:
    """Return free grains and cooling ones, by key, for a message."""
    return Lending(
        untouched,
        {key: level for key, (level, _) in pools.items()},
        {
            key: coarse(Step(max(0, at - now), grains) for at, grains in steps)
            for key, (_, steps) in pools.items()
            if steps
        },
    )
