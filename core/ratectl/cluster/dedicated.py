"""A dedicated owner: it owns limits across the cluster for others, and admits no requests itself.

One thread runs it. It never waits for the store: the ``Keeper`` does that.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from ratectl.cluster.owning import Ownings
from ratectl.cluster.protocol.messages import Close, Open, Poll, Welcome, owner_of
from ratectl.cluster.protocol.timing import MILLISECOND, SECOND
from ratectl.cluster.sharding import SHARD_NAMES, SHARDS, shard_of_owner
from ratectl.errors import UsageError
from ratectl.runtime.address import parse_address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ratectl.cluster.keeper import Keeper
    from ratectl.cluster.owned import OwnedLimit
    from ratectl.cluster.protocol.messages import ToMember, ToOwner
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
"""It asks other owners for a session again and again, and never begins it."""


class DedicatedNode:
    """Runs the owners of one process, or stands by. The keeper has joined the roster before."""

    def __init__(
        self, keeper: Keeper, links: Links, timing: Timing, clock: Callable[[], int]
    ) -> None:
        self._keeper = keeper
        self._links = links
        self._timing = timing
        self._clock = clock
        self._ownings = Ownings(links.name, keeper, timing, clock)
        self._owners: list[str | None] = [None] * SHARDS
        """Members that own the shards, as they were logged."""
        self._asked_at = clock() - SECOND
        self._problem: str | None = None
        self._stopping = False

    def run(self) -> None:
        """Work until ``stop``, or until the member's entry is lost."""
        while not (self._stopping or self._keeper.lost):
            self.round(_SHORT if self._ownings.is_short else _IDLE)

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
        hints = [hint.owner for hint in standing.hints]
        for owning, hint in zip(self._ownings.each, hints, strict=True):
            if hint is not None:
                owning.follow(hint, now)
        self._tell(hints)
        for _, message in received:
            self._take(message, hints, now)
        for owning in self._ownings.each:
            self._answer(owning.tick(now))
            owning.look(now)
        self._ask(hints, now)

    def _take(
        self, message: ToOwner | ToMember, hints: Sequence[OwnerHint | None], now: int
    ) -> None:
        owner = owner_of(message)
        shard = shard_of_owner(owner)
        if shard is None:
            return
        hint = hints[shard]
        if isinstance(message, Open | Poll | Close):
            self._answer(self._ownings.each[shard].receive(message, now))
        elif isinstance(message, Welcome) and hint is not None and owner == hint.owner:
            self._keeper.reached_at[shard] = now

    def owned(self, now: int) -> list[OwnedLimit]:
        """Return what this process pools, since the last call; nothing as a stand-by."""
        return self._ownings.take(now)

    def drain(self) -> None:
        """Serve until all members have gone to the owner that the store names now.

        It ends at the latest when the slowest of them has read the roster twice, and may use its
        own share again.
        """
        now = self._clock()
        until = now + self._timing.resume_after + 2 * self._keeper.look_every
        while now < until and not self._ownings.is_left:
            self.round()
            now = self._clock()

    def _ask(self, hints: Sequence[OwnerHint | None], now: int) -> None:
        """Find out if other owners answer: otherwise the keeper names another one."""
        if now - self._asked_at < self._timing.poll_every:
            return
        self._asked_at = now
        for hint in hints:
            if hint is not None and hint.member != self._links.name:
                message = Open(self._links.name, _SESSION, hint.owner)
                with suppress(UsageError):  # whoever wrote the address: it names no owner
                    self._links.send(parse_address(hint.address), message)

    def _answer(self, messages: Iterable[ToMember]) -> None:
        for message in messages:
            self._links.reply(message.member, message)

    def _tell(self, hints: Sequence[OwnerHint | None]) -> None:
        """Log who owns the limits, and problems with the roster, when that changes."""
        for shard, hint in enumerate(hints):
            if hint is not None and hint.member != self._owners[shard]:
                self._owners[shard] = hint.member
                log.info(
                    "%s owns shard %s of the limits across the cluster",
                    hint.member, SHARD_NAMES[shard],
                )  # fmt: skip
        problem = self._keeper.problem
        if problem != self._problem:
            self._problem = problem
            if problem is None:
                log.info("the roster can be kept again")
            else:
                log.warning("%s", problem)
