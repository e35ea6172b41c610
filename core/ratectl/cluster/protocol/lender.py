"""The member's side: it lends its share to one owner, and spends the tokens that it gets."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final, Protocol

from ratectl.cluster.protocol.capacity import WHOLE
from ratectl.cluster.protocol.draw import Draw
from ratectl.cluster.protocol.member_session import MemberSession
from ratectl.cluster.protocol.messages import (
    Close,
    Closed,
    Open,
    Poll,
    Reply,
    Unknown,
    Welcome,
)
from ratectl.cluster.protocol.timing import FOREVER

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ratectl.cluster.protocol.capacity import Size
    from ratectl.cluster.protocol.messages import (
        Drawn,
        Granted,
        Lending,
        OwnerId,
        PoolId,
        ToMember,
        ToOwner,
    )
    from ratectl.cluster.protocol.timing import Timing
    from ratectl.cluster.protocol.wallets import Wallets

__all__ = ["Lender", "Own"]

MOST_DRAWN: Final = 2_000
"""Most pools that one poll tells of. The others come next."""


class Own(Protocol):
    """Buckets of a member's own share, for the time that it is not lent."""

    def lend(self, now: int) -> Mapping[str, Lending]:
        """Empty the buckets; return what was in them, by limit."""

    def resume(self, now: int, left: Mapping[str, Lending]) -> None:
        """Fill the buckets from now on.

        :param left: what an owner gave back, by limit. A limit that is not there has no token.
        """


