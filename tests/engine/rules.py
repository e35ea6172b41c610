"""The maths of limits, as the documents state it: in exact rationals, and by definition.

Tokens are fractions; a window is a table of counts; buckets are values that are replaced, never
changed. Nothing here is shared with an engine.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from fractions import Fraction
from math import ceil, floor, lcm
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

SECOND = 10**9
WEEK = 7 * 86_400 * SECOND
SUB_WINDOWS = 16


@dataclass(frozen=True)
class Level:
    """A token bucket: so many tokens at an instant."""

    tokens: Fraction
    at: int


@dataclass(frozen=True)
class Counts:
    """A window: what was admitted, by number of sub-window; ``head`` is the one being filled."""

    head: int
    by_slot: Mapping[int, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        return sum(self.by_slot.values())


Bucket = Level | Counts


@dataclass(frozen=True)
class Tokens:
    """``count`` tokens per ``span`` nanoseconds, at most ``burst``."""

    count: int
    span: int
    burst: int

    @property
    def rate(self) -> Fraction:
        return Fraction(self.count, self.span)

    @property
    def most(self) -> int:
        return self.burst

    @property
    def settle(self) -> int | None:
        """How long any bucket takes to fill; None for ever."""
        return ceil(self.burst / self.rate) if self.count else None

    def full(self, now: int) -> Level:
        return Level(Fraction(self.burst), now)

    def is_full(self, bucket: Level) -> bool:
        return bucket.tokens == self.burst

    def look(self, bucket: Level, now: int) -> Level:
        """The bucket as it is at ``now``; an instant before its own counts as its own."""
        if now <= bucket.at:
            return bucket
        return Level(min(Fraction(self.burst), bucket.tokens + (now - bucket.at) * self.rate), now)

    def settled_look(self, bucket: Level, now: int) -> Level:
        """What a look writes: nothing."""
        return bucket

    def wait(self, bucket: Level, cost: int, now: int) -> int | None:
        """Nanoseconds until ``cost`` is admitted; None for never."""
        if cost > self.burst or not self.count:
            return None
        here = self.look(bucket, now)
        if here.tokens >= cost:
            return 0
        return here.at + ceil((cost - here.tokens) / self.rate) - now

    def take(self, bucket: Level, cost: int, now: int) -> Level:
        here = self.look(bucket, now)
        return Level(here.tokens - cost, here.at)

    def remaining(self, bucket: Level, now: int) -> int:
        return floor(self.look(bucket, now).tokens)

    def reset(self, bucket: Level, now: int) -> int | None:
        here = self.look(bucket, now)
        if self.is_full(here):
            return 0
        return here.at + ceil((self.burst - here.tokens) / self.rate) - now if self.count else None

    def ticks(self) -> int:
        """Into how many parts a token is cut: a migrated level is a whole number of them."""
        return lcm(WEEK, self.span)


@dataclass(frozen=True)
class Window:
    """At most ``most`` in any ``length`` nanoseconds; a written rate of 0 refuses all."""

    most: int
    length: int
    blocked: bool = False

    @property
    def slot(self) -> int:
        return ceil(Fraction(self.length, SUB_WINDOWS - 1))

    @property
    def settle(self) -> int:
        return SUB_WINDOWS * self.slot

    def full(self, now: int) -> Counts:
        return Counts(now // self.slot)

    def is_full(self, bucket: Counts) -> bool:
        return not bucket.total

    def look(self, bucket: Counts, now: int) -> Counts:
        """Forget each sub-window that is wholly older than the window."""
        head = max(bucket.head, now // self.slot)
        kept = {slot: n for slot, n in bucket.by_slot.items() if slot + SUB_WINDOWS > head and n}
        return Counts(head, kept)

    def settled_look(self, bucket: Counts, now: int) -> Counts:
        """What a look writes: the window has come as far as ``now``."""
        return self.look(bucket, now)

    def wait(self, bucket: Counts, cost: int, now: int) -> int | None:
        if cost > self.most or self.blocked:
            return None
        here = self.look(bucket, now)
        if here.total + cost <= self.most:
            return 0
        for slot in sorted(here.by_slot):
            later = (slot + SUB_WINDOWS) * self.slot
            if self.look(here, later).total + cost <= self.most:
                return later - now
        raise AssertionError("an empty window admits what fits")

    def take(self, bucket: Counts, cost: int, now: int) -> Counts:
        here = self.look(bucket, now)
        return Counts(here.head, {**here.by_slot, here.head: here.by_slot.get(here.head, 0) + cost})

    def remaining(self, bucket: Counts, now: int) -> int:
        return max(0, self.most - self.look(bucket, now).total)

    def reset(self, bucket: Counts, now: int) -> int:
        here = self.look(bucket, now)
        slots = [slot for slot, n in here.by_slot.items() if n]
        return (max(slots) + SUB_WINDOWS) * self.slot - now if slots else 0


Rule = Tokens | Window


def migrate(old: Rule, new: Rule, bucket: Bucket, now: int) -> Bucket:
    """The written rules for a change of parameters."""
    here = old.look(bucket, now)
    if isinstance(old, Tokens):
        now = max(now, here.at)
        if isinstance(new, Tokens):
            kept = min(Fraction(new.burst), here.tokens)
            return Level(Fraction(floor(kept * new.ticks()), new.ticks()), now)
        missing = ceil(old.burst - here.tokens)
        return Counts(now // new.slot, {now // new.slot: missing} if missing else {})
    now = max(now, here.head * old.slot)
    if isinstance(new, Tokens):
        return Level(Fraction(max(0, new.burst - here.total)), now)
    if new.slot == old.slot:
        return here
    moved: Counter[int] = Counter()
    for slot, count in here.by_slot.items():
        latest = min((slot + 1) * old.slot - 1, now)
        moved[latest // new.slot] += count
    return new.look(Counts(now // new.slot, moved), now)
