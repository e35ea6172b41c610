"""One shard in one process: the member lends its share of it, and may own it."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

from ratectl.cluster.own_share import OwnShare
from ratectl.cluster.protocol.lender import Lender
from ratectl.cluster.protocol.messages import Close, Open, Poll, PoolId, Reply, owner_of
from ratectl.cluster.reach import Reach
from ratectl.errors import UsageError
from ratectl.runtime.address import parse_address

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from ratectl.cluster.owning import Owning
    from ratectl.cluster.protocol.capacity import Size
    from ratectl.cluster.protocol.messages import ToMember, ToOwner
    from ratectl.cluster.protocol.owner import Owner
    from ratectl.cluster.protocol.timing import Timing
    from ratectl.cluster.tally import Tally
    from ratectl.cluster.transport.links import Links
    from ratectl.cluster.wallets import ShardWallets
    from ratectl.records import OwnerHint

__all__ = ["Shard"]

_ADDRESSES: Final = 16


class Shard:
    """Runs the member's part of one shard, and its owner while the store names this process."""

    def __init__(
        self,
        wallets: ShardWallets,
        owning: Owning,
        links: Links,
        timing: Timing,
        clock: Callable[[], int],
        tally: Tally,
        *,
        full: bool,
    ) -> None:
        """``full``: nobody has used the limits before: their buckets begin full."""
        self._wallets = wallets
        self._links = links
        self._tally = tally
        self._own = OwnShare(wallets, clock, full=full)
        self.lender = Lender(links.name, timing, wallets, self._own)
        self.owning = owning
        self._reach = Reach()
        self.answered_at: int | None = None
        """When an owner has answered the last time."""
        self._hint: OwnerHint | None = None
        self._addresses: dict[str, str] = {}
        """Addresses of the newest owners, by name."""

    @property
    def owner(self) -> Owner | None:
        """The owner of this process; None if it is none."""
        return self.owning.owner

    @property
    def owner_elsewhere(self) -> str | None:
        """Member that the store names as the owner; None if it is this one, or nobody."""
        hint = self._hint
        return None if hint is None or self._is_mine(hint) else hint.member

    def _is_mine(self, hint: OwnerHint) -> bool:
        return hint.member == self._links.name

    def unreached(self, now: int) -> str | None:
        """Return a sentence about an owner in another process that does not answer; or None."""
        owner = self._reach.unreached(now)
        if owner is None:
            return None
        try:
            reason = self._links.problem(parse_address(owner.address))
        except UsageError as error:
            reason = str(error)
        text = f"the owner {owner.member} at {owner.address} does not answer"
        return f"{text}: {reason}" if reason else text

    # What the store and the policies say ----------------------------------------------------------

    def follow(self, hint: OwnerHint | None, now: int) -> None:
        """Take over who owns the shard."""
        self._hint = hint
        if hint is None or self._is_mine(hint):
            self._reach.left()
        if hint is None:
            return
        if self._addresses.get(hint.owner) != hint.address:
            self._addresses[hint.owner] = hint.address
            while len(self._addresses) > _ADDRESSES:
                del self._addresses[next(iter(self._addresses))]
        self.owning.follow(hint, now)

    def change(
        self, share: int, sizes: Mapping[str, Size], keyed: Collection[str], now: int
    ) -> None:
        """Change the share (millionths), or the sizes of the limits in this shard."""
        self._own.change(share, sizes, now, keyed)
        self.lender.set_share(share)
        plain = tuple(PoolId(pool, "") for pool in sizes if pool not in keyed)
        self.lender.set_sizes(sizes, plain)

    # Work -----------------------------------------------------------------------------------------

    def tick(self, now: int, until: int, *, lends_elsewhere: bool) -> None:
        """Do what is due.

        :param until: instant from which on the member may not use its own share.
        :param lends_elsewhere: an owner in another process knows this member's share.
        """
        hint = self._hint
        lends = hint is not None and (lends_elsewhere or self._is_mine(hint))
        self._send(self.lender.tick(now, hint.owner if hint and lends else None), now)
        self._answer(self.owning.tick(now), now)
        if self.owning.sessions > 1:
            self._reach.met()
        self.owning.look(now)
        self._own.tick(now, until)
        if self.lender.session is not None:
            self._reach.answered(self.lender.session.owner.name)

    def take(self, message: ToOwner | ToMember, now: int) -> None:
        """Take a message of a peer."""
        if isinstance(message, Open | Poll | Close):
            self._answer(self.owning.receive(message, now), now)
        else:
            self._hear(message, now)

    def _send(self, messages: Iterable[ToOwner], now: int) -> None:
        for message in messages:
            self._tally.polls_sent += isinstance(message, Poll)
            name = owner_of(message)
            if self.owner is not None and name == self.owner.id.name:
                self._answer(self.owning.receive(message, now), now)
                continue
            if isinstance(message, Open) and self._hint and not self._is_mine(self._hint):
                self._reach.asks(self._hint, now)
            if address := self._addresses.get(name):
                with suppress(UsageError):  # whoever wrote it: it names no owner that answers
                    self._links.send(parse_address(address), message)

    def _hear(self, message: ToMember, now: int) -> None:
        """Take an answer of an owner."""
        self._tally.replies_received += isinstance(message, Reply)
        self.answered_at = now
        self._send(self.lender.receive(message, now), now)

    def _answer(self, messages: Iterable[ToMember], now: int) -> None:
        for message in messages:
            if message.member == self._links.name:
                self._hear(message, now)
            else:
                self._links.reply(message.member, message)

    # The end --------------------------------------------------------------------------------------

    def close(self, now: int) -> None:
        """Take the share back from its owner."""
        self._send(self.lender.close(now), now)

    def drain(self, now: int) -> None:
        """Go on without lending: members may not have left the owner of this process."""
        self._send(self.lender.tick(now, None), now)
        self._answer(self.owning.tick(now), now)

    @property
    def is_left(self) -> bool:
        """True if the share is not lent, and no member needs the owner of this process."""
        return not self.lender.lent and self.owning.is_left