class Lender:
    """A member's share of the limits of one shard, and the tokens it has for it.

    The share is at one place at every instant: the member uses it itself (``lent`` is False), or
    one owner may count it. After it was lent, the member uses it again when no owner counts it
    and all tokens given out for it are spent or void, which is ``resume_after`` after the last
    poll that could prolong it.

    :param last_session: number of the newest session of this member, also before a restart.
    :param resume_at: the member has restarted, and nobody knows what it lent before: it waits
        until then. None: it has never lent anything.
    """

    def __init__(
        self,
        member: str,
        timing: Timing,
        wallets: Wallets,
        own: Own,
        *,
        last_session: int = 0,
        resume_at: int | None = None,
    ) -> None:
        self.member = member
        self.share = 0
        self.counted = 0 if resume_at is None else WHOLE
        """Largest share that the owner or the member itself may still count (millionths)."""
        self.sizes_settled = True
        """Nobody counts sizes that were in force before."""
        self.lend_until = FOREVER
        """The member sends no poll from then on: its entry in the roster may end."""
        self.lent = resume_at is not None
        self.session: MemberSession | None = None
        self.whole: tuple[str, ...] = ()
        """Limits of which the owner asks the member to lend all."""
        self._timing = timing
        self._wallets = wallets
        self._own = own
        self._sizes: Mapping[str, Size] = {}
        self._standing: dict[PoolId, None] = {}
        self._last_session = last_session
        self._asked_for: int | None = None
        """Session that the member has asked for: the first answer begins it, and no other."""
        self._resume_at = resume_at or 0
        self._lent_to: OwnerId | None = None
        self._arrived = False
        """The owner has answered a poll since the share was lent: it has what the share brought."""
        self._lending: Mapping[str, Lending] | None = {}
        self._left: Mapping[str, Lending] = {}
        """What an owner has given back."""
        self._opened_at = -FOREVER
        self._draws = 0
        self._closing: Close | None = None

    # Events -------------------------------------------------------------------------------------

    def set_sizes(self, sizes: Mapping[str, Size], standing: tuple[PoolId, ...] = ()) -> None:
        """Change the sizes of the limits, by name: a new generation is in force.

        :param standing: pools of which the member holds some tokens all the time.
        """
        self._sizes, self._standing = sizes, dict.fromkeys(standing)
        self.sizes_settled = not self.lent
        if self.session is not None:
            self.session.sizes_in = 0

    def set_share(self, share: int) -> None:
        """Change the share. A smaller one may be given away when ``counted`` is as small."""
        self.share = share
        self.counted = share if not self.lent else max(share, self.counted)
        if self.session is not None:
            self.session.share_in = 0

    def tick(self, now: int, owner: str | None) -> list[ToOwner]:
        """Do what is due; return the messages for the owner.

        :param owner: name of the owner to lend to by the roster's hint, which may be wrong.
        """
        if self.session is not None and (now >= self._wallets.deadline or now >= self.lend_until):
            self._end(now)
        if self.lent and self.session is None and now >= self._resume_at:
            self.lent, self._lent_to, self._closing = False, None, None
            self.counted = self.share
            self.sizes_settled = True
            left, self._left = self._left, {}
            self._own.resume(now, left)
        if self.session is not None:
            if owner is not None and owner != self.session.owner.name:
                return self.close(now)  # one owner pools everything: not two of them for ever
            return self._poll_if_due(now)
        if now - self._opened_at < self._timing.poll_every // 3:
            return []
        self._opened_at = now
        if self._closing is not None:
            return [self._closing]
        if owner is None or now >= self.lend_until or not self._may_lend_to_name(owner):
            return []
        if self._asked_for is None:
            self._last_session += 1
            self._asked_for = self._last_session
        return [Open(self.member, self._asked_for, owner)]

    def receive(self, message: ToMember, now: int) -> list[ToOwner]:
        """Take a message of an owner; return the answers."""
        match message:
            case Welcome():
                return self._welcome(message, now)
            case Reply():
                return self._reply(message, now)
            case Closed():
                if self._closing is not None and self._closing.session == message.session:
                    self._resume_at, self._left = now, message.lending
            case Unknown():
                session = self.session
                if session is not None and (session.number, session.owner) == (
                    message.session,
                    message.owner,
                ):
                    self._end(now)
        return []

    def close(self, now: int) -> list[ToOwner]:
        """Take the share back from the owner, before its lease ends."""
        session = self.session
        if session is None:
            return []
        self._end(now)
        self._closing = Close(self.member, session.number, session.owner)
        self._opened_at = now
        return [self._closing]

    # Lending ------------------------------------------------------------------------------------

    def _may_lend_to_name(self, owner: str) -> bool:
        return not self.lent or (self._lent_to is not None and self._lent_to.name == owner)

    def _may_lend_to(self, owner: OwnerId, now: int) -> bool:
        """Return True if no other owner can still count the share."""
        return not self.lent or self._lent_to == owner or now >= self._resume_at

    def _welcome(self, message: Welcome, now: int) -> list[ToOwner]:
        if (
            self.session is not None
            or message.session != self._asked_for
            or self._closing is not None
            or now >= self.lend_until
            or not self._may_lend_to(message.owner, now)
        ):
            return []
        self._asked_for = None
        self._lending = self._brought(message.owner, now)
        self.lent, self._lent_to = True, message.owner
        self.session = MemberSession(message.session, message.owner, message.reply, self._timing)
        self._wallets.deadline = now + self._timing.lease  # nothing is in them
        return self._poll(self.session, now)

    def _brought(self, owner: OwnerId, now: int) -> Mapping[str, Lending] | None:
        """Return the tokens of its own buckets, which the member brings: once.

        None: the owner has had the share last.
        """
        if not self.lent:
            self._arrived = False
            return self._own.lend(now)
        return None if self._arrived and self._lent_to == owner else {}

    def _end(self, now: int) -> None:
        """End the session: tokens that the member holds are void."""
        session, self.session = self.session, None
        if session is None:
            return
        for pool in session.draws if now < self._wallets.deadline else ():
            self._wallets.keep(pool)
        self._wallets.deadline = now
        for pool in session.draws:
            self._wallets.take(pool, FOREVER)
            self._wallets.drop(pool)

    # Polls --------------------------------------------------------------------------------------

    def _poll_if_due(self, now: int) -> list[ToOwner]:
        session = self.session
        if session is None or now >= self.lend_until:
            return []
        self._look_at_touched(session, now)
        since = now - session.polled_at
        if session.waits and since < self._timing.repeat_after:
            return []
        if since >= self._timing.poll_every or any(
            session.draws[pool].is_due(self._wallets.read(pool), since, session.gap)
            for pool in session.touched
        ):
            return self._poll(session, now)
        return []

    def _look_at_touched(self, session: MemberSession, now: int) -> None:
        for pool in (*self._wallets.touched(), *self._standing):
            draw = session.draws.get(pool)
            if draw is None or draw.is_final:
                self._draws += 1
                session.draws[pool] = Draw(self._draws, self._wallets.read(pool), self._timing, now)
                session.work(pool)
            else:
                draw.used_at = now
            session.touched[pool] = None

    def _poll(self, session: MemberSession, now: int) -> list[ToOwner]:
        if now >= self.lend_until:
            return []
        self._look_at_touched(session, now)
        session.poll += 1
        session.sent.append((session.poll, now))
        session.sizes_in = session.sizes_in or session.poll
        session.share_in = session.share_in or session.poll
        if session.echo != session.echoed:
            session.echoed = session.echo
            self._resume_at = now + self._timing.resume_after
        for pool, refund in self._wallets.refunds().items():
            if pool in session.draws:
                session.draws[pool].refund(refund, session.poll)
        drawn = self._drawn(session, now)
        session.polled_at = now
        return [
            Poll(
                self.member,
                session.number,
                session.owner,
                session.poll,
                session.echo,
                self.share,
                self._sizes if session.sizes_in > session.answered else None,
                self._lending if session.answered == 0 else {},
                drawn,
            )
        ]

    def _drawn(self, session: MemberSession, now: int) -> tuple[Drawn, ...]:
        """Return what a poll says about pools: those that were asked for, those of which the owner
        has not confirmed all, and of the others so many that each has a turn in time."""
        horizon = self._timing.horizon(session.gap, session.round_trip)
        due = list({**session.untold, **session.touched, **self._turns(session, now)})
        drawn = []
        for pool in due[:MOST_DRAWN]:
            session.touched.pop(pool, None)
            draw = session.draws[pool]
            interest, standing = self._interest(pool), pool in self._standing
            told = draw.report(
                self._wallets, pool, session.poll, session.answered, now, horizon, interest,
                standing=standing,
            )  # fmt: skip
            if draw.is_final:
                session.ending[pool] = None
            if told is not None:
                session.untold[pool] = None
                drawn.append(told)
                session.work(pool)
                continue
            session.untold.pop(pool, None)
            if draw.is_calm and not standing:
                session.rest(pool, draw.used_at + interest)
            else:
                session.work(pool)
        return tuple(drawn)

    def _interest(self, pool: PoolId) -> int:
        """Return for how long the member holds tokens of a key that it is not asked for."""
        size = self._sizes.get(pool.limit)
        return self._timing.interest if size is None else self._timing.interest_in(size)

    def _turns(self, session: MemberSession, now: int) -> dict[PoolId, None]:
        """Return the draws that have a turn, for the time since the last poll."""
        since = min(now - session.turned_at, self._timing.poll_every)
        session.turned_at = now
        count = -(-len(session.in_turn) * since // self._timing.poll_every)
        turns = dict.fromkeys(islice(session.in_turn, count))
        for pool in turns:
            session.in_turn.move_to_end(pool)
        return {**dict.fromkeys(session.rested(now)), **turns}

    def _reply(self, message: Reply, now: int) -> list[ToOwner]:
        session = self.session
        if session is None or (message.session, message.owner) != (session.number, session.owner):
            return []
        if now >= self._wallets.deadline:
            self._end(now)  # what it holds is void already: nothing may revive it
            return []
        if message.number <= session.echo:
            return []  # repeated or overtaken: the newest answer says it all
        for granted in message.granted:
            self._granted(session, granted)
        self._prolong(session, message.poll, now)
        if message.settled and 0 < session.share_in <= message.poll:
            self.counted = self.share
        if message.settled and 0 < session.sizes_in <= message.poll:
            self.sizes_settled = True
        session.echo = message.number
        session.gap = message.gap
        self.whole = message.whole
        return self._poll_if_due(now)

    def _granted(self, session: MemberSession, granted: Granted) -> None:
        draw = session.draws.get(granted.pool)
        if draw is None or draw.number != granted.draw:
            return
        more = draw.grant(granted)
        session.touched[granted.pool] = None
        if granted.hold is not None:
            excess = self._wallets.read(granted.pool).tokens + more - granted.hold
            if excess > 0:
                kept = max(0, more - excess)
                draw.void(more - kept + self._wallets.take(granted.pool, excess - more + kept))
                more = kept
        if more > 0:
            self._wallets.add(granted.pool, more)

    def _prolong(self, session: MemberSession, poll: int, now: int) -> None:
        """Prolong the lease: it counts from the time when the answered poll was sent."""
        while session.sent and session.sent[0][0] < poll:
            session.sent.popleft()
        if not session.sent or session.sent[0][0] != poll:
            return
        sent = session.sent[0][1]
        if poll > session.answered:
            session.answered = poll
            self._arrived = True
            session.round_trip = min(
                max(now - sent, self._timing.shortest_gap // 10), self._timing.poll_every
            )
            self._end_draws(session, poll)
        self._wallets.deadline = max(self._wallets.deadline, self._lease_from(sent, now))

    def _end_draws(self, session: MemberSession, answered: int) -> None:
        """Forget the draws that are over, as the owner has confirmed."""
        for pool in list(session.ending):
            draw = session.draws.get(pool)
            if draw is not None and draw.is_over(answered):
                session.forget(pool)
                self._wallets.drop(pool)
            elif draw is not None and draw.is_final:
                continue
            del session.ending[pool]

    def _lease_from(self, sent: int, now: int) -> int:
        del now
        return sent + self._timing.lease
