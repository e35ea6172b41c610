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


class TokenState:
    """A bucket: its level in ticks when it was last written, at ``at`` (nanoseconds).

    ``high_at``: when it was last found more than half full, at a charge or refund; or when it
    began, as what was before is not known. Below zero it is in debt.
    """

    __slots__ = ("at", "epoch", "high_at", "level", "serial")

    def __init__(self, level: int, at: int) -> None:
        self.level = level
        self.at = at
        self.high_at = at
        self.epoch = 0
        self.serial = 0

    def copy(self) -> TokenState:
        twin = TokenState(self.level, self.at)
        twin.high_at = self.high_at
        twin.epoch = self.epoch
        return twin


class TokenBucket:
    """Parameters: ``numerator/denominator`` tokens per nanosecond, ``burst`` tokens at most.

    All methods take ``now`` in nanoseconds; a ``now`` before the bucket's own time counts as it.
    """

    __slots__ = ("_key", "burst", "capacity", "half", "most", "per_ns", "per_token")

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
        return TokenState(self.capacity, now)

    def spent(self, used: int, now: int) -> TokenState:
        """A bucket from which ``used`` tokens are missing."""
        return TokenState(max(0, self.capacity - used * self.per_token), now)

    def at(self, state: TokenState, now: int) -> int:
        """``now``, or the bucket's own time if that is later."""
        return max(now, state.at)

    def level(self, state: TokenState, now: int) -> int:
        """Ticks in the bucket at ``now``."""
        if now <= state.at:
            return state.level
        level = state.level + (now - state.at) * self.per_ns
        return min(self.capacity, level)

    def wait(self, state: TokenState, cost: int, now: int) -> int:
        """Nanoseconds until ``cost`` is admitted, rounded up: 0 is now, ``NEVER`` is never."""
        missing = cost * self.per_token - state.level
        if missing <= 0 and self.per_ns:
            return 0
        if cost > self.burst or not self.per_ns:
            return NEVER
        # Counted from the bucket's own time: a clock that stepped back waits longer.
        ready = state.at + -(-missing // self.per_ns)
        return ready - now if ready > now else 0

    def charge(self, state: TokenState, cost: int, now: int) -> int:
        """Take ``cost``, which ``wait`` just admitted; returns the tokens left, rounded down."""
        per_token = self.per_token
        level = state.level
        if now > state.at:
            level += (now - state.at) * self.per_ns
            if level > self.capacity:
                level = self.capacity
            state.at = now
        if level > self.half:
            state.high_at = state.at
        state.level = level = level - cost * per_token
        return level // per_token

    def settle(self, state: TokenState, more: int, now: int, since: int, cost: int) -> None:
        """Charge ``more`` tokens, into debt if need be; or refund, as ``Algorithm.settle`` says.

        A refund must not exceed the room that the bucket had at every instant since the charge:
        tokens that a fuller bucket would have lost are gone. The room was at least ``cost``, less
        what was refilled since; and half the bucket, unless it was fuller than that meanwhile.
        """
        level = self.level(state, now)
        at = max(now, state.at)
        refund = -more * self.per_token
        if refund > 0:
            room = cost * self.per_token - (at - since) * self.per_ns
            if state.high_at < since:
                room = max(room, self.capacity - self.half)
            elif state.high_at == since:  # at one instant, nobody knows what came first
                room = max(room, min(self.capacity - self.half, cost * self.per_token))
            refund = max(0, min(refund, room, self.capacity - level))
        if max(level, level + refund) > self.half:
            state.high_at = at
        state.level = level + refund
        state.at = at

    def remaining(self, state: TokenState, now: int) -> int:
        """Whole tokens in the bucket."""
        return max(0, self.level(state, now) // self.per_token)

    def reset_after(self, state: TokenState, now: int) -> int:
        """Nanoseconds until the bucket is full; ``NEVER`` when it does not refill."""
        level, at = state.level, state.at
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
        at = max(now, one.at, other.at)
        return TokenState(min(self.level(one, at), self.level(other, at)), at)
