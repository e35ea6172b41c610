"""The owner's side: it pools the shares that members lend, and hands out tokens."""

from __future__ import annotations

import heapq
from collections import deque
from typing import TYPE_CHECKING, Final

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
from ratectl.cluster.protocol.pool import Account, LentLimit, Pool
from ratectl.cluster.protocol.sharing import idle_stock, share_out
from ratectl.cluster.protocol.timing import SECOND

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ratectl.cluster.protocol.capacity import Size
    from ratectl.cluster.protocol.messages import Drawn, ToMember, ToOwner
    from ratectl.cluster.protocol.timing import Timing

__all__ = ["Owner"]

_POLLS_PER_SECOND: Final = 5_000


class Session:
    """One member at this owner, from its first poll until it ends or is silent for too long."""

    def __init__(self, poll: Poll, replies: deque[tuple[int, int]], now: int) -> None:
        self.member = poll.member
        self.number = poll.session
        self.share = 0
        self.sizes: Mapping[str, Size] = {}
        self.lending = False
        self.has_lent = False
        """What the member brings is counted once."""
        self.lend_until = 0
        self.polled_at = now
        self.poll = 0
        """Number of the newest poll."""
        self.accounts: dict[PoolId, Account] = {}
        self.untold: dict[PoolId, Account] = {}
        """Accounts with something that the member has not confirmed."""
        self.replies = replies
        """Number and time of the answers that a poll may still echo."""

    def sent_at(self, reply: int) -> int | None:
        """Return when an answer was sent. None: it is not known any more."""
        for number, at in self.replies:
            if number == reply:
                return at
        return None

    def confirm(self, echo: int, forget_before: int) -> None:
        """Drop what a member has confirmed with an echo, and answers too old to be echoed."""
        for pool, account in list(self.untold.items()):
            if account.told is not None and account.told <= echo:
                del self.untold[pool]
        while self.replies and (self.replies[0][0] < echo or self.replies[0][1] < forget_before):
            self.replies.popleft()


