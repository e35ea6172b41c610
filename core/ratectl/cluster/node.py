"""One process of the cluster: its member, its owner if it is one, and the links to others.

One thread runs it. It never waits for the store: the ``Keeper`` does that.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

from ratectl.cluster.own_share import OwnShare
from ratectl.cluster.owning import Owning
from ratectl.cluster.protocol.lender import Lender
from ratectl.cluster.protocol.messages import Close, Open, Poll, PoolId, Reply
from ratectl.cluster.protocol.timing import MILLISECOND, SECOND
from ratectl.cluster.reach import Reach
from ratectl.cluster.wallets import EngineWallets
from ratectl.engine.algorithms.pooled import LONG_AGO
from ratectl.errors import UsageError
from ratectl.runtime.address import parse_address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ratectl.cluster.keeper import Keeper, Standing
    from ratectl.cluster.pools import PooledLimits
    from ratectl.cluster.protocol.messages import ToMember, ToOwner
    from ratectl.cluster.protocol.owner import Owner
    from ratectl.cluster.protocol.timing import Timing
    from ratectl.cluster.transport.links import Links
    from ratectl.engine.api import Engine
    from ratectl.records import OwnerHint

__all__ = ["Node"]

_BUSY: Final = 4 * MILLISECOND
"""How often the thread looks at wallets that are used,"""
_IDLE: Final = 25 * MILLISECOND
"""at those that are not,"""
_ASLEEP: Final = 100 * MILLISECOND
"""and at those that were not for long."""
_ADDRESSES: Final = 16
_STORE_LOST: Final = 2 * SECOND
"""An entry that is too old for so long is not renewed because the store cannot be used."""
_CALM: Final = 1 * SECOND
"""Wallets that did not change for so long are not used."""
_LONG: Final = 10 * SECOND


class Node:
    """Runs the member and the owner of one process. The keeper has joined the roster before."""

    def __init__(
        self,
        engine: Engine,
        limits: PooledLimits,
        keeper: Keeper,
        links: Links,
        timing: Timing,
        clock: Callable[[], int],
        *,
        full: bool,
        secret: bytes,
    ) -> None:
        """``full``: nobody has used the limits before: their buckets begin full.

        ``secret``: all members number keys under it.
        """
        self._limits = limits
        self._keeper = keeper
        self._links = links
        self._timing = timing
        self._clock = clock
        self._wallets = EngineWallets(engine)
        self._own = OwnShare(self._wallets, clock, full=full)
        self.lender = Lender(links.name, timing, self._wallets, self._own)
        self._owning = Owning(links.name, keeper, timing, clock)
        self.owned = self._owning.limits
        self.tally = self._owning.tally
        self._reach = Reach()
        self.answered_at: int | None = None
        """When an owner has answered the last time."""
        self._changes = -1
        self._addresses: dict[str, str] = {}
        """Addresses of the newest owners, by name."""
        self._over_since: int | None = None
        """Since when the entry in the roster is too old, as far as this thread knows."""
        share = keeper.standing.share if keeper.standing else 0
        self._lends_from = clock() + (2 * keeper.look_every if share else 0)
        """An owner elsewhere has read the share in the roster by then, and counts it. Otherwise it
        would have no room for the tokens that this process brings."""
        limits.begin_share(share, secret)
        self._used = 0
        self._used_at = clock()
        self._stopping = False

    def run(self, note: Callable[[str | None], None]) -> None:
        """Work until ``stop``, until the member's entry is lost, or until no limit is in force.

        :param note: called when a problem begins that does no harm yet, and when it ends (None).
        """
        noted = None
        while not (self._stopping or self._keeper.lost) and self._limits.in_force():
            problem = self._keeper.problem
            if problem is None and self._over_since is not None:
                problem = "the entry in the roster has not been renewed for too long"
            problem = problem or self.unreached()
            if problem != noted:
                note(problem)
                noted = problem
            self.round(self._pause())

    def stop(self) -> None:
        """Ask the thread to end."""
        self._stopping = True
        self._links.wake()

    def wake(self) -> None:
        """End the wait between two rounds."""
        self._links.wake()

    # Rounds -------------------------------------------------------------------------------------

    def round(self, wait: int) -> None:
        """Take what peers have sent for at most so many nanoseconds, and do what is due."""
        received = self._links.poll(wait / SECOND)
        now = self._clock()
        standing = self._keeper.standing
        assert standing is not None
        self._obey(standing, now)
        for _, message in received:
            self._take(message, now)
        self._send(self.lender.tick(now, self._owner_for(standing.hint.owner, now)), now)
        self._answer(self._owning.tick(now), now)
        if self._owning.sessions > 1:
            self._reach.met()
        self._owning.look(now)
        lost = self._is_store_lost(standing, now)
        until = now + SECOND if lost else standing.use_until
        self._own.tick(now, until)
        part = self._limits.share_in_force
        owned = standing.roster.share_of(self._links.name)
        # Before plans follow the roster, they may have the part of a parent, or of an old entry.
        self._wallets.use_own_part_until(until if part <= owned else LONG_AGO)
        counted = max(self.lender.counted, part)
        self._keeper.seen = standing.number, counted
        if self.lender.session is not None:
            self._keeper.reached_at = now
            self._reach.answered(self.lender.session.owner.name)

    def _owner_for(self, hint: OwnerHint | None, now: int) -> str | None:
        """Return the name of the owner to lend the share to; None: use it here."""
        if hint is None or (hint.member != self._links.name and now < self._lends_from):
            return None
        return hint.owner

    @property
    def owner(self) -> Owner | None:
        """The owner of this process; None if it is none."""
        return self._owning.owner

    @property
    def members(self) -> int:
        """Number of members that share the limits, as this process knows it."""
        standing = self._keeper.standing
        return 0 if standing is None else standing.roster.sharing

    @property
    def owner_elsewhere(self) -> str | None:
        """Member that the store names as the owner; None if it is this one, or nobody."""
        standing = self._keeper.standing
        hint = None if standing is None else standing.hint.owner
        return None if hint is None or hint.member == self._links.name else hint.member

    def unreached(self) -> str | None:
        """Return a sentence about an owner in another process that does not answer; or None."""
        owner = self._reach.unreached(self._clock())
        if owner is None:
            return None
        try:
            reason = self._links.problem(parse_address(owner.address))
        except UsageError as error:
            reason = str(error)
        text = f"the owner {owner.member} at {owner.address} does not answer"
        return f"{text}: {reason}" if reason else text

    def _is_store_lost(self, standing: Standing, now: int) -> bool:
        """Return True if the store has been lost for longer than the entry lasts.

        The member then goes on with its own share: all members together still have one limit,
        unless one that reaches the store removes the entry. A process that was stopped finds an old
        entry as well: it waits until its keeper had the time to read the store.
        """
        if now < standing.use_until:
            self._over_since = None
        elif self._over_since is None:
            self._over_since = now
        return self._over_since is not None and now - self._over_since >= _STORE_LOST

    def _pause(self) -> int:
        """Return the longest time until the next round, in nanoseconds."""
        if self._owning.is_short:
            return _BUSY
        used = self._wallets.activity
        now = self._clock()
        if used != self._used:
            self._used, self._used_at = used, now
        unused = now - self._used_at
        return _BUSY if unused < _CALM else _IDLE if unused < _LONG else _ASLEEP

    def _obey(self, standing: Standing, now: int) -> None:
        """Take over what the store and the policies say."""
        self.lender.lend_until = standing.lend_until
        changes = self._limits.changes  # before the limits: they may change at any moment
        if changes != self._changes:
            self._wallets.follow(self._limits.in_force())
        if changes != self._changes or standing.share != self.lender.share:
            self._changes = changes
            sizes = {pool: limit.size for pool, limit in self._wallets.limits.items()}
            keyed = self._wallets.keyed
            self._limits.want_share(standing.share)
            self._own.change(standing.share, sizes, now, keyed)
            self.lender.set_share(standing.share)
            plain = tuple(PoolId(pool, "") for pool in sizes if pool not in keyed)
            self.lender.set_sizes(sizes, plain)
        self._follow_hint(standing, now)

    def _follow_hint(self, standing: Standing, now: int) -> None:
        hint = standing.hint.owner
        if hint is None or hint.member == self._links.name:
            self._reach.left()
        if hint is None:
            return
        if self._addresses.get(hint.owner) != hint.address:
            self._addresses[hint.owner] = hint.address
            while len(self._addresses) > _ADDRESSES:
                del self._addresses[next(iter(self._addresses))]
        self._owning.follow(hint, now)

    # Messages -----------------------------------------------------------------------------------

    def _send(self, messages: Iterable[ToOwner], now: int) -> None:
        for message in messages:
            self.tally.polls_sent += isinstance(message, Poll)
            if isinstance(message, Open):
                standing = self._keeper.standing
                hint = standing.hint.owner if standing else None
                owner = hint.owner if hint else ""
                if hint is not None and hint.member != self._links.name:
                    self._reach.asks(hint, now)
            else:
                owner = message.owner.name
            if self.owner is not None and owner == self.owner.id.name:
                self._own_up(message, now)
            elif address := self._addresses.get(owner):
                with suppress(UsageError):  # whoever wrote it: it names no owner that answers
                    self._links.send(parse_address(address), message)

    def _take(self, message: ToOwner | ToMember, now: int) -> None:
        if isinstance(message, Open | Poll | Close):
            self._own_up(message, now)
        else:
            self._hear(message, now)

    def _hear(self, message: ToMember, now: int) -> None:
        """Take an answer of an owner."""
        self.tally.replies_received += isinstance(message, Reply)
        self.answered_at = now
        self._send(self.lender.receive(message, now), now)

    def _own_up(self, message: ToOwner, now: int) -> None:
        self._answer(self._owning.receive(message, now), now)

    def _answer(self, messages: Iterable[ToMember], now: int) -> None:
        for message in messages:
            if message.member == self._links.name:
                self._hear(message, now)
            else:
                self._links.reply(message.member, message)

    # The end ------------------------------------------------------------------------------------

    def end(self, *, waits: bool) -> None:
        """Use nothing any more.

        :param waits: take the share back from its owner: others may have it then. An owner serves
            until its members have gone to the one that it has named, for as long as a share may be
            lent.
        """
        try:
            if waits:
                self._drain()
        finally:
            self._wallets.deadline = LONG_AGO
            self._wallets.use_own_part_until(LONG_AGO)

    def _drain(self) -> None:
        now = self._clock()
        until = now + self._timing.resume_after + _IDLE
        self._send(self.lender.close(now), now)
        while now < until and (self.lender.lent or not self._owning.is_left):
            for _, message in self._links.poll(_BUSY / SECOND):
                self._take(message, now)
            now = self._clock()
            self._send(self.lender.tick(now, None), now)
            self._answer(self._owning.tick(now), now)
