"""The owner's side: it pools the shares that members lend, and hands out tokens."""

from __future__ import annotations

import heapq
from itertools import islice
from typing import TYPE_CHECKING, Final

from ratectl.cluster.protocol.large_costs import LargeCosts
from ratectl.cluster.protocol.left_shares import LeftShares
from ratectl.cluster.protocol.messages import (
    Close,
    Closed,
    Granted,
    Open,
    OwnerId,
    Poll,
    PoolId,
    Reply,
    Unknown,
    Welcome,
)
from ratectl.cluster.protocol.openings import Openings
from ratectl.cluster.protocol.pool import LentLimit
from ratectl.cluster.protocol.session import Session
from ratectl.cluster.protocol.sharing import common_gap, fast_gap, idle_stock, share_out
from ratectl.cluster.protocol.timing import SECOND

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ratectl.cluster.protocol.capacity import Lent, Size
    from ratectl.cluster.protocol.messages import Drawn, ToMember, ToOwner
    from ratectl.cluster.protocol.pool import Account, Pool
    from ratectl.cluster.protocol.timing import Timing

__all__ = ["Owner"]

_POOLS_PER_MEMBER: Final = 100_000
"""No member draws from more pools at once: what it says about others is ignored."""
MOST_GRANTED: Final = 4_000
"""Most pools that one answer tells of. The others come next."""


