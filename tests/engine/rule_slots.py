"""The oracle's concurrency limits: slots that are held until released, or for ``hold``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

FOREVER = 1 << 100
UNKNOWN = -1
"""Wait of unknown length: until a held slot is released."""


class Slot:
    """Slots of one request; ``over`` once released, or once seen after ``hold``."""

    __slots__ = ("cost", "over", "until")

    def __init__(self, cost: int, until: int) -> None:
        self.cost = cost
        self.until = until
        self.over = False


class Held(NamedTuple):
    """Slots, each with the instant from which this bucket no longer counts it.

    ``own`` were taken here: none ends before those that were held already, even where the clock
    steps back. ``last``: when the last of them ends, or did. ``foreign``: cost that was missing
    under another algorithm, by the instant from which it no longer counts.
    """

    slots: tuple[tuple[Slot, int], ...] = ()
    own: tuple[Slot, ...] = ()
    last: int = 0
    foreign: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Slots:
    """At most ``most`` held at once, each for ``hold`` nanoseconds at most."""

    most: int
    hold: int

    def full(self, now: int) -> Held:
        return Held()

    def spent(self, missing: int, now: int) -> Held:
        """Return a bucket of which so much is taken now. No request can release it."""
        return Held(foreign=((now + self.hold, missing),) if missing else ())

    def same(self, one: Held, other: Held, now: int) -> bool:
        one, other = self.look(one, now), self.look(other, now)
        return (one.slots, one.foreign) == (other.slots, other.foreign)

    def look(self, bucket: Held, now: int) -> Held:
        """Return the slots that count at ``now``; a slot seen to be over stays over."""
        for slot, _ in bucket.slots:
            slot.over = slot.over or slot.until <= now
        held = tuple([(slot, end) for slot, end in bucket.slots if not slot.over and now < end])
        foreign = tuple([(end, cost) for end, cost in bucket.foreign if now < end])
        if (held, foreign) == (bucket.slots, bucket.foreign):
            return bucket
        return bucket._replace(slots=held, foreign=foreign)

    def looked(self, bucket: Held, cost: int, now: int) -> Held:
        return bucket if cost > self.most else self.look(bucket, now)

    def reported(self, bucket: Held, now: int) -> Held:
        """Return the state after a decision that reports what is left."""
        return self.look(bucket, now)

    def wait(self, bucket: Held, cost: int, now: int) -> int | None:
        """Return the wait: 0 for now, None for never, or UNKNOWN."""
        if cost > self.most:
            return None
        return 0 if self.missing(bucket, now) + cost <= self.most else UNKNOWN

    def take(self, bucket: Held, cost: int, now: int) -> Held:
        """Take slots; the new slot, if any, is the last one."""
        here = self.look(bucket, now)
        if not cost:
            return here
        own = [slot for slot in here.own if not slot.over]
        slot = Slot(cost, max([now + self.hold, *(other.until for other in own)]))
        return Held((*here.slots, (slot, FOREVER)), (*own, slot), slot.until, here.foreign)

    def remaining(self, bucket: Held, now: int) -> int:
        return max(0, self.most - self.missing(bucket, now))

    def reset(self, bucket: Held, now: int) -> int | None:
        """Return None while a slot is held, since its end is unknown."""
        return None if self.missing(bucket, now) else 0

    def missing(self, bucket: Held, now: int) -> int:
        here = self.look(bucket, now)
        return sum([slot.cost for slot, _ in here.slots]) + sum([cost for _, cost in here.foreign])

    def own_time(self, bucket: Held, now: int) -> int:
        return max(now, bucket.last - self.hold)

    def moved(self, old: Slots, bucket: Held, now: int) -> Held:
        """Keep held slots, for at most the new ``hold`` from now on."""
        end = now + self.hold
        foreign = tuple([(min(until, end), cost) for until, cost in bucket.foreign])
        return Held(
            tuple([(slot, min(until, end)) for slot, until in bucket.slots]), foreign=foreign
        )

    def carried(self, old: Slots, bucket: Held, now: int) -> Held:
        """Return what a request carries over to a bucket in use."""
        return self.moved(old, bucket, now)

    def absolute(self, bucket: Held, untouched: Held, now: int) -> Held:
        return bucket

    relative = absolute

    def stricter(self, one: Held, other: Held, now: int) -> Held:
        """Return the union of both buckets' slots, and the larger of the foreign costs."""
        ends: dict[Slot, int] = {}
        for slot, end in (*one.slots, *other.slots):
            ends[slot] = max(end, ends.get(slot, end))
        foreign: list[tuple[int, int]] = []
        for end in sorted({end for end, _ in (*one.foreign, *other.foreign)}, reverse=True):
            after = [sum(cost for t, cost in each.foreign if t >= end) for each in (one, other)]
            foreign.append((end, max(after) - sum(cost for _, cost in foreign)))
        return Held(tuple(ends.items()), foreign=tuple(foreign))

    def corrected(self, bucket: Held, more: int, now: int, since: int, least: int) -> Held:
        """Slots are held, not spent: a request holds those that it was admitted with.

        Slots that have ended are marked as over.
        """
        return self.look(bucket, now)
