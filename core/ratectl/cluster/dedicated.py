"""A dedicated owner: it owns limits across the cluster for others, and admits no requests itself.

One thread runs it. It never waits for the store: the ``Keeper`` does that.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from ratectl.cluster.owning import Owning
from ratectl.cluster.protocol.messages import Close, Open, Poll, Welcome
from ratectl.cluster.protocol.timing import MILLISECOND, SECOND
from ratectl.errors import UsageError
from ratectl.runtime.address import parse_address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ratectl.cluster.keeper import Keeper
    from ratectl.cluster.protocol.messages import ToMember
    from ratectl.cluster.protocol.timing import Timing
    from ratectl.cluster.transport.links import Links
    from ratectl.records import OwnerHint

__all__ = ["DedicatedNode"]

log = logging.getLogger("ratectl.cluster")

_SHORT: Final = 4 * MILLISECOND
"""How often the thread shares out what accrues while members wait for tokens,"""
_IDLE: Final = 100 * MILLISECOND
"""and how often it looks at the roster while no message arrives."""
_SESSION: Final = 1
"""A stand-by asks the owner for a session again and again, and never begins it."""


class DedicatedNode:
    """Runs the owner of one process, or stands by. The keeper has joined the roster before."""

    def __init__(
        self, keeper: Keeper, links: Links, timing: Timing, clock: Callable[[], int]
    ) -> None:
        self._keeper = keeper
        self._links = links
        self._timing = timing
        self._clock = clock
        self._owning = Owning(links.name, keeper, timing, clock)
        self.limits = self._owning.limits
        self._hint: OwnerHint | None = None
        self._asked_at = clock() - SECOND
        self._problem: str | None = None
        self._stopping = False

    def run(self) -> None:
        """Work until ``stop``, or until the member's entry is lost."""
        while not (self._stopping or self._keeper.lost):
            self.round(_SHORT if self._owning.is_short else _IDLE)

    def stop(self) -> None:
        """Ask the thread to end."""
        self._stopping = True
        self._links.wake()

    def round(self, wait: int = _SHORT) -> None:
        """Take what peers have sent for at most so many nanoseconds, and do what is due."""
        received = self._links.poll(wait / SECOND)
        now = self._clock()
        standing = self._keeper.standing
        assert standing is not None
        hint = standing.hint.owner
        if hint is not None:
            self._owning.follow(hint, now)
        self._tell(hint)
        for _, message in received:
            if isinstance(message, Open | Poll | Close):
                self._answer(self._owning.receive(message, now))
            elif isinstance(message, Welcome) and hint and message.owner.name == hint.owner:
                self._keeper.reached_at = now
        self._answer(self._owning.tick(now))
        self._owning.look(now)
        if hint is not None and hint.member != self._links.name:
            self._ask(hint, now)

    def drain(self) -> None:
        """Serve until all members have gone to the owner that the store names now.

        It ends at the latest when the slowest of them has read the roster twice, and may use its
        own share again.
        """
        now = self._clock()
        until = now + self._timing.resume_after + 2 * self._keeper.look_every
        while not self._owning.is_left and now < until:
            self.round()
            now = self._clock()

    def _ask(self, owner: OwnerHint, now: int) -> None:
        """Find out if the owner answers: otherwise the keeper names another one."""
        if now - self._asked_at >= self._timing.poll_every:
            self._asked_at = now
            with suppress(UsageError):  # whoever wrote the address: it names no owner that answers
                self._links.send(parse_address(owner.address), Open(self._links.name, _SESSION))

    def _answer(self, messages: Iterable[ToMember]) -> None:
        for message in messages:
            self._links.reply(message.member, message)

    def _tell(self, hint: OwnerHint | None) -> None:
        """Log who owns the limits, and problems with the roster, when that changes."""
        if hint is not None and hint != self._hint:
            self._hint = hint
            is_standby = hint.member != self._links.name and not self._stopping
            by = f"; {self._links.name} stands by" if is_standby else ""
            log.info("%s owns the limits across the cluster%s", hint.member, by)
        problem = self._keeper.problem
        if problem != self._problem:
            self._problem = problem
            if problem is None:
                log.info("the roster can be kept again")
            else:
                log.warning("%s", problem)
