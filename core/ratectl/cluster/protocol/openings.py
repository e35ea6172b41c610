"""Sessions that members have asked an owner for, and those that have ended."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Container

    from ratectl.cluster.protocol.messages import Open, Poll

__all__ = ["Openings", "Replies"]

Replies = deque[tuple[int, int]]
"""Number and time of the answers that a poll may still echo."""

_REPLIES: Final = 1_024
"""Answers to one member that a poll may still echo."""


class Openings:
    """Newest session of each member, and what a poll that begins it may echo.

    A late poll must not revive a session that has ended: what it returned would be credited twice.
    """

    def __init__(self) -> None:
        self.closing: set[str] = set()
        """Members that have left and got no answer yet: they ask again."""
        self._opened: dict[str, tuple[int, Replies]] = {}
        self._ended: dict[str, int] = {}

    def __contains__(self, member: str) -> bool:
        return member in self._opened

    def asked(self, message: Open) -> Replies | None:
        """Return the answers to a member that asks for a session; None if it has no use for one."""
        number, replies = self._opened.get(message.member, (0, deque()))
        if message.session < number or self.is_over(message.member, message.session):
            return None
        if message.session > number:
            replies = deque(maxlen=_REPLIES)
            self._opened[message.member] = (message.session, replies)
        return replies

    def begun(self, poll: Poll, after: int) -> Replies | None:
        """Return the answers to the member of a first poll; None if it echoes none after then."""
        number, replies = self._opened.get(poll.member, (0, deque()))
        if number != poll.session:
            return None
        return replies if any(n == poll.echo and at > after for n, at in replies) else None

    def is_over(self, member: str, session: int) -> bool:
        """Return True if a session has ended."""
        return session <= self._ended.get(member, 0)

    def end(self, member: str, session: int) -> None:
        """Take note that a session, and each before it, has ended."""
        self._ended[member] = max(self._ended.get(member, 0), session)

    def forget(self, before: int, sessions: Container[str]) -> None:
        """Forget members without a session whose polls can begin none, as their answers are older.

        An OPEN that comes late gets a new answer.
        """
        for member, (_, replies) in list(self._opened.items()):
            if member not in sessions and replies[-1][1] <= before:
                del self._opened[member]
                self._ended.pop(member, None)
                self.closing.discard(member)
