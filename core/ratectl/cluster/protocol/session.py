"""State of one member at an owner."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratectl.cluster.protocol.capacity import GRAINS, WHOLE, Size

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ratectl.cluster.protocol.messages import Poll, PoolId
    from ratectl.cluster.protocol.openings import Replies
    from ratectl.cluster.protocol.pool import Account

__all__ = ["Session"]

_NONE = Size(0, 0)


class Session:
    """One member at this owner, from its first poll until it ends or is silent for too long."""

    def __init__(self, poll: Poll, replies: Replies, now: int) -> None:
        self.member = poll.member
        self.number = poll.session
        self.share = 0
        self.sizes: Mapping[str, Size] = {}
        """Sizes of its limits."""
        self.lending = False
        self.has_lent = False
        """What the member brings is counted once."""
        self.lend_until = 0
        self.steady_since = now
        """Since when the share is the same, and no size has become smaller."""
        self.polled_at = now
        self.echoed_at: int | None = None
        """When the answer was sent that the newest poll echoes: the poll was sent later."""
        self.poll = 0
        """Number of the newest poll."""
        self.accounts: dict[PoolId, Account] = {}
        self.untold: dict[PoolId, Account] = {}
        """Accounts with something that the member has not confirmed."""
        self.replies = replies
        """Number and time of the answers that a poll may still echo."""

    def resize(self, share: int, sizes: Mapping[str, Size], now: int) -> dict[str, int]:
        """Take over another share and other sizes.

        Returns grains by limit: those of windows that are larger now, or new. If nothing has
        become smaller for as long as the window, nobody has spent them in it.
        """
        unused = {}
        is_steady, steady_since = share == self.share, self.steady_since
        for name in {**self.sizes, **sizes}:
            old, new = self.sizes.get(name, _NONE), sizes.get(name, _NONE)
            grown = new.burst - old.burst
            window = max(old.window, new.window)
            fewer = grown < 0 or new.added - new.kept < old.added - old.kept
            if fewer or (old != new and old.burst and not old.window):
                is_steady = False
            elif new.window and now - steady_since > window and share == self.share:
                unused[name] = grown * share * GRAINS // WHOLE
        if not is_steady:
            self.steady_since = now
        self.share, self.sizes = share, sizes
        return unused

    def forget(self, pool: PoolId) -> None:
        """Drop the account of a pool that the member has no interest in any more."""
        del self.accounts[pool]
        self.untold.pop(pool, None)

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
