"""The member's entry in the roster: a thread of its own, because stores may be slow."""

from __future__ import annotations

import logging
import platform
import threading
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

from ratectl.cluster.donation import donation
from ratectl.cluster.protocol.timing import SECOND
from ratectl.cluster.sharding import SHARD_NAMES, SHARDS
from ratectl.cluster.succession import Succession, heir
from ratectl.cluster.tally import Tally
from ratectl.errors import NotFound, RatectlError
from ratectl.records import OwnerHint, owner_name
from ratectl.records.members import MAX_TEXT, agent_part

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ratectl.cluster.donation import Donation
    from ratectl.cluster.entries import Entry, Hint, RosterState
    from ratectl.cluster.roster import Roster

__all__ = ["LOOK_EVERY", "Keeper", "Standing"]

log = logging.getLogger("ratectl.cluster")

LOOK_EVERY: Final = SECOND // 4
"""How often a member reads the roster."""
_LOOK_FOR_EACH: Final = SECOND // 100
"""All members read the entries of all: with many of them, each looks less often."""
_LATELY: Final = 2 * SECOND
"""A member that leaves has had no session for as long as its drain took."""
_PATIENCE: Final = 2 * SECOND
"""A failure that lasts for less is no problem: a store may be busy for a moment."""


class Standing(NamedTuple):
    """State of this member in the store. The thread that speaks with owners reads it."""

    number: int
    """Grows with each reading of the store."""
    share: int
    """Millionths that the member may lend or use."""
    use_until: int
    lend_until: int
    hints: Sequence[Hint]
    """Owner of each shard."""
    roster: RosterState


