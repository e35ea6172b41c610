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

from ratectl.engine.algorithms.protocol import FOREVER, NEVER, Algorithm, Extent

__all__ = ["TokenBucket", "TokenState"]

WEEK_NS: Final = 604_800_000_000_000


TokenState = tuple[int, int, int, int]
"""Content of one bucket, ``(level, at, high_at, hidden)``. Immutable.

``level``: ticks in the bucket at ``at``, the instant (nanoseconds) of the last change; below zero,
the bucket is in debt. ``high_at``: the last instant of a charge or refund at which the bucket was
more than half full; for a new bucket, the instant at which it began, as its past is not known.
``hidden``: ticks that are missing beside those that the level shows, because the burst was cut
while they were missing.

*Missing* is what was admitted and is not refilled yet, whatever the burst was then: what the level
shows plus what is hidden. As growth gives no tokens, the level of an untouched bucket, ``default``,
may be below the burst for a while. What is missing is then counted beside that level.
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
        return self.full_level, now, now, 0

    def spent(self, used: int, now: int) -> TokenState:
        """Return a bucket from which ``used`` tokens are missing."""
        level = self.full_level - used * self.per_token
        return max(0, level), now, now, max(0, -level)

    def at(self, state: TokenState, now: int) -> int:
        """Return ``now``, or the bucket's own time if that is later."""
        return max(now, state[1])

    def level(self, state: TokenState, now: int) -> int:
        """Return the ticks in the bucket at ``now``."""
        level, at, _, _ = state
        return level if now <= at else min(self.full_level, level + (now - at) * self.per_ns)

    def missing(self, state: TokenState, now: int) -> int:
        """Return the ticks that are missing at ``now``, hidden ones included."""
        level, at, _, hidden = state
        missing = self.full_level - level + hidden
        return missing if now <= at else max(0, missing - (now - at) * self.per_ns)

    def wait(self, state: TokenState, cost: int, now: int) -> int:
        """Return the nanoseconds until ``cost`` is admitted, rounded up, or ``NEVER``."""
        level, at, _, _ = state
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
        level, at, high_at, hidden = state
        if now > at:
            level += (now - at) * self.per_ns
            if level > self.full_level:
                hidden = max(0, hidden - level + self.full_level)
                level = self.full_level
            at = now
        left = level - cost * per_token
        if left < 0 or not self.per_ns:
            return self.wait(state, cost, now), state, 0, None
        if level > self.half_level:
            high_at = at
        return 0, (left, at, high_at, hidden), left // per_token, None

    def settle(self, state: TokenState, more: int, now: int, since: int, cost: int) -> TokenState:
        """Charge ``more`` tokens, into debt if necessary; or refund (see ``Algorithm.settle``).

        A refund is at most the least room that the bucket had since the charge: with a smaller
        charge, it would have been full then, and further tokens would have been lost. The room was
        at least ``cost`` minus what was refilled since; it was also at least half the bucket,
        unless the bucket was more than half full meanwhile.
        """
        level, missing = self.level(state, now), self.missing(state, now)
        _, at, high_at, _ = state
        hidden = missing - (self.full_level - level)
        at = max(now, at)
        refund = -more * self.per_token
        if refund > 0:
            room = cost * self.per_token - (at - since) * self.per_ns
            if high_at < since:
                room = max(room, self.full_level - self.half_level)
            elif high_at == since:  # both at one instant, in unknown order
                room = max(room, min(self.full_level - self.half_level, cost * self.per_token))
            refund = max(0, min(refund, room, self.full_level - level))
        high = max(level, level + refund) > self.half_level
        return level + refund, at, at if high else high_at, hidden

    def remaining(self, state: TokenState, now: int) -> int:
        """Return the whole tokens in the bucket."""
        return max(0, self.level(state, now) // self.per_token)

    def reset_after(self, state: TokenState, now: int) -> int:
        """Return the nanoseconds until the bucket is full; ``NEVER`` if it does not refill."""
        level, at, _, _ = state
        if now > at:
            level += (now - at) * self.per_ns
            at = now
        if level >= self.full_level:
            return 0
        if not self.per_ns:
            return NEVER
        wait = -((level - self.full_level) // self.per_ns)
        return wait if at == now else at - now + wait

    def extent(self) -> Extent:
        """See ``Algorithm.extent``."""
        return Extent(
            self.capacity, -(-self.per_token // self.per_ns) if self.per_ns else FOREVER, 0
        )

    def used(self, state: TokenState, now: int) -> int:
        """Return the tokens that are missing, hidden ones included, rounded up."""
        return -(-self.missing(state, now) // self.per_token)

    def moved(self, state: TokenState, by: int) -> TokenState | None:
        """See ``Algorithm.moved``."""
        level, at, high_at, hidden = state
        return level, at + by, high_at + by, hidden

    def same(self, one: TokenState, other: TokenState, now: int) -> bool:
        """Return True if two buckets have equal levels, and miss as much, at ``now``."""
        alike = self.level(one, now) == self.level(other, now)
        return alike and self.missing(one, now) == self.missing(other, now)

    def stricter(self, one: TokenState, other: TokenState, now: int) -> TokenState:
        """Return a bucket with the lower of two levels, and the larger of what is missing.

        It refills from the later of their own times on: what one would gain until then counts
        only if the other gains it as well.
        """
        at = max(self.at(one, now), self.at(other, now))
        level = min(self.level(one, now), self.level(other, now))
        missing = max(self.missing(one, now), self.missing(other, now))
        return level, at, at, missing - (self.full_level - level)

    def absolute(self, state: TokenState, default: TokenState, now: int) -> TokenState:
        """See ``Algorithm.absolute``. ``hidden`` is below zero for what growth has not given."""
        return self._beside(state, default, now, -1)

    def relative(self, state: TokenState, default: TokenState, now: int) -> TokenState:
        """See ``Algorithm.relative``."""
        level, at, high_at, hidden = self._beside(state, default, now, 1)
        return level, at, high_at, max(0, hidden)

    def _beside(self, state: TokenState, default: TokenState, now: int, sign: int) -> TokenState:
        at = max(self.at(state, now), self.at(default, now))
        level, (*_, high_at, _) = self.level(state, now), state
        hidden = self.missing(state, now) - (self.full_level - level)
        not_given = self.full_level - self.level(default, now)
        return level, at, high_at, hidden + sign * not_given

    def continued(self, old: TokenBucket, state: TokenState, now: int) -> TokenState:
        """Return the level in these ticks, at most the burst."""
        return self._converted(old, state, now, in_use=False)

    def carried(self, old: TokenBucket, state: TokenState, now: int) -> TokenState:
        """Return the level in these ticks, at least that of a full bucket without the missing."""
        return self._converted(old, state, now, in_use=True)

    def _converted(
        self, old: TokenBucket, state: TokenState, now: int, *, in_use: bool
    ) -> TokenState:
        level, at = old.level(state, now), old.at(state, now)
        missing = -(-old.missing(state, now) * self.per_token // old.per_token)
        *_, high_at, _ = state
        kept = level * self.per_token // old.per_token
        if in_use:
            kept = max(kept, self.full_level - missing)
        kept = min(kept, self.full_level)
        hidden = missing - (self.full_level - kept)
        high = level > old.half_level or kept > self.half_level
        return kept, at, at if high else high_at, hidden
