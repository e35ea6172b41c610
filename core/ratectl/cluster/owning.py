"""Owners of shards in one process, for as long as the store names this process as the owner."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratectl.cluster.owned import OwnedLimits
from ratectl.cluster.protocol.messages import Open, OwnerId, Poll, Reply
from ratectl.cluster.protocol.owner import Owner
from ratectl.cluster.sharding import SHARDS
from ratectl.cluster.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ratectl.cluster.keeper import Keeper
    from ratectl.cluster.owned import OwnedLimit
    from ratectl.cluster.protocol.messages import ToMember, ToOwner
    from ratectl.cluster.protocol.timing import Timing
    from ratectl.records import OwnerHint

__all__ = ["Owning", "Ownings"]


class Owning:
    """Begins and ends the owner of a shard in one process, and counts its messages.

    An owner that the store names no more serves until its members have gone.
    """

    def __init__(
        self,
        member: str,
        keeper: Keeper,
        timing: Timing,
        clock: Callable[[], int],
        tally: Tally,
    ) -> None:
        self._member = member
        self._keeper = keeper
        self._timing = timing
        self._clock = clock
        self.owner: Owner | None = None
        self.limits = OwnedLimits()
        self._tally = tally
        self._owners = 0
        """Owners that this process has made: each is another incarnation."""

    def follow(self, hint: OwnerHint, now: int) -> None:
        """Begin or end to own, as the store says."""
        mine = hint.member == self._member
        if mine and self.owner is None:
            self._owners += 1
            name = OwnerId(hint.owner, self._owners)
            self.owner = Owner(name, self._timing, now, self._share_of)
        elif not mine and self.is_left:
            self.owner = None

    def receive(self, message: ToOwner, now: int) -> Sequence[ToMember]:
        """Take a message of a member; return the answers."""
        if self.owner is None:
            return ()
        if isinstance(message, Open) and message.owner != self.owner.id.name:
            return ()  # another process had the address before
        self._tally.polls_received += isinstance(message, Poll)
        now = max(now, self._clock())  # what this process reports may be spent just now
        return self._counted(self.owner.receive(message, now))

    def tick(self, now: int) -> Sequence[ToMember]:
        """Do what is due; return messages for members."""
        return () if self.owner is None else self._counted(self.owner.tick(now))

    def look(self, now: int) -> None:
        """Read the pools for reports, if it is time to."""
        self.limits.look(self.owner, now)

    @property
    def is_left(self) -> bool:
        """True if no member needs the owner of this process, or there is none."""
        return self.owner is None or self.owner.is_left

    @property
    def sessions(self) -> int:
        """Number of members that have a session."""
        return 0 if self.owner is None else len(self.owner.sessions)

    @property
    def is_short(self) -> bool:
        """True if members wait for tokens: they get what accrues when the owner ticks."""
        return self.owner is not None and self.owner.is_short

    def has_heard(self, member: str) -> bool:
        """Return True if the owner has heard from a member in the last two seconds or so."""
        owner = self.owner
        return owner is not None and owner.has_heard(member)

    def _counted(self, messages: Sequence[ToMember]) -> Sequence[ToMember]:
        self._tally.replies_sent += sum(isinstance(message, Reply) for message in messages)
        return messages

    def _share_of(self, member: str) -> int:
        standing = self._keeper.standing
        return 0 if standing is None else standing.roster.share_of(member)


class Ownings:
    """The owners of all shards in one process, as far as it owns them."""

    def __init__(
        self, member: str, keeper: Keeper, timing: Timing, clock: Callable[[], int]
    ) -> None:
        self.tally = Tally()
        self.each = tuple(Owning(member, keeper, timing, clock, self.tally) for _ in range(SHARDS))
        """By shard."""
        keeper.heard = self.has_heard

    @property
    def is_left(self) -> bool:
        """True if no member needs an owner of this process."""
        return all(owning.is_left for owning in self.each)

    @property
    def is_short(self) -> bool:
        """True if members wait for tokens of some owner."""
        return any(owning.is_short for owning in self.each)

    @property
    def sessions(self) -> int | None:
        """Most members with a session at one owner; None if this process owns nothing."""
        owning = [each.sessions for each in self.each if each.owner is not None]
        return max(owning, default=None)

    def has_heard(self, member: str) -> bool:
        """Return True if an owner has heard from a member in the last two seconds or so."""
        return any(owning.has_heard(member) for owning in self.each)

    def take(self, now: int) -> list[OwnedLimit]:
        """Return what this process pools, since the last call."""
        return [row for owning in self.each for row in owning.limits.take(now)]
