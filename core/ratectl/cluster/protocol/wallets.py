"""Tokens that a member may spend: what a decision reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ratectl.cluster.protocol.messages import PoolId
    from ratectl.engine.algorithms.refunds import Refund

__all__ = ["Purse", "Wallets"]


class Purse(NamedTuple):
    """State of one wallet. Totals since the wallet was made, in tokens."""

    tokens: int
    """Tokens in the wallet now."""
    spent: int
    missed: int
    """Cost of requests for which the wallet had too little."""
    largest: int
    """Cost of the largest of them since the wallet was read the last time."""


class Wallets(Protocol):
    """Wallets of one member at one owner. A decision may spend tokens while now < deadline."""

    deadline: int

    def touched(self) -> Iterable[PoolId]:
        """Return the pools that were asked for since the last call, or of which was refunded."""

    def refunds(self) -> Mapping[PoolId, Refund]:
        """Return what was refunded since the last call, beside what is in the wallets again."""

    def read(self, pool: PoolId) -> Purse:
        """Return the state of a wallet. One that nobody has used is empty."""

    def add(self, pool: PoolId, tokens: int) -> None:
        """Put tokens into a wallet."""

    def keep(self, pool: PoolId) -> None:
        """Move tokens of a wallet into the part that is never lent, if it has room: they count as
        spent."""

    def take(self, pool: PoolId, at_most: int) -> int:
        """Take tokens out of a wallet; return how many it had, at most so many."""

    def drop(self, pool: PoolId) -> None:
        """Forget an empty wallet, and its totals."""
