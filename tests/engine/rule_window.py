"""The oracle's sliding windows: admitted cost by number of the sub-window."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

SUB_WINDOWS = 16


class Counts(NamedTuple):
    """``head`` is the sub-window being filled.

    ``since``: when the first of what is counted was, so that later requests are told apart. Where
    nothing is, the next to be counted is the first.
    """

    head: int
    by_slot: Mapping[int, int]
    since: int

    @property
    def total(self) -> int:
        return sum(self.by_slot.values())


@dataclass(frozen=True)
class Window:
    """At most ``most`` in any ``length`` nanoseconds; a written rate of 0 refuses all."""

    most: int
    length: int
    blocked: bool = False

    @property
    def slot(self) -> int:
        return -(-self.length // (SUB_WINDOWS - 1))

    def full(self, now: int) -> Counts:
        return Counts(now // self.slot, {}, now)

    def spent(self, missing: int, now: int) -> Counts:
        """Return counts whose requests are unknown: none up to ``now`` is told apart."""
        head = now // self.slot
        return Counts(head, {head: missing} if missing else {}, now + 1)

    def same(self, one: Counts, other: Counts, now: int) -> bool:
        one, other = self.look(one, now), self.look(other, now)
        return (not one.by_slot and not other.by_slot) or one[:2] == other[:2]

    def look(self, bucket: Counts, now: int) -> Counts:
        """Forget each sub-window that is wholly older than the window."""
        head = now // self.slot
        if head <= bucket.head:
            return bucket
        kept = {slot: n for slot, n in bucket.by_slot.items() if slot + SUB_WINDOWS > head}
        return Counts(head, kept, bucket.since)

    def looked(self, bucket: Counts, cost: int, now: int) -> Counts:
        """Return the state after a decision without a charge: the window moved to ``now``."""
        return self.look(bucket, now)

    def reported(self, bucket: Counts, now: int) -> Counts:
        """Return the state after a decision that reports what is left."""
        return self.look(bucket, now)

    def wait(self, bucket: Counts, cost: int, now: int) -> int | None:
        if cost > self.most or self.blocked:
            return None
        here = self.look(bucket, now)
        left = here.total
        if left + cost <= self.most:
            return 0
        for slot in sorted(here.by_slot):
            left -= here.by_slot[slot]
            if left + cost <= self.most:
                return self._forgotten(slot) - now
        raise AssertionError("an empty window admits what fits")

    def _forgotten(self, slot: int) -> int:
        return (slot + SUB_WINDOWS) * self.slot

    def take(self, bucket: Counts, cost: int, now: int) -> Counts:
        here = self.look(bucket, now)
        since = here.since if here.by_slot else now
        return Counts(here.head, _with(here.by_slot, here.head, cost), since)

    def remaining(self, bucket: Counts, now: int) -> int:
        return max(0, self.most - self.look(bucket, now).total)

    def reset(self, bucket: Counts, now: int) -> int:
        here = self.look(bucket, now)
        return self._forgotten(max(here.by_slot)) - now if here.by_slot else 0

    def missing(self, bucket: Counts, now: int) -> int:
        return self.look(bucket, now).total

    def own_time(self, bucket: Counts, now: int) -> int:
        return max(now, bucket.head * self.slot)

    def moved(self, old: Window, bucket: Counts, now: int) -> Counts:
        """Move each sub-window's count to the latest instant at which it may have been admitted."""
        here = old.look(bucket, now)
        if self.slot == old.slot:
            return here
        now = old.own_time(here, now)
        moved: Counter[int] = Counter()
        for slot, count in here.by_slot.items():
            moved[min((slot + 1) * old.slot - 1, now) // self.slot] += count
        head = now // self.slot
        kept = {slot: n for slot, n in moved.items() if slot + SUB_WINDOWS > head}
        return Counts(head, kept, here.since)

    def carried(self, old: Window, bucket: Counts, now: int) -> Counts:
        """Return what a request carries over to a bucket in use."""
        return self.moved(old, bucket, now)

    def absolute(self, bucket: Counts, untouched: Counts, now: int) -> Counts:
        return bucket

    relative = absolute

    def stricter(self, one: Counts, other: Counts, now: int) -> Counts:
        now = max(self.own_time(one, now), self.own_time(other, now))
        one, other = self.look(one, now), self.look(other, now)
        counts: dict[int, int] = {}
        for slot in sorted({*one.by_slot, *other.by_slot}, reverse=True):
            later = [sum(n for s, n in each.by_slot.items() if s >= slot) for each in (one, other)]
            counts[slot] = max(later) - sum(counts.values())
        return Counts(now // self.slot, counts, now + 1)

    def corrected(self, bucket: Counts, more: int, now: int, since: int, least: int) -> Counts:
        """Count more now; or subtract from the sub-window of the request, while it exists."""
        here = self.look(bucket, now)
        if more >= 0:
            return self.take(here, more, now)
        slot = since // self.slot
        if since < here.since:
            return here
        less = min(-more, here.by_slot.get(slot, 0))
        return here._replace(by_slot=_with(here.by_slot, slot, -less))


def _with(counts: Mapping[int, int], slot: int, more: int) -> Mapping[int, int]:
    """Return the counts with one changed; zeros are left out."""
    if not more:
        return counts
    left = counts.get(slot, 0) + more
    return {**counts, slot: left} if left else {n: c for n, c in counts.items() if n != slot}