class Owner:
    """Pools of the limits of one shard.

    Two owners of the same shard at once are safe: each pools only what members lend to it.

    :param share_of: the share of a member by the roster, in millionths: no member is believed
        more than that.
    """

    def __init__(
        self, name: OwnerId, timing: Timing, now: int, share_of: Callable[[str], int]
    ) -> None:
        self.id = name
        self._timing = timing
        self._share_of = share_of
        self._now = now
        self.sessions: dict[str, Session] = {}
        self.limits: dict[str, LentLimit] = {}
        self._opened: dict[str, tuple[int, deque[tuple[int, int]]]] = {}
        self._ended: dict[str, int] = {}
        """Newest session of each member that has ended. A late poll must not revive it: what it
        returned would be credited twice."""
        self._due: list[tuple[int, str, int, bool]] = []
        """When a share lapses (True) or a session is void (False); looked at again when due."""
        self._replies = 0
        self._waiting: dict[PoolId, Pool] = {}
        self._shared_at = now
        self._swept_at = now
        self._fast_gap = timing.gap

    @property
    def gap(self) -> int:
        """How long members should leave between two polls, in nanoseconds."""
        return max(self._fast_gap, len(self.sessions) * SECOND // _POLLS_PER_SECOND)

    def receive(self, message: ToOwner, now: int) -> list[ToMember]:
        """Take a message of a member; return the answers."""
        self._refresh(now)
        match message:
            case Open():
                return self._open(message, now)
            case Poll():
                return self._poll(message, now)
            case Close():
                return self._close(message)

    def tick(self, now: int) -> list[ToMember]:
        """Share out what has accrued among the members that wait for it."""
        self._refresh(now)
        if now - self._swept_at >= SECOND:
            self._swept_at = now
            for limit in self.limits.values():
                limit.forget_unused(now)
        if now - self._shared_at < self._fast_gap // 2:
            return []
        self._shared_at = now
        served: dict[str, None] = {}
        for name, pool in list(self._waiting.items()):
            pool.settle(now, self.limits[name.limit].lent)
            for member in share_out(pool, self._is_live(now)):
                session = self.sessions[member]
                session.untold[name] = session.accounts[name]
                served[member] = None
            if not pool.waiting:
                del self._waiting[name]
        return [self._reply(self.sessions[member], now) for member in served]

    def _is_live(self, now: int) -> Callable[[str], bool]:
        return lambda member: now < self.sessions[member].polled_at + self._timing.lease

    # Sessions -----------------------------------------------------------------------------------

    def _open(self, message: Open, now: int) -> list[ToMember]:
        number, replies = self._opened.get(message.member, (0, deque()))
        if message.session < number or message.session <= self._ended.get(message.member, 0):
            return []
        if message.session > number:
            replies = deque()
            self._opened[message.member] = (message.session, replies)
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
        opened, replies = self._opened.get(poll.member, (0, deque()))
        if opened != poll.session or not any(
            number == poll.echo and now < at + self._timing.lend_for for number, at in replies
        ):
            return None
        if old is not None:
            self._void(old)
        session = self.sessions[poll.member] = Session(poll, replies, now)
        heapq.heappush(self._due, (self._void_at(session), poll.member, poll.session, False))
        self._stock_changed()
        return session

    def _is_over(self, message: Poll | Close) -> bool:
        """Return True if a session has ended: nothing can revive it."""
        return message.session <= self._ended.get(message.member, 0)

    def _close(self, message: Close) -> list[ToMember]:
        session = self.sessions.get(message.member)
        if message.owner != self.id or (session is not None and session.number > message.session):
            return [Unknown(message.member, message.session, message.owner)]
        if session is not None:
            self._void(session)
        self._ended[message.member] = max(self._ended.get(message.member, 0), message.session)
        if self._recalls():
            return []  # the member asks again
        return [Closed(message.member, message.session, self.id)]

    def _recalls(self) -> bool:
        return any(
            pool.recalling for limit in self.limits.values() for pool in limit.pools.values()
        )

    def _reply(self, session: Session, now: int) -> Reply:
        self._replies += 1
        session.replies.append((self._replies, now))
        granted = []
        for name, account in session.untold.items():
            if account.told is None:
                account.told = self._replies
            stock = self._stock(name, account)
            granted.append(
                Granted(name, account.draw, account.granted, account.hold, account.scarce, stock)
            )
        return Reply(
            session.member,
            session.number,
            self.id,
            self._replies,
            session.poll,
            self.gap,
            tuple(granted),
        )

    def _stock(self, name: PoolId, account: Account) -> int:
        lent = self.limits[name.limit].lent
        return idle_stock(name, lent, len(self.sessions), scarce=account.scarce)

    def _stock_changed(self) -> None:
        """Tell every member how much it should hold while it has no requests."""
        for session in self.sessions.values():
            for name, account in session.accounts.items():
                if not name.key:
                    account.told = None
                    session.untold[name] = account

    # Lending ------------------------------------------------------------------------------------

    def _lent_at(self, session: Session, poll: Poll, now: int) -> int | None:
        """Return when the answer was sent that a poll echoes."""
        del now
        return session.sent_at(poll.echo)

    def _lend(self, session: Session, poll: Poll, now: int) -> None:
        """Count the member's share until ``lend_for`` after the answer that it echoes."""
        lent_at = self._lent_at(session, poll, now)
        share = min(poll.share, max(0, self._share_of(poll.member)))
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
        brings, session.has_lent = not session.has_lent, True
        session.lending, session.share, session.sizes = True, share, sizes
        for name, size in sizes.items():
            brought = poll.lending.get(name) if brings else None
            self._limit(name, now).lend(size, share, brought, now)
        heapq.heappush(self._due, (session.lend_until, session.member, session.number, True))
        self._find_gap()

    def _change(self, session: Session, share: int, sizes: Mapping[str, Size], now: int) -> None:
        if share == session.share and (sizes is session.sizes or sizes == session.sizes):
            return
        old, session.sizes = session.sizes, sizes
        before, session.share = session.share, share
        for name in {**old, **sizes}:
            limit = self._limit(name, now)
            if name in sizes:
                limit.change(sizes[name], share, now)
            if name in old:
                limit.change(old[name], -before, now)
            self._tell_recall(name)
        self._find_gap()

    def _unlend(self, session: Session, now: int) -> None:
        if not session.lending:
            return
        session.lending = False
        for name, size in session.sizes.items():
            self.limits[name].change(size, -session.share, now)
            self._tell_recall(name)

    def _tell_recall(self, limit: str) -> None:
        for key, pool in self.limits[limit].pools.items():
            if pool.recalling:
                for member, account in pool.accounts.items():
                    self.sessions[member].untold[PoolId(limit, key)] = account

    def _void(self, session: Session) -> None:
        """End a session: what the member held counts as spent."""
        del self.sessions[session.member]
        self._ended[session.member] = max(self._ended.get(session.member, 0), session.number)
        for name in session.accounts:
            limit = self.limits[name.limit]
            limit.pools[name.key].settle(self._now, limit.lent)
            limit.pools[name.key].void(session.member, limit.lent)
        self._unlend(session, self._now)
        self._stock_changed()

    def _void_at(self, session: Session) -> int:
        return session.polled_at + self._timing.void_after

    def _refresh(self, now: int) -> None:
        """Let shares lapse and sessions end that are due, in the order of time."""
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

    def _find_gap(self) -> None:
        """Find the gap between polls: a tenth of the time in which the smallest pool fills."""
        gap = self._timing.gap
        for limit in self.limits.values():
            if limit.lent.rate > 0:
                gap = min(gap, limit.lent.capacity // (10 * limit.lent.rate))
        self._fast_gap = max(gap, self._timing.shortest_gap)

    # Pools --------------------------------------------------------------------------------------

    def _limit(self, name: str, now: int) -> LentLimit:
        limit = self.limits.get(name)
        if limit is None:
            limit = self.limits[name] = LentLimit(now)
        return limit

    def _drawn(self, session: Session, drawn: Drawn, now: int) -> None:
        name = drawn.pool
        limit = self._limit(name.limit, now)
        pool = limit.pool(name.key, now)
        account = session.accounts.get(name)
        if account is None or account.draw < drawn.draw:
            if account is not None:
                pool.void(session.member, limit.lent)
            account = session.accounts[name] = pool.accounts[session.member] = Account(drawn.draw)
        elif account.draw > drawn.draw:
            return
        pool.report(account, drawn, limit.lent)
        account.want, account.least = drawn.want, drawn.least
        if account.want == 0 and account.held == 0:
            self._forget(session, name, pool)
            return
        if not pool.waiting.keys() - {session.member}:
            pool.grant(account, account.missing)
        account.scarce = account.missing > 0
        if account.scarce:
            pool.waiting[session.member] = account
            self._waiting[name] = pool
        else:
            pool.waiting.pop(session.member, None)
        account.told = None
        session.untold[name] = account

    @staticmethod
    def _forget(session: Session, name: PoolId, pool: Pool) -> None:
        """Drop the account of a member that has no interest in a pool any more."""
        del session.accounts[name], pool.accounts[session.member]
        session.untold.pop(name, None)
        pool.waiting.pop(session.member, None)
