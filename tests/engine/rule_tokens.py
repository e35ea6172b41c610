"""The oracle's token buckets: a level in exact fractions of a token."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from math import ceil, floor, lcm
from typing import NamedTuple

WEEK = 7 * 86_400 * 10**9


class Level(NamedTuple):
    """Tokens at an instant; a negative level is a debt.

    ``high_at``: when it was last found more than half full, at a charge or a refund, or began.
    ``hidden``: tokens that are missing beside those that an untouched bucket has and this one not.
    """

    tokens: Fraction
    at: int
    high_at: int
    hidden: Fraction = Fraction(0)


@dataclass(frozen=True)
class Tokens:
    """``count`` tokens per ``span`` nanoseconds, at most ``burst``."""

    count: int
    span: int
    burst: int

    @cached_property
    def rate(self) -> Fraction:
        return Fraction(self.count, self.span)

    @cached_property
    def capacity(self) -> Fraction:
        return Fraction(self.burst)

    @property
    def most(self) -> int:
        return self.burst

    def full(self, now: int) -> Level:
        return Level(self.capacity, now, now)

    def spent(self, missing: int, now: int) -> Level:
        hidden = Fraction(max(0, missing - self.burst))
        return Level(Fraction(max(0, self.burst - missing)), now, now, hidden)

    def same(self, one: Level, other: Level, now: int) -> bool:
        one, other = self.look(one, now), self.look(other, now)
        return (one.tokens, one.hidden) == (other.tokens, other.hidden)

    def look(self, bucket: Level, now: int) -> Level:
        """Return the bucket at ``now``; an instant before its own counts as its own."""
        if now <= bucket.at:
            return bucket
        tokens = bucket.tokens + (now - bucket.at) * self.rate
        lost = max(Fraction(0), tokens - self.capacity)
        hidden = max(Fraction(0), bucket.hidden - lost) if lost else bucket.hidden
        return Level(tokens - lost, now, bucket.high_at, hidden)

    def looked(self, bucket: Level, cost: int, now: int) -> Level:
        """Return the state after a decision without a charge: unchanged."""
        return bucket

    def reported(self, bucket: Level, now: int) -> Level:
        """Return the state after a decision that reports what is left: unchanged."""
        return bucket

    def wait(self, bucket: Level, cost: int, now: int) -> int | None:
        """Return the nanoseconds until ``cost`` is admitted; None for never."""
        if cost > self.burst or not self.count:
            return None
        here = self.look(bucket, now)
        if here.tokens >= cost:
            return 0
        return here.at + ceil((cost - here.tokens) / self.rate) - now

    def take(self, bucket: Level, cost: int, now: int) -> Level:
        here = self.look(bucket, now)
        high_at = here.at if 2 * here.tokens > self.burst else here.high_at
        return Level(here.tokens - cost, here.at, high_at, here.hidden)

    def remaining(self, bucket: Level, now: int) -> int:
        return max(0, floor(self.look(bucket, now).tokens))

    def reset(self, bucket: Level, now: int) -> int | None:
        here = self.look(bucket, now)
        if here.tokens == self.burst:
            return 0
        return here.at + ceil((self.burst - here.tokens) / self.rate) - now if self.count else None

    def missing(self, bucket: Level, now: int) -> int:
        """Return what is missing from a full bucket, rounded up."""
        here = self.look(bucket, now)
        return ceil(self.burst - here.tokens + here.hidden)

    def own_time(self, bucket: Level, now: int) -> int:
        return max(now, bucket.at)

    def moved(self, old: Tokens, bucket: Level, now: int) -> Level:
        """Return the bucket under these parameters, after other parameters until ``now``."""
        return self._moved(old, bucket, now, least=None)

    def carried(self, old: Tokens, bucket: Level, now: int) -> Level:
        """Return what a request carries over to a bucket in use: at least what is not missing."""
        return self._moved(old, bucket, now, least=self.capacity)

    def _moved(self, old: Tokens, bucket: Level, now: int, *, least: Fraction | None) -> Level:
        here = old.look(bucket, now)
        missing = -self._cut(here.tokens - here.hidden - old.capacity)
        kept = self._cut(here.tokens)
        if least is not None:
            kept = max(kept, least - missing)
        kept = min(self.capacity, kept)
        hidden = missing - (self.capacity - kept)
        return Level(kept, max(now, here.at), here.high_at, hidden)

    def absolute(self, bucket: Level, untouched: Level, now: int) -> Level:
        """Return the bucket with all that is missing from a full one; hidden may be negative."""
        return self._beside(bucket, untouched, now, -1)

    def relative(self, bucket: Level, untouched: Level, now: int) -> Level:
        """Return the bucket with what is missing beside an untouched one."""
        here = self._beside(bucket, untouched, now, 1)
        return here._replace(hidden=max(Fraction(0), here.hidden))

    def _beside(self, bucket: Level, untouched: Level, now: int, sign: int) -> Level:
        at = max(now, bucket.at, untouched.at)
        here = self.look(bucket, at)
        not_given = self.capacity - self.look(untouched, at).tokens
        return here._replace(hidden=here.hidden + sign * not_given, at=at)

    def _cut(self, tokens: Fraction) -> Fraction:
        """Return the level rounded down to the fraction of a token that these parameters use."""
        ticks = lcm(WEEK, self.span)
        return tokens if ticks % tokens.denominator == 0 else Fraction(floor(tokens * ticks), ticks)

    def stricter(self, one: Level, other: Level, now: int) -> Level:
        at = max(now, one.at, other.at)
        one, other = self.look(one, at), self.look(other, at)
        tokens = min(one.tokens, other.tokens)
        missing = max(self.capacity - each.tokens + each.hidden for each in (one, other))
        return Level(tokens, at, at, missing - (self.capacity - tokens))

    def corrected(self, bucket: Level, more: int, now: int, since: int, least: int) -> Level:
        """Charge ``more``, into debt if necessary; or refund, up to the room that surely existed.

        ``least`` is what the request, charged at ``since``, has held of the bucket ever since.
        """
        here = self.look(bucket, now)
        if more >= 0:
            return self.take(here, more, now)
        room = least - (here.at - since) * self.rate
        if here.high_at < since:
            room = max(room, self.capacity / 2)
        elif here.high_at == since:  # the order of events at one instant is unknown
            room = max(room, min(self.capacity / 2, Fraction(least)))
        refund = max(Fraction(0), min(Fraction(-more), room, self.capacity - here.tokens))
        tokens = here.tokens + refund
        high_at = here.at if 2 * tokens > self.burst else here.high_at
        return Level(tokens, here.at, high_at, here.hidden)
