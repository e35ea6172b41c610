"""Estimates of the part of a limit that a cluster uses, and of its costs.

Tokens that members hold occupy the bucket (see ``protocol.pool``). So a bucket that is small for
its rate, for the members or for the network is empty while members still hold tokens, and the
cluster admits less than one central bucket would. It never admits more.

The constants marked "measured" were fitted to simulations. In 35 others, drawn at random, at least
97 % was used in each one whose estimate was 1. Smaller estimates were up to 6 percentage points off
for even requests, and up to 20 for skewed ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ratectl.cluster.keeper import LOOK_EVERY
from ratectl.cluster.protocol.capacity import WHOLE, size_of
from ratectl.cluster.protocol.pool import LentLimit
from ratectl.cluster.protocol.sharing import common_gap, fast_gap, idle_stock
from ratectl.cluster.protocol.timing import SECOND
from ratectl.cluster.sharding import SHARDS
from ratectl.cluster.succession import CLAIM_AFTER
from ratectl.policy.validation.cluster_bursts import LEAST_TIME, LEAST_TOKENS, parts_in

if TYPE_CHECKING:
    from ratectl.cluster.protocol.timing import Timing

__all__ = ["Plan", "Sizing"]

_UNREPORTED: Final = 0.75
"""Measured: a spent token is reported after this part of the time between two polls."""
_WARM: Final = 0.3
"""Requests of the members that are not busy, as a part of the rate: a tenth of three times the
rate is asked for by nine tenths of the members."""
_HELD: Final = 4 / 3
"""Measured: what these members hold, as a multiple of what they ask for on average."""
_HEADROOM: Final = 1.15
"""Measured: a burst of so many times the tokens that are held is enough,"""
_ENOUGH: Final = 0.97
"""and this part is used then, or more."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A limit across a cluster."""

    tokens: int
    """The limit admits so many tokens for each ``period``."""
    period: int
    """Nanoseconds."""
    burst: int
    members: int
    round_trip: int
    """Nanoseconds between a member and the owner, both ways."""


class Sizing:
    """Estimates for one limit with one bucket, whose requests come three times as fast as its rate.

    :param lasts: nanoseconds that an entry of the roster lasts.
    """

    def __init__(self, plan: Plan, timing: Timing, lasts: int) -> None:
        self.plan = plan
        self._timing = timing
        self._lasts = lasts

    # Use ----------------------------------------------------------------------------------------

    @property
    def used_if_even(self) -> float | None:
        """Part of what one central bucket admits, if every member has as many requests.

        1 means 97 % or more. None: the bucket has less than two tokens for each member, and the
        part may be almost nothing.
        """
        return self._used(self.plan.burst, skewed=False)

    @property
    def used_if_skewed(self) -> float | None:
        """Part of what one central bucket admits, if a tenth of the members has nine tenths.

        See ``used_if_even``.
        """
        return self._used(self.plan.burst, skewed=True)

    @property
    def smallest_burst(self) -> int:
        """Smallest burst with which at least 97 % is used, however the requests are spread."""
        paused = -(-self.plan.tokens * LEAST_TIME // self.plan.period)
        low = max(LEAST_TOKENS * self.plan.members, paused)
        high = low
        while not self._is_enough(high):
            low, high = high + 1, 2 * high
        while low < high:
            middle = (low + high) // 2
            if self._is_enough(middle):
                high = middle
            else:
                low = middle + 1
        return high

    def _is_enough(self, burst: int) -> bool:
        return self._used(burst, skewed=True) == 1

    def _used(self, burst: int, *, skewed: bool) -> float | None:
        parts = parts_in(burst)
        if burst < LEAST_TOKENS * parts * self.plan.members:
            return None
        used = burst / parts / self._held(burst, skewed=skewed)
        return 1.0 if used >= _HEADROOM else min(_ENOUGH, used)

    def _held(self, burst: int, *, skewed: bool) -> float:
        """Return the tokens of one part that members hold, or have spent and not reported, at the
        full rate."""
        members, round_trip = self.plan.members, self.plan.round_trip
        gap = self._gap(burst)
        between = min(max(round_trip, gap), self._timing.repeat_after)
        held = self._accrued(burst, round_trip + _UNREPORTED * between)
        if skewed:
            warm = _WARM * self._accrued(burst, self._timing.horizon(gap, round_trip))
            held += _HELD * (members * self._stock(burst) + warm)
        return held

    def _accrued(self, burst: int, duration: float) -> float:
        """Return the tokens of one part that accrue in a time."""
        return self.plan.tokens * duration / self.plan.period / parts_in(burst)

    def _stock(self, burst: int) -> int:
        """Return the tokens that a member holds without requests while the limit is short."""
        lent = self._limit(burst).lent
        return idle_stock(lent, self.plan.members, scarce=True)

    def _gap(self, burst: int) -> int:
        return common_gap(fast_gap([self._limit(burst)], self._timing), self.plan.members)

    def _limit(self, burst: int) -> LentLimit:
        """Return one part of the limit."""
        limit = LentLimit(0)
        parts, plan = parts_in(burst), self.plan
        size = size_of(plan.tokens, plan.period * parts, burst // parts, self._timing.drift)
        limit.lent.add(size, WHOLE)
        return limit

    # Cost ---------------------------------------------------------------------------------------

    @property
    def gap(self) -> int:
        """Nanoseconds that a member leaves between two polls while it has requests."""
        return self._gap(self.plan.burst)

    @property
    def idle_messages(self) -> float:
        """Messages for each second, of both directions, without requests."""
        return 2 * SHARDS * self.plan.members * SECOND / self._timing.poll_every

    @property
    def busy_messages(self) -> float:
        """The most messages for each second, of both directions, if every member has requests.

        A member polls once in each gap, and the owner of each part shares out twice in it.
        """
        fast = fast_gap([self._limit(self.plan.burst)], self._timing)
        parts = parts_in(self.plan.burst)
        others = self.idle_messages * (SHARDS - parts) / SHARDS
        return parts * self.plan.members * SECOND * (2 / self.gap + 2 / fast) + others

    @property
    def writes(self) -> float:
        """Writes to the store for each second, while members neither come nor go."""
        return 3 * self.plan.members * SECOND / self._lasts

    @property
    def owner_replaced_after(self) -> int:
        """Nanoseconds until members draw from another owner, if the owner crashes. About."""
        return self._timing.lease + CLAIM_AFTER + 2 * LOOK_EVERY

    @property
    def own_share_after(self) -> int:
        """Nanoseconds after the crash until each member uses its own share."""
        return self._timing.resume_after

    @property
    def share_taken_after(self) -> int:
        """Nanoseconds until another member takes over the share of a crashed one. About."""
        return self._timing.stretched(self._lasts) + LOOK_EVERY
