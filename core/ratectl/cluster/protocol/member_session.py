"""A member's record of one session at an owner."""

from __future__ import annotations

from collections import OrderedDict, deque
from heapq import heappop, heappush
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
        as well,"""
        self.turned_at = -FOREVER
        self._resting: dict[PoolId, int] = {}
        """but draws that do not change before their interest ends: they are looked at then."""
        self._ends: list[tuple[int, PoolId]] = []
        """Heap of these."""

    def work(self, pool: PoolId) -> None:
        """Let a draw have its turns."""
        self.in_turn.setdefault(pool)
        self._resting.pop(pool, None)

    def rest(self, pool: PoolId, until: int) -> None:
        """Let a draw have no turn until an instant."""
        self.in_turn.pop(pool, None)
        self._resting[pool] = until
        heappush(self._ends, (until, pool))

    def rested(self, now: int) -> list[PoolId]:
        """Return the draws that have rested long enough; they have turns again."""
        found = []
        while self._ends and self._ends[0][0] <= now:
            until, pool = heappop(self._ends)
            if self._resting.get(pool) == until:
                self.work(pool)
                found.append(pool)
        return found

    def forget(self, pool: PoolId) -> None:
        """Drop a draw that is over."""
        del self.draws[pool]
        for each in (self.in_turn, self._resting, self.touched, self.untold):
            each.pop(pool, None)

    @property
    def waits(self) -> bool:
        """Return True if the newest poll has no answer yet."""
        return self.answered < self.poll