class Keeper:
    """Joins the roster, renews the entry, and gives and takes shares.

    :param address: where peers reach this member, as text.
    :param lasts: nanoseconds that an entry lasts.
    """

    def __init__(self, roster: Roster, address: str, lasts: int, clock: Callable[[], int]) -> None:
        self._roster = roster
        self._address = address
        self._lasts = lasts
        self._clock = clock
        self._successions = [
            Succession(roster.member, lasts, dedicated=roster.dedicated) for _ in range(SHARDS)
        ]
        self._stopped = threading.Event()
        self.standing: Standing | None = None
        """None until the member has joined."""
        self.starts_full = False
        self.lost = False
        """The entry is gone: the process needs a new member id."""
        self.tally = Tally()
        self.problem: str | None = None
        """Why the store could not be used for a while."""
        self._failing_since: int | None = None
        self.seen = (0, 0)
        """``Standing.number`` that the other thread has obeyed, and the share that it or the owner
        may still count."""
        self.reached_at = [0] * SHARDS
        """When the other thread had a session in each shard the last time."""
        self.reached = [""] * SHARDS
        """Member in whose process the owner of that session is."""
        self.heard: Callable[[str], bool] = lambda _: False
        """Returns True if an owner of this process has heard from a member lately."""
        self._gift: Donation | None = None
        self._lowered_in = 0
        """``Standing.number`` from which on the share is lower by the gift."""
        self._number = 0
        self._renewed_at = self._read_at = 0

    def run(self) -> None:
        """Work until ``stop``. Never raises."""
        while not self._stopped.is_set():
            try:
                self.step(self._clock())
                self.problem = self._failing_since = None
            except RatectlError as error:
                self._failed(str(error))
            except Exception as error:  # the thread must survive any error
                log.debug("keeping the roster", exc_info=error)
                self._failed(f"{type(error).__name__}: {error}")
            self._stopped.wait(self._pause())

    def _failed(self, text: str) -> None:
        now = self._clock()
        self.tally.failed += 1
        if self._failing_since is None:
            self._failing_since = now
        if self.problem is None and now - self._failing_since >= _PATIENCE:
            self.problem = f"the roster cannot be kept: {text}"

    def _pause(self) -> float:
        standing = self.standing
        assert standing is not None
        every = self.look_every
        waits = self._gift is not None or any(hint.owner is None for hint in standing.hints)
        return every / SECOND / (5 if waits else 1)

    @property
    def look_every(self) -> int:
        """Time between two readings of the roster by each member, in nanoseconds."""
        members = 0 if self.standing is None else len(self.standing.roster.entries)
        return max(LOOK_EVERY, members * _LOOK_FOR_EACH)

    def stop(self) -> None:
        """Ask the thread to end."""
        self._stopped.set()

    def step(self, now: int) -> None:
        """Do what is due.

        :raises RatectlError: the store did not answer, or has something unexpected.
        """
        if self.standing is None:
            self._join(now)
        if self.lost:
            return
        if now - self._renewed_at >= self._lasts // 3:
            if self._roster.renew(now) is None:
                self.lost = True
                return
            self._renewed_at = now
            self.tally.renewed += 1
        if now - self._read_at > self._lasts // 2:
            self._roster.wait_again()  # others could not renew their entries either, perhaps
        state = self._roster.read(now)
        self._read_at = now
        for entry in state.overdue:
            self._roster.remove(entry.member, entry.revision)
        adopts = bool(state.unowned) and not self._roster.dedicated
        if adopts:
            self._roster.adopt()
        self._publish(self._roster.read(now) if state.overdue or adopts else state)
        self._give(now)
        self._claim(now)

    def _join(self, now: int) -> None:
        joined = self._roster.join(self._address, now, host=_host())
        self.starts_full = joined.starts_full
        self._renewed_at = self._read_at = now
        self.reached_at = [now] * SHARDS
        self._publish(self._roster.read(now))

    def _publish(self, state: RosterState) -> None:
        membership = self._roster.membership
        assert membership is not None
        share = state.share_of(self._roster.member)
        part = self._gift.part if self._gift else 0
        hints = [state.hint(name) for name in SHARD_NAMES]
        self._number += 1
        self.standing = Standing(
            self._number, share - part, membership.use_until, membership.lend_until, hints, state
        )

    def _give(self, now: int) -> None:
        """Give a part of the share to another member: it must not be lent or used any more."""
        standing = self.standing
        assert standing is not None
        if self._gift is None:
            self._gift = donation(_settled(standing.roster), self._roster.member)
            if self._gift is not None:
                self._publish(standing.roster)
                self._lowered_in = self._number
            return
        number, counted = self.seen
        if number >= self._lowered_in and counted <= standing.share:
            gift, self._gift = self._gift, None
            with suppress(NotFound):  # the other has gone: it needs nothing
                self._roster.give(gift.to, gift.part)
            self._publish(self._roster.read(now))

    def _claim(self, now: int) -> None:
        """Name an owner of each shard that has none, or a silent one, or is to have another."""
        standing = self.standing
        assert standing is not None
        named = [self._claim_shard(shard, hint, now) for shard, hint in enumerate(standing.hints)]
        if any(named):
            self._publish(self._roster.read(now))

    def _claim_shard(self, shard: int, hint: Hint, now: int) -> bool:
        standing, succession = self.standing, self._successions[shard]
        assert standing is not None
        roster = standing.roster
        owner = succession.next_owner(hint, roster, self.reached_at[shard], now)
        if owner is None and self._owns(hint) and any(map(self._owns, standing.hints[:shard])):
            owner = succession.other_owner(roster, self.heard, now)
        if owner is not None:
            self._name(owner, hint)
        return owner is not None

    def _owns(self, hint: Hint) -> bool:
        return hint.owner is not None and hint.owner.member == self._roster.member

    def _name(self, owner: Entry, hint: Hint) -> None:
        member = owner.member
        record = OwnerHint(
            member=member, owner=owner_name(hint.shard, member), address=owner.record.address
        )
        if self._roster.name_owner(hint.shard, record, hint.revision):
            level = logging.DEBUG if self._roster.dedicated else logging.INFO  # it tells by itself
            text = "member %s owns shard %s of the limits across the cluster now"
            log.log(level, text, member, hint.shard)

    def hand_over(self) -> None:
        """Name another member as the owner of each shard that this member owns.

        :raises RatectlError: the store did not answer.
        """
        now = self._clock()
        state = self._roster.read(now)
        for name in SHARD_NAMES:
            hint = state.hint(name)
            if self._owns(hint):
                next_owner = heir(state, self._roster.member, self._runs)
                if next_owner is not None:
                    self._name(next_owner, hint)
                    state = self._roster.read(now)  # the next heir should be another one
        self._publish(state)

    def leave(self, now: int) -> None:
        """Give the share to another member and leave: it is not lent or used any more.

        :raises RatectlError: the store did not answer.
        """
        if self.standing is not None and not self.lost:
            self._roster.leave(now, self._runs)

    def _runs(self, member: str) -> bool:
        """Return True if this process has heard from another member lately."""
        now = self._clock()
        return self.heard(member) or any(
            member == owner and now - at < _LATELY
            for owner, at in zip(self.reached, self.reached_at, strict=True)
        )


def _settled(roster: RosterState) -> dict[str, int]:
    """Return the shares of the members among which they are to be equal.

    Where an agent seems to have several members, all but one have ended, and nobody knows which.
    Those without a share get none: each process that ends soon would take a part along.
    """
    shares = roster.shares()
    holds = Counter(agent_part(member) for member, share in shares.items() if share)
    return {
        member: share
        for member, share in shares.items()
        if share or not agent_part(member) or not holds[agent_part(member)]
    }


def _host() -> str:
    """Return the name of this machine, for people."""
    name = platform.node()
    return name if name.isprintable() and len(name) <= MAX_TEXT else ""
