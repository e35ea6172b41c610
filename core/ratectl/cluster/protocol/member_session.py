"""A member's record of one session at an owner."""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import TYPE_CHECKING

from ratectl.cluster.protocol.timing import FOREVER

if TYPE_CHECKING:
    from ratectl.cluster.protocol.draw import Draw
    from ratectl.cluster.protocol.messages import OwnerId, PoolId
    from ratectl.cluster.protocol.timing import Timing

__all__ = ["MemberSession"]


class MemberSession:
    """A session, from its welcome to its end."""

    def __init__(self, number: int, owner: OwnerId, echo: int, timing: Timing) -> None:
        self.number = number
        self.owner = owner
        self.poll = 0
        """Number of the newest poll."""
        self.answered = 0
        """Number of the newest poll that the owner has answered."""
        self.sent: deque[tuple[int, int]] = deque()
        """Number and time of the polls that an answer may still name."""
        self.echo = echo
        self.echoed = 0
        """Number of the newest answer that a poll has echoed."""
        self.polled_at = -FOREVER
        self.gap = timing.gap
        self.round_trip = timing.shortest_gap
        self.share_in = 0
        """Number of the first poll with the share as it is now; 0: no poll has it."""
        self.sizes_in = 0
        """Number of the first poll with the sizes as they are now; 0: no poll has them."""
        self.draws: dict[PoolId, Draw] = {}
        self.touched: dict[PoolId, None] = {}
        """Draws that were asked for since they were reported."""
        self.untold: dict[PoolId, None] = {}
        """Draws of which the owner has not confirmed all."""
        self.ending: dict[PoolId, None] = {}
        """Draws that are over as soon as the owner has confirmed it."""
        self.in_turn: OrderedDict[PoolId, None] = OrderedDict()
        """Draws in the order in which they were reported: those that nobody asks for have a turn
        as well."""
        self.turned_at = -FOREVER

    @property
    def waits(self) -> bool:
        """Return True if the newest poll has no answer yet."""
        return self.answered < self.poll