class Owner:
    """Pools of the limits of one shard.

    Two owners of the same shard at once are safe: each pools only what members lend to it.

    :param share_of: the share of a member by the roster, in millionths: no member is believed
        more than that.
    """

    def __init__(
        self,
        name: OwnerId,
        timing: Timing,
        now: int,
        share_of: Callable[[str], int],
    ) -> None:
        self.id = name
        self._timing = timing
        self._share_of = share_of
        self._now = now
        self.sessions: dict[str, Session] = {}
        self.limits: dict[str, LentLimit] = {}
        self._large_costs = LargeCosts(timing.whole_for)
        self._openings = Openings()
        self._due: list[tuple[int, str, int, bool]] = []
        """When a share lapses (True) or a session is void (False); looked at again when due."""
        self._left = LeftShares()
        self._replies = 0
        self._waiting: dict[PoolId, Pool] = {}
        self._shared_at = now
        self._swept_at = now
        self._fast_gap = timing.gap

    @property
    def gap(self) -> int:
        """Time that members should leave between two polls, in nanoseconds."""
        return common_gap(self._fast_gap, len(self.sessions))

    @property
    def is_short(self) -> bool:
        """True if members wait for tokens: each tick gives them what has accrued."""
        return bool(self._waiting)

    @property
    def is_left(self) -> bool:
        """True if no member has a session, or waits for the answer that it has left."""
        return not self.sessions and not self._openings.closing

    def has_heard(self, member: str) -> bool:
        """Return True if a member has a session, or has asked for one lately."""
        return member in self.sessions or member in self._openings

    def receive(self, message: ToOwner, now: int) -> list[ToMember]:
        """Take a message of a member; return the answers."""
        now = self._refresh(now)
        match message:
            case Open():
                return self._open(message, now)
            case Poll():
                return self._poll(message, now)
            case Close():
                return self._close(message)

    def tick(self, now: int) -> list[ToMember]:
        """Share out what has accrued among the members that wait for it."""
        now = self._refresh(now)
        if now - self._swept_at >= SECOND:
            self._swept_at = now
            self._forget_unused(now)
        if now - self._shared_at < self._fast_gap // 2:
            return []
        self._shared_at = now
        served: dict[str, None] = {}
        for name, pool in list(self._waiting.items()):
            lent, was_short = self.limits[name.limit].lent, pool.short
            if name.key and pool.waiting and not pool.has_token(now, lent):
                continue
            pool.settle(now, lent)
            for member in share_out(pool, lent, self._is_live(now)):
                session = self.sessions[member]
                session.untold[name] = session.accounts[name]
                served[member] = None
            if pool.short != was_short:
                self._tell_stock(name, pool)
                if pool.short:
                    served.update(dict.fromkeys(pool.accounts))
            if not pool.waiting and not pool.short:
                del self._waiting[name]
        return [self._reply(self.sessions[member], now) for member in served]

    def _is_live(self, now: int) -> Callable[[str], bool]:
        return lambda member: now < self.sessions[member].polled_at + self._timing.lease

    # Sessions -----------------------------------------------------------------------------------

    def _open(self, message: Open, now: int) -> list[ToMember]:
        replies = self._openings.asked(message)
        if replies is None:
            return []
        self._replies += 1
        replies.append((self._replies, now))
        return [Welcome(message.member, message.session, self.id, self._replies)]

    def _poll(self, poll: Poll, now: int) -> list[ToMember]:
        session = self.sessions.get(poll.member)
        if (
            poll.owner != self.id
            or self._is_over(poll)
            or (session is not None and session.number > poll.session)
        ):
            return [Unknown(poll.member, poll.session, poll.owner)]
        if session is None or session.number < poll.session:
            begun = self._begin(poll, session, now)
            if begun is None:
                return [Unknown(poll.member, poll.session, poll.owner)]
            session = begun
        elif poll.number <= session.poll:
            return []  # repeated or overtaken: the newest poll says it all
        session.polled_at, session.poll = now, poll.number
        self._lend(session, poll, now)
        session.confirm(poll.echo, now - self._timing.lend_for)
        for drawn in poll.drawn:
            self._drawn(session, drawn, now)
        return [self._reply(session, now)]

    def _begin(self, poll: Poll, old: Session | None, now: int) -> Session | None:
        """Return a new session, or None if the poll echoes no fresh welcome."""
        replies = self._openings.begun(poll, now - self._timing.lend_for)
        if replies is None:
            return None
        if old is not None:
            self._void(old)
        session = self.sessions[poll.member] = Session(poll, replies, now)
        heapq.heappush(self._due, (self._void_at(session), poll.member, poll.session, False))
        self._stock_changed()
        return session

    def _is_over(self, message: Poll | Close) -> bool:
        """Return True if a session has ended: nothing can revive it."""
        return self._openings.is_over(message.member, message.session)

    def _close(self, message: Close) -> list[ToMember]:
        session = self.sessions.get(message.member)
        if message.owner != self.id or (session is not None and session.number > message.session):
            return [Unknown(message.member, message.session, message.owner)]
        if session is not None:
            self._void(session)
        if message.member in self._openings:  # otherwise no poll can begin a session
            self._openings.end(message.member, message.session)
        if self._recalls():
            self._openings.closing.add(message.member)
            return []  # the member asks again
        self._openings.closing.discard(message.member)
        left = self._left.of(message.member, message.session, self._now)
        return [Closed(message.member, message.session, self.id, left)]

    def _recalls(self) -> bool:
        return any(limit.lent.recalling for limit in self.limits.values())

    def _reply(self, session: Session, now: int) -> Reply:
        self._replies += 1
        session.replies.append((self._replies, now))
        untold = islice(session.untold.items(), MOST_GRANTED)
        granted = tuple([self._granted(name, account) for name, account in untold])
        recalls = self._recalls()
        # No lease is prolonged while the member does not know of all that is recalled.
        answered = 0 if recalls and len(session.untold) > MOST_GRANTED else session.poll
        return Reply(
            session.member, session.number, self.id, self._replies, answered, self.gap,
            not recalls, granted, self._large_costs.whole(now),
        )  # fmt: skip

    def _granted(self, name: PoolId, account: Account) -> Granted:
        if account.told is None:
            account.told = self._replies
        stock = self._stock(name, account)
        return Granted(
            name, account.draw, account.granted, account.hold, account.scarce, stock,
            account.in_vain,
        )  # fmt: skip

    def _stock(self, name: PoolId, account: Account) -> int:
        limit = self.limits[name.limit]
        pool = limit.pools[name.key]
        if pool.short:
            return 0
        members = len(pool.accounts if name.key else self.sessions)
        return idle_stock(
            limit.lent, members, scarce=account.scarce, free=pool.free, large=pool.large
        )

    def _stock_changed(self) -> None:
        """Tell every member how much it should hold while it has no requests."""
        for name, limit in self.limits.items():
            if (pool := limit.pools.get("")) is not None:
                self._tell_stock(PoolId(name, ""), pool)

    def _tell_stock(self, name: PoolId, pool: Pool) -> None:
        """Tell the members of one pool how much they should hold without requests."""
        for member, account in pool.accounts.items():
            account.told = None
            self.sessions[member].untold[name] = account

    # Lending ------------------------------------------------------------------------------------

    def _lent_at(self, session: Session, poll: Poll, now: int) -> int | None:
        """Return when the answer was sent that a poll echoes."""
        del poll, now
        return session.echoed_at

    def _lend(self, session: Session, poll: Poll, now: int) -> None:
        """Count the member's share until ``lend_for`` after the answer that it echoes."""
        session.echoed_at = session.sent_at(poll.echo)
        lent_at = self._lent_at(session, poll, now)
        share = max(0, min(poll.share, self._share_of(poll.member)))
        sizes = session.sizes if poll.sizes is None else poll.sizes
        is_fresh = lent_at is not None and now < lent_at + self._timing.lend_for
        if lent_at is not None and is_fresh:
            session.lend_until = max(session.lend_until, lent_at + self._timing.lend_for)
        if session.lending:
            self._change(session, share, sizes, now)
            return
        if not is_fresh:
            session.sizes = sizes
            return
        left = self._left.pop(session.member, now)
        brought = left if session.has_lent or poll.lending is None else poll.lending
        session.lending, session.share, session.sizes = True, share, sizes
        session.has_lent, session.steady_since = True, now
        for name, size in sizes.items():
            self._limit(name, now).lend(size, share, brought.get(name), now)
        heapq.heappush(self._due, (session.lend_until, session.member, session.number, True))
        self._fast_gap = fast_gap(self.limits.values(), self._timing)

    def _change(self, session: Session, share: int, sizes: Mapping[str, Size], now: int) -> None:
        if share == session.share and (sizes is session.sizes or sizes == session.sizes):
            return
        old, before = session.sizes, session.share
        unused = session.resize(share, sizes, now)
        for name in {**old, **sizes}:
            limit = self._limit(name, now)
            if name in sizes:
                limit.change(sizes[name], share, now, unused.get(name, 0))
            if name in old:
                limit.change(old[name], -before, now)
            self._tell_capacity(name)
        self._fast_gap = fast_gap(self.limits.values(), self._timing)

    def _unlend(self, session: Session, now: int) -> None:
        if not session.lending:
            return
        session.lending = False
        lending = {}
        for name, size in session.sizes.items():
            lending[name] = self.limits[name].change(size, -session.share, now)
            self._tell_capacity(name)
        self._left.add(session.member, session.number, lending, now)

    def _tell_capacity(self, limit: str) -> None:
        """Tell members what changes for them with the capacity of a limit."""
        lent = self.limits[limit].lent
        for key, pool in self.limits[limit].pools.items() if lent.recalling else ():
            if pool.recalling:
                for member, account in pool.accounts.items():
                    self.sessions[member].untold[PoolId(limit, key)] = account
        for name, member, account in self._large_costs.changed(limit, lent):
            account.told = None
            self.sessions[member].untold[name] = account

    def _void(self, session: Session) -> None:
        """End a session: what the member held counts as spent."""
        del self.sessions[session.member]
        self._openings.end(session.member, session.number)
        for name in session.accounts:
            limit = self.limits[name.limit]
            limit.pools[name.key].settle(self._now, limit.lent)
            limit.pools[name.key].void(session.member, limit.lent)
        self._unlend(session, self._now)
        self._stock_changed()

    def _void_at(self, session: Session) -> int:
        return session.polled_at + self._timing.void_after

    def _refresh(self, now: int) -> int:
        """Let shares lapse and sessions end that are due, in the order of time; return the time.

        It never runs backwards, even if callers read their clocks in another order.
        """
        while self._due and self._due[0][0] <= now:
            at, member, number, lapses = heapq.heappop(self._due)
            session = self.sessions.get(member)
            if session is None or session.number != number or (lapses and not session.lending):
                continue
            due = session.lend_until if lapses else self._void_at(session)
            if due > at:
                heapq.heappush(self._due, (due, member, number, lapses))
                continue
            self._now = max(self._now, at)
            if lapses:
                self._unlend(session, self._now)
            else:
                self._void(session)
        self._now = max(self._now, now)
        return self._now

    def _forget_unused(self, now: int) -> None:
        """Drop pools, limits and members that make no difference any more."""
        for name, pool in list(self._waiting.items()):
            if not pool.accounts:
                del self._waiting[name]
        self._large_costs.forget_unused()
        lent = {name for session in self.sessions.values() for name in session.sizes}
        for limit_name, limit in list(self.limits.items()):
            limit.forget_unused(now)
            if not limit.pools and limit_name not in lent:
                del self.limits[limit_name]
        self._left.forget(now - 2 * self._timing.resume_after)  # members use their shares by then
        self._openings.forget(now - self._timing.lend_for, self.sessions)

    # Pools --------------------------------------------------------------------------------------

    def _limit(self, name: str, now: int) -> LentLimit:
        limit = self.limits.get(name)
        if limit is None:
            limit = self.limits[name] = LentLimit(now)
        return limit

    def _account(self, session: Session, drawn: Drawn, pool: Pool, lent: Lent) -> Account | None:
        """Return the account of a draw, which may be new; None if the draw is over."""
        account = session.accounts.get(drawn.pool)
        if account is not None and account.draw >= drawn.draw:
            return account if account.draw == drawn.draw else None
        if account is not None:
            pool.void(session.member, lent)
        account = session.accounts[drawn.pool] = pool.begin(session.member, drawn.draw)
        if drawn.pool.key:
            self._tell_stock(drawn.pool, pool)
        return account

    def _drawn(self, session: Session, drawn: Drawn, now: int) -> None:
        name = drawn.pool
        if name not in session.accounts and len(session.accounts) >= _POOLS_PER_MEMBER:
            return
        limit = self._limit(name.limit, now)
        pool = limit.pool(name.key, now)
        account = self._account(session, drawn, pool, limit.lent)
        if account is None:
            return
        pool.report(account, drawn, limit.lent)
        if drawn.refunded > account.refunded and session.echoed_at is not None:
            charged_at = session.echoed_at - self._timing.stretched(max(0, drawn.refunded_after))
            pool.refund(account, drawn.refunded, charged_at, limit.lent)
        most = limit.lent.most
        account.want, account.least = drawn.want, drawn.least
        self._large_costs.note(name, pool, account, limit.lent, now)
        if pool.note_large(account.least, self._timing.large_for):
            self._tell_stock(name, pool)
        standing = not name.key and name.limit in session.sizes
        if account.want == account.least == account.held == 0 and not standing:
            session.forget(name)
            pool.end(session.member)
            if name.key:
                self._tell_stock(name, pool)
            return
        if not pool.waiting.keys() - {session.member}:
            pool.grant(account, account.missing(most))
        account.scarce = account.missing(most) > 0
        if account.scarce:
            pool.waiting[session.member] = account
            self._waiting[name] = pool
        else:
            pool.waiting.pop(session.member, None)
        account.told = None
        session.untold[name] = account
