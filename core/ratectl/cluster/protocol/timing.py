"""Durations of the protocol. All are nanoseconds of the clock of whoever waits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ratectl.cluster.protocol.capacity import Size

__all__ = ["FOREVER", "MILLISECOND", "SECOND", "Timing"]

MILLISECOND: Final = 1_000_000
SECOND: Final = 1_000_000_000
FOREVER: Final = 1 << 62
"""More than any duration, and than any number of tokens."""
_PPM: Final = 1_000_000
_PART_FILLS: Final = 25
"""A part that is never lent takes so much longer to fill than what is lent."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Lease of wallets and what follows from it.

    Clocks of two members may differ in speed: one that is slow by ``drift`` measures a duration
    that a fast one has long left behind. Whoever waits for another's duration to be over waits
    :meth:`stretched` as long.
    """

    lease: int = 500 * MILLISECOND
    """How long a member may spend what it holds after it sent the poll that the owner answered."""
    drift: int = 500
    """How much faster or slower than true time a clock runs at most, in millionths."""

    gap: int = 20 * MILLISECOND
    """Longest time that a member leaves between two polls while it has requests."""
    interest: int = 2 * SECOND
    """A member returns its tokens of a key that it was not asked for as long as this, at least,"""
    longest_interest: int = 30 * SECOND
    """and at most."""
    large_for: int = 60 * SECOND
    """Members hold enough for a large request for as long as this after one of them had not."""
    whole_for: int = 600 * SECOND
    """Members keep no part of the keys of a limit for as long as this after a request that cost
    more than what they lend otherwise."""

    @property
    def shortest_gap(self) -> int:
        """Time that a member leaves at least between two polls."""
        return self.gap // 10

    @property
    def measure(self) -> int:
        """Demand is measured over at least this time."""
        return self.gap // 2

    @property
    def fade(self) -> int:
        """A demand that has gone is forgotten within about this time."""
        return self.gap * 15 // 2

    @property
    def repeat_after(self) -> int:
        """A poll without an answer is repeated after this time."""
        return self.gap * 3

    @property
    def poll_every(self) -> int:
        """Longest time between two polls of a member."""
        return self.lease * 3 // 10

    def horizon(self, gap: int, round_trip: int) -> int:
        """Return for how long the tokens that a member asks for should last."""
        return 2 * (gap + round_trip)

    def interest_in(self, size: Size) -> int:
        """Return for how long a member holds tokens of a key that it is not asked for.

        Its own part of the key takes about that long to fill, for the next first request.
        """
        fills = _PART_FILLS * size.burst * SECOND * SECOND // max(1, size.rate)
        return max(self.interest, min(fills, self.longest_interest))

    @property
    def lend_for(self) -> int:
        """Time for which an owner counts a share after it sent the reply that a poll echoed."""
        return self.lease

    @property
    def void_after(self) -> int:
        """Time after a member's last poll when an owner takes what the member holds for spent."""
        return self.stretched(self.lease)

    @property
    def clear_after(self) -> int:
        """Time after a reply that a poll echoed when an owner has nothing of the share any more."""
        return self.lend_for + self.void_after

    @property
    def resume_after(self) -> int:
        """Time after a member's last echo of a reply when it may use its own share again."""
        return self.stretched(self.clear_after)

    def stretched(self, duration: int) -> int:
        """Return how long a clock must wait until ``duration`` is over on every other clock."""
        return duration * (_PPM + self.drift) // (_PPM - self.drift) + 1
