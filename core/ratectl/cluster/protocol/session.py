"""State of one member at an owner."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Mapping

    from ratectl.cluster.protocol.capacity import Size
    from ratectl.cluster.protocol.messages import Poll, PoolId
    from ratectl.cluster.protocol.pool import Account

__all__ = ["Session"]


class Session:
    """One member at this owner, from its first poll until it ends or is silent for too long."""

    def __init__(self, poll: Poll, replies: deque[tuple[int, int]], now: int) -> None:
        self.member = poll.member
        self.number = poll.session
        self.share = 0
        self.claimed: Mapping[str, Size] = {}
        """Sizes of its limits, as it says."""
        self.sizes: Mapping[str, Size] = {}
        """Sizes as the owner counts them."""
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
