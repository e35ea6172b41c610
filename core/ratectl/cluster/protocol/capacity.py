"""Exact arithmetic of rates, bursts and shares: integers only.

A *grain* is 10⁻²⁴ of a token: one nano-token for each second, for one nanosecond, for a millionth
of a limit. So what a share accrues is a whole number of grains, and nothing is rounded twice.
"""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = ["GRAINS", "WHOLE", "Lent", "Size", "size_of", "window_size"]

GRAINS: Final = 10**24
"""Grains of one token."""
WHOLE: Final = 1_000_000
"""The share of a member that owns all of a limit, in millionths."""
_NANO: Final = 10**9
_BURST: Final = GRAINS // WHOLE


class Size(NamedTuple):
    """Size of a token bucket, or of a sliding window: nothing accrues in a window."""

    rate: int
    """Nano-tokens for each second."""
    burst: int
    """Tokens."""
    window: int = 0
    """Nanoseconds for which a token counts after it was spent. 0: a token bucket."""
    added: int = 0
    """Tokens that each process lends beside its share."""
    kept: int = 0
    """Tokens of its share that each process does not lend, if it has twice as many."""

    def lends(self, share: int) -> int:
        """Return the grains that a process with a share (millionths) lends."""
        beside = self.added - self.kept_of(share) if share else 0
        return self.burst * share * _BURST + beside * GRAINS

    def kept_of(self, share: int) -> int:
        """Return the tokens of a share (millionths) that a process does not lend."""
        return self.kept if self.burst * share >= 2 * self.kept * WHOLE else 0


def size_of(tokens: int, period: int, burst: int, drift: int) -> Size:
    """Return the size of a limit of ``tokens`` for each ``period`` (nanoseconds).

    The rate is lowered by ``drift`` (millionths), because a fast clock would admit more.
    """
    return Size(tokens * _NANO * _NANO * WHOLE // (period * (WHOLE + drift)), burst)


def window_size(tokens: int, window: int, drift: int) -> Size:
    """Return the size of a limit of ``tokens`` in any ``window`` (nanoseconds).

    The window is longer by ``drift`` (millionths): a fast clock would end it too early.
    """
    return Size(0, tokens, -(-window * (WHOLE + drift) // WHOLE) + 1)


class Lent:
    """Capacity of one limit that members lend, or that one member owns."""

    __slots__ = ("_shares", "capacity", "rate", "recalling", "window")

    def __init__(self) -> None:
        self.rate = 0
        """Grains for each nanosecond."""
        self.capacity = 0
        """Grains."""
        self.recalling = 0
        """Pools of which members hold more tokens than the capacity."""
        self.window = 0
        """The longest window of all that lend, in nanoseconds; 0: only token buckets."""
        self._shares: dict[int, int] = {}
        """Millionths, by window."""

    def add(self, size: Size, share: int) -> None:
        """Add a share (millionths) of a limit of a size. A negative share takes it away."""
        self.rate += size.rate * share
        self.capacity += size.lends(share) if share > 0 else -size.lends(-share)
        shares = self._shares.get(size.window, 0) + share
        if shares:
            self._shares[size.window] = shares
        else:
            self._shares.pop(size.window, None)
        self.window = max(self._shares, default=0)

    @property
    def share(self) -> int:
        """Sum of the shares (millionths) that lend."""
        return sum(self._shares.values())

    @property
    def most(self) -> int:
        """Whole tokens that a bucket of this capacity has room for."""
        return self.capacity // GRAINS

    def at_most(self, grains: int) -> int:
        """Return a level that a bucket of this capacity can have."""
        return min(max(0, grains), self.capacity)
