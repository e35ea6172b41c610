"""Token bucket: bursts up to a total, then a steady pace. Exact integer arithmetic.

In any span of t a bucket admits at most ``burst + rate·t`` (the generic cell rate algorithm of
ITU-T I.371 in its "virtual scheduling" form, stated in tokens rather than arrival times).

One token is divided into *ticks*: as many as a week has nanoseconds. Every rate per second, minute,
hour, day or week is then a whole number of ticks per nanosecond, so accrual never rounds, and a
change of rate keeps the level exactly. (For a rate over another span, such as 1/11s, ticks are
smaller.)
"""

from __future__ import annotations

from math import lcm
from typing import Final

from ratectl.engine.algorithms.protocol import NEVER, Algorithm

__all__ = ["TokenBucket", "TokenState"]

WEEK_NS: Final = 604_800_000_000_000


TokenState = tuple[int, int, int]
"""Content of one bucket, ``(level, at, high_at)``. Immutable.

``level``: ticks in the bucket at ``at``, the instant (nanoseconds) of the last change; below zero,
the bucket is in debt. ``high_at``: the last instant of a charge or refund at which the bucket was
more than half full; for a new bucket, the instant at which it began, as its past is not known.
"""


class TokenBucket(Algorithm[TokenState]):
    """Parameters: ``numerator/denominator`` tokens per nanosecond, ``burst`` tokens at most.

    A ``now`` before the bucket's own time is taken as that time.
    """

    __slots__ = ("_key", "capacity", "full_level", "half_level", "per_ns", "per_token")

    def __init__(self, numerator: int, denominator: int, burst: int) -> None:
        if numerator < 0 or denominator <= 0 or burst < 0:
            raise ValueError("a rate and a burst are not negative")
        self.per_token = lcm(WEEK_NS, denominator)
        self.per_ns = numerator * (self.per_token // denominator)
        self.capacity = burst
        self.full_level = burst * self.per_token
        self.half_level = self.full_level // 2
        self._key = (self.per_ns, self.per_token, burst)

    def full(self, now: int) -> TokenState:
        """Return a full bucket."""
        return self.full_level, now, now

    def spent(self, used: int, now: int) -> TokenState:
        """Return a bucket from which ``used`` tokens are missing."""
        return max(0, self.full_level - used * self.per_token), now, now

    def at(self, state: TokenState, now: int) -> int:
        """Return ``now``, or the bucket's own time if that is later."""
        _, at, _ = state
        return max(now, at)

    def level(self, state: TokenState, now: int) -> int:
        """Return the ticks in the bucket at ``now``."""
        level, at, _ = state
        return level if now <= at else min(self.full_level, level + (now - at) * self.per_ns)

    def wait(self, state: TokenState, cost: int, now: int) -> int:
        """Return the nanoseconds until ``cost`` is admitted, rounded up, or ``NEVER``."""
        level, at, _ = state
        missing = cost * self.per_token - level
        if missing <= 0 and self.per_ns:
            return 0
        if cost > self.capacity or not self.per_ns:
            return NEVER
        # Counted from the bucket's own time: a clock that stepped back waits longer.
        ready = at + -(-missing // self.per_ns)
        return ready - now if ready > now else 0

    def attempt(self, state: TokenState, cost: int, now: int) -> tuple[int, TokenState, int, None]:
        """Take ``cost`` tokens if the bucket holds them (see ``Algorithm.attempt``)."""
        per_token = self.per_token
        level, at, high_at = state
        if now > at:
            level += (now - at) * self.per_ns
            if level > self.full_level:
                level = self.full_level
            at = now
        left = level - cost * per_token
        if left < 0 or not self.per_ns:
            return self.wait(state, cost, now), state, 0, None
        if level > self.half_level:
            high_at = at
        return 0, (left, at, high_at), left // per_token, None

    def settle(self, state: TokenState, more: int, now: int, since: int, cost: int) -> TokenState:
        """Charge ``more`` tokens, into debt if necessary; or refund (see ``Algorithm.settle``).

        A refund is at most the least room that the bucket had since the charge: with a smaller
        charge, it would have been full then, and further tokens would have been lost. The room was
        at least ``cost`` minus what was refilled since; it was also at least half the bucket,
        unless the bucket was more than half full meanwhile.
        """
        level = self.level(state, now)
        _, at, high_at = state
        at = max(now, at)
        refund = -more * self.per_token
        if refund > 0:
            room = cost * self.per_token - (at - since) * self.per_ns
            if high_at < since:
                room = max(room, self.full_level - self.half_level)
            elif high_at == since:  # both at one instant, in unknown order
                room = max(room, min(self.full_level - self.half_level, cost * self.per_token))
            refund = max(0, min(refund, room, self.full_level - level))
        return level + refund, at, at if max(level, level + refund) > self.half_level else high_at

    def remaining(self, state: TokenState, now: int) -> int:
        """Return the whole tokens in the bucket."""
        return max(0, self.level(state, now) // self.per_token)

    def reset_after(self, state: TokenState, now: int) -> int:
        """Return the nanoseconds until the bucket is full; ``NEVER`` if it does not refill."""
        level, at, _ = state
        if now > at:
            level += (now - at) * self.per_ns
            at = now
        if level >= self.full_level:
            return 0
        if not self.per_ns:
            return NEVER
        wait = -((level - self.full_level) // self.per_ns)
        return wait if at == now else at - now + wait

    def settled_after(self, debt: int = 0) -> int:
        """Return the nanoseconds until a bucket in ``debt`` is full; or ``NEVER``."""
        missing = self.full_level + debt * self.per_token
        return -(-missing // self.per_ns) if self.per_ns else NEVER

    def used(self, state: TokenState, now: int) -> int:
        """Return the tokens that are missing from a full bucket, rounded up."""
        return -(-(self.full_level - self.level(state, now)) // self.per_token)

    def same(self, one: TokenState, other: TokenState, now: int) -> bool:
        """Return True if two buckets have equal levels at ``now``."""
        return self.level(one, now) == self.level(other, now)

    def stricter(self, one: TokenState, other: TokenState, now: int) -> TokenState:
        """Return a bucket with the lower of two levels."""
        at = max(self.at(one, now), self.at(other, now))
        return min(self.level(one, at), self.level(other, at)), at, at

    def continued(self, old: TokenBucket, state: TokenState, now: int) -> TokenState:
        """Return the level in these ticks, and at most a full bucket."""
        level, at = old.level(state, now), old.at(state, now)
        _, _, high_at = state
        kept = min(level * self.per_token // old.per_token, self.full_level)
        return kept, at, at if level > old.half_level else high_at
