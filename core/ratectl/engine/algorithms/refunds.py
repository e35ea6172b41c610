"""Refunds for which a bucket has no room itself: others have the tokens for it, and the room.

A limit across the cluster has its tokens at several places. A request that has cost less than it
was charged gives the difference back to the bucket that admitted it, as far as that is known to
have had the room; the thread that fills the wallets tells the owner of the limit of the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Hashable

__all__ = ["NOTHING", "Refund", "Refunds"]

_MOST_KEYS = 100_000


class Refund(NamedTuple):
    """Tokens that were charged and not used."""

    tokens: int
    since: int
    """Instant of the oldest of the charges (nanoseconds)."""

    def joined(self, other: Refund) -> Refund:
        """Return both together."""
        if not (self.tokens and other.tokens):
            return self if self.tokens else other
        return Refund(self.tokens + other.tokens, min(self.since, other.since))


NOTHING = Refund(0, 0)


class Refunds:
    """Refunds of one limit, by key. Those of too many keys are lost.

    Only one thread at a time uses it: a decision that is settled, or the thread that takes them.
    """

    __slots__ = ("_by_key",)

    def __init__(self) -> None:
        self._by_key: dict[Hashable, Refund] = {}

    def __bool__(self) -> bool:
        return bool(self._by_key)

    def add(self, key: Hashable, refund: Refund) -> None:
        """Note a refund."""
        if refund.tokens > 0 and (key in self._by_key or len(self._by_key) < _MOST_KEYS):
            self._by_key[key] = refund.joined(self._by_key.get(key, NOTHING))

    def take(self) -> dict[Hashable, Refund]:
        """Return what was noted since the last call."""
        found, self._by_key = self._by_key, {}
        return found
