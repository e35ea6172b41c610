"""Token bucket: bursts up to a total, then a steady pace. Exact integer arithmetic.

In any span of t a bucket admits at most ``burst + rate·t`` (the generic cell rate algorithm of
ITU-T I.371 in its "virtual scheduling" form, stated in tokens rather than arrival times).

One token is cut into *ticks*: as many as a week has nanoseconds. Every rate per second, minute,
hour, day or week is then a whole number of ticks per nanosecond, so accrual never rounds, and a
level survives a change of rate to the last tick. (A rate over an odd span, such as 1/11s, cuts
finer still.)
"""

from __future__ import annotations

from math import lcm
from typing import Final

from ratectl.engine.decision import NEVER

__all__ = ["TokenBucket", "TokenState"]

WEEK_NS: Final = 604_800_000_000_000


TokenState = tuple[int, int, int]
"""Content of one bucket, ``(level, at, high_at)``; a charge makes another.

``level``: ticks in the bucket at ``at``, the instant (nanoseconds) of the last change; below zero
the bucket is in debt. ``high_at``: last instant, at a charge or refund, when the bucket was more
than half full; for a new bucket the instant when it began, as its past is not known.
"""


class TokenBucket:
    """Parameters: ``numerator/denominator`` tokens per nanosecond, ``burst`` tokens at most.

    All methods take ``now`` in nanoseconds; a ``now`` before the bucket's own time counts as it.
    """

    __slots__ = ("_key", "burst", "capacity", "half", "most", "per_ns", "per_token")

    holds: Final = False

    def __init__(self, numerator: int, denominator: int, burst: int) -> None:
        if numerator < 0 or denominator <= 0 or burst < 0:
            raise ValueError("a rate and a burst are not negative")
        self.per_token = lcm(WEEK_NS, denominator)
        self.per_ns = numerator * (self.per_token // denominator)
        self.burst = self.most = burst
        self.capacity = burst * self.per_token
        self.half = self.capacity // 2
        self._key = (self.per_ns, self.per_token, burst)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TokenBucket) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def full(self, now: int) -> TokenState:
        """A bucket that has never been drawn from."""
        return self.capacity, now, now

    def spent(self, used: int, now: int) -> TokenState:
        """A bucket from which ``used`` tokens are missing."""
        return max(0, self.capacity - used * self.per_token), now, now

    def at(self, state: TokenState, now: int) -> int:
        """``now``, or the bucket's own time if that is later."""
        _, at, _ = state
        return max(now, at)

    def level(self, state: TokenState, now: int) -> int:
        """Ticks in the bucket at ``now``."""
        level, at, _ = state
        return level if now <= at else min(self.capacity, level + (now - at) * self.per_ns)

    def wait(self, state: TokenState, cost: int, now: int) -> int:
        """Nanoseconds until ``cost`` is admitted, rounded up: 0 is now, ``NEVER`` is never."""
        level, at, _ = state
        missing = cost * self.per_token - level
        if missing <= 0 and self.per_ns:
            return 0
        if cost > self.burst or not self.per_ns:
            return NEVER
        # Counted from the bucket's own time: a clock that stepped back waits longer.
        ready = at + -(-missing // self.per_ns)
        return ready - now if ready > now else 0

    def advance(self, state: TokenState, now: int) -> TokenState:  # noqa: ARG002
        """Return the state itself: tokens accrue when it is next drawn from."""
        return state

    def attempt(self, state: TokenState, cost: int, now: int) -> tuple[int, TokenState, int, None]:
        """Take ``cost`` if it is there (see ``Algorithm.attempt``)."""
        per_token = self.per_token
        level, at, high_at = state
        if now > at:
            level += (now - at) * self.per_ns
            if level > self.capacity:
                level = self.capacity
            at = now
        left = level - cost * per_token
        if left < 0 or not self.per_ns:
            return self.wait(state, cost, now), state, 0, None
        if level > self.half:
            high_at = at
        return 0, (left, at, high_at), left // per_token, None

    def settle(self, state: TokenState, more: int, now: int, since: int, cost: int) -> TokenState:
        """Charge ``more`` tokens, into debt if need be; or refund, as ``Algorithm.settle`` says.

        A refund must not exceed the room that the bucket had at every instant since the charge:
        tokens that a fuller bucket would have lost are gone. The room was at least ``cost``, less
        what was refilled since; and half the bucket, unless it was fuller than that meanwhile.
        """
        level = self.level(state, now)
        _, at, high_at = state
        at = max(now, at)
        refund = -more * self.per_token
        if refund > 0:
            room = cost * self.per_token - (at - since) * self.per_ns
            if high_at < since:
                room = max(room, self.capacity - self.half)
            elif high_at == since:  # at one instant, nobody knows what came first
                room = max(room, min(self.capacity - self.half, cost * self.per_token))
            refund = max(0, min(refund, room, self.capacity - level))
        return level + refund, at, at if max(level, level + refund) > self.half else high_at

    def remaining(self, state: TokenState, now: int) -> int:
        """Whole tokens in the bucket."""
        return max(0, self.level(state, now) // self.per_token)

    def reset_after(self, state: TokenState, now: int) -> int:
        """Nanoseconds until the bucket is full; ``NEVER`` when it does not refill."""
        level, at, _ = state
        if now > at:
            level += (now - at) * self.per_ns
            at = now
        if level >= self.capacity:
            return 0
        if not self.per_ns:
            return NEVER
        wait = -((level - self.capacity) // self.per_ns)
        return wait if at == now else at - now + wait

    def settled_after(self, owed: int = 0) -> int:
        """Nanoseconds after which a bucket is full again, ``owed`` below empty; or ``NEVER``."""
        missing = self.capacity + owed * self.per_token
        return -(-missing // self.per_ns) if self.per_ns else NEVER

    def used(self, state: TokenState, now: int) -> int:
        """Tokens missing from a full bucket, rounded up."""
        return -(-(self.capacity - self.level(state, now)) // self.per_token)

    def same(self, one: TokenState, other: TokenState, now: int) -> bool:
        """Whether two buckets answer alike from ``now`` on."""
        return self.level(one, now) == self.level(other, now)

    def stricter(self, one: TokenState, other: TokenState, now: int) -> TokenState:
        """A bucket that admits no more than either."""
        at = max(self.at(one, now), self.at(other, now))
        return min(self.level(one, at), self.level(other, at)), at, at
