"""One process of the cluster: its member, its owners, and the links to others.

One thread runs it. It never waits for the store: the ``Keeper`` does that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ratectl.cluster.owning import Ownings
from ratectl.cluster.protocol.capacity import WHOLE
from ratectl.cluster.protocol.messages import owner_of
from ratectl.cluster.protocol.timing import FOREVER, MILLISECOND, SECOND
from ratectl.cluster.shard import Shard
from ratectl.cluster.sharding import Parts, shard_of_owner
from ratectl.cluster.wallets import EngineWallets
from ratectl.engine.algorithms.pooled import LONG_AGO
from ratectl.records.members import owner_member

if TYPE_CHECKING:
    from collections.abc import Callable

    from ratectl.cluster.keeper import Keeper, Standing
    from ratectl.cluster.owned import OwnedLimit
    from ratectl.cluster.peers import Peers
    from ratectl.cluster.pools import PooledLimits
    from ratectl.cluster.protocol.messages import ToMember, ToOwner
    from ratectl.cluster.protocol.timing import Timing
    from ratectl.cluster.transport.links import Links
    from ratectl.engine.api import Engine

__all__ = ["Node"]

_BUSY: Final = 4 * MILLISECOND
"""How often the thread looks at wallets that are used,"""
_IDLE: Final = 25 * MILLISECOND
"""at those that are not,"""
_ASLEEP: Final = 100 * MILLISECOND
"""and at those that were not for long."""
_STORE_LOST: Final = 2 * SECOND
"""An entry that is too old for so long is not renewed because the store cannot be used."""
_UNLENT: Final = 5 * SECOND
"""Shares may be on the way for less."""
_CALM: Final = 1 * SECOND
"""Wallets that did not change for so long are not used."""
_LONG: Final = 10 * SECOND


class Node:
    """Runs the member and the owners of one process. The keeper has joined the roster before."""

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
        self._ownings = Ownings(links.name, keeper, timing, clock)
        self.tally = self._ownings.tally
        self._wallets = EngineWallets(engine)
        self.shards = tuple(
            Shard(wallets, owning, links, timing, clock, self.tally, full=full)
            for wallets, owning in zip(self._wallets.shards, self._ownings.each, strict=True)
        )
        self._parts = Parts(len(self.shards))
        self._changes = -1
        self._over_since: int | None = None
        """Since when the entry in the roster is too old, as far as this thread knows."""
        self.share = keeper.standing.share if keeper.standing else 0
        """Share of the limits that the member may lend or use, in millionths."""
        self._lends_from = clock() + (2 * keeper.look_every if self.share else 0)
        """An owner elsewhere has read the share in the roster by then, and counts it. Otherwise it
        would have no room for the tokens that this process brings."""
        limits.begin_share(self.share, secret)
        self._used, self._used_at = 0, clock()
        self._lent_at = clock()
        """When most of the shares were lent to each owner of this process, or it had none."""
        self._stopping = False

    def run(self, note: Callable[[str | None], None], peers: Peers) -> None:
        """Work until ``stop``, until the member's entry is lost, or until no limit is in force.

        :param note: called when a problem begins that does no harm yet, and when it ends (None).
        """
        noted = None
        while not (self._stopping or self._keeper.lost) and self._limits.in_force():
            problem = self._keeper.problem
            if problem is None and self._over_since is not None:
                problem = "the entry in the roster has not been renewed for too long"
            problem = problem or peers.problem or self.unreached() or self.unlent()
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
        lost = self._is_store_lost(standing, now)
        until = now + SECOND if lost else standing.use_until
        for number, shard in enumerate(self.shards):
            shard.tick(now, until, lends_elsewhere=now >= self._lends_from)
            session = shard.lender.session
            if session is not None:
                self._keeper.reached[number] = owner_member(session.owner.name)
                self._keeper.reached_at[number] = now
        part = self._limits.share_in_force
        owned = standing.roster.share_of(self._links.name)
        # Before plans follow the roster, they may have the part of a parent, or of an old entry.
        self._wallets.use_own_part_until(until if part <= owned else LONG_AGO)
        self._limits.lend_whole({pool for shard in self.shards for pool in shard.lender.whole})
        counted = max(part, *(shard.lender.counted for shard in self.shards))
        self._keeper.seen = standing.number, counted

    def _take(self, message: ToOwner | ToMember, now: int) -> None:
        shard = shard_of_owner(owner_of(message))
        if shard is not None:
            self.shards[shard].take(message, now)

    # State --------------------------------------------------------------------------------------

    @property
    def is_lent(self) -> bool:
        """True if an owner may still count the share in some shard."""
        return any(shard.lender.lent for shard in self.shards)

    @property
    def sessions(self) -> int | None:
        """Members with a session at an owner of this process; None if it owns nothing."""
        return self._ownings.sessions

    @property
    def answered_at(self) -> int | None:
        """When the owner that has been silent for longest has answered."""
        times = (shard.answered_at for shard in self.shards)
        return min((time for time in times if time is not None), default=None)

    def owned(self, now: int) -> list[OwnedLimit]:
        """Return what this process pools as an owner, since the last call."""
        return self._ownings.take(now)

    @property
    def members(self) -> int:
        """Number of members that share the limits, as this process knows it."""
        standing = self._keeper.standing
        return 0 if standing is None else standing.roster.sharing

    @property
    def owners_elsewhere(self) -> list[str]:
        """Members in other processes that the store names as owners."""
        found = (shard.owner_elsewhere for shard in self.shards)
        return list(dict.fromkeys(member for member in found if member is not None))

    def unreached(self) -> str | None:
        """Return a sentence about an owner in another process that does not answer; or None."""
        now = self._clock()
        problems = (shard.unreached(now) for shard in self.shards)
        return next((problem for problem in problems if problem is not None), None)

    def unlent(self) -> str | None:
        """Return a sentence if most of the shares have not been lent to an owner here for long."""
        now = self._clock()
        shares = [
            sum(session.share for session in shard.owner.sessions.values())
            for shard in self.shards
            if shard.owner is not None
        ]
        least = min(shares, default=WHOLE)
        if 2 * least >= WHOLE:
            self._lent_at = now
        if now - self._lent_at < _UNLENT:
            return None
        return (
            f"only {least * 100 // WHOLE}% of the limits is in use: members that have ended, or do "
            "not reach this owner, have the rest, for half a minute after their end"
        )

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
        if self._ownings.is_short:
            return _BUSY
        used = self._wallets.activity
        now = self._clock()
        if used != self._used:
            self._used, self._used_at = used, now
        unused = now - self._used_at
        return _BUSY if unused < _CALM else _IDLE if unused < _LONG else _ASLEEP

    def _obey(self, standing: Standing, now: int) -> None:
        """Take over what the store and the policies say."""
        changes = self._limits.changes  # before the limits: they may change at any moment
        is_new = changes != self._changes or standing.share != self.share
        if changes != self._changes:
            limits = self._limits.in_force()
            self._wallets.follow(limits)
            self._parts.follow(limits)
        elif not self._parts.are_settled and self._is_settled():
            is_new |= self._parts.settle()
        elif self._limits.are_leaving and self._limits.changes == changes and self._is_settled():
            self._limits.settle(now)
        if is_new:
            self._changes, self.share = changes, standing.share
            self._limits.want_share(standing.share)
            keyed = self._wallets.keyed
            for number, shard in enumerate(self.shards):
                shard.change(standing.share, self._parts.of(number), keyed, now)
        # If the store is lost, the owner that answers pools what it has always pooled: it is the
        # same one limit. Only members that reach the store may take this one for gone.
        lend_until = standing.lend_until if self._keeper.problem is None else FOREVER
        for shard, hint in zip(self.shards, standing.hints, strict=True):
            shard.lender.lend_until = lend_until
            shard.follow(hint.owner, now)

    def _is_settled(self) -> bool:
        """Return True if nobody counts parts of limits that were in force before."""
        return all(shard.lender.sizes_settled for shard in self.shards)

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
            for wallets in self._wallets.shards:
                wallets.deadline = LONG_AGO
            self._wallets.use_own_part_until(LONG_AGO)

    def _drain(self) -> None:
        now = self._clock()
        until = now + self._timing.resume_after + _IDLE
        for shard in self.shards:
            shard.close(now)
        while now < until and not all(shard.is_left for shard in self.shards):
            for _, message in self._links.poll(_BUSY / SECOND):
                self._take(message, now)
            now = self._clock()
            for shard in self.shards:
                shard.drain(now)
