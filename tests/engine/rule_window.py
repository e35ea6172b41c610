"""The oracle's sliding windows: an exact log of admitted costs by instant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping


class Counts(NamedTuple):
    """``unknown``: requests up to this instant cannot be told apart, and nothing is refunded."""

    by_instant: Mapping[int, int]
    unknown: int | None = None

    @property
    def total(self) -> int:
        return sum(self.by_instant.values())


@dataclass(frozen=True)
class Window:
    """At most ``most`` in any ``length`` nanoseconds; a written rate of 0 refuses all.

    ``cells``: for the engine; an exact log has no cells.
    """

    most: int
    length: int
    blocked: bool = False
    cells: int = 24

    def full(self, now: int) -> Counts:
        return Counts({})

    def spent(self, missing: int, now: int) -> Counts:
        """Return counts whose requests are unknown: none up to ``now`` is told apart."""
        return Counts({now: missing}, now)

    def same(self, one: Counts, other: Counts, now: int) -> bool:
        one, other = self.look(one, now), self.look(other, now)
        return one.total == other.total == 0 or one.by_instant == other.by_instant

    def look(self, bucket: Counts, now: int) -> Counts:
        """Forget each request that is as old as the window."""
        kept = {at: n for at, n in bucket.by_instant.items() if at + self.length > now}
        return Counts(kept, bucket.unknown)

    def looked(self, bucket: Counts, cost: int, now: int) -> Counts:
        """Return the state after a decision without a charge."""
        return bucket

    def reported(self, bucket: Counts, now: int) -> Counts:
        """Return the state after a decision that reports what is left."""
        return bucket

    def wait(self, bucket: Counts, cost: int, now: int) -> int | None:
        if cost > self.most or self.blocked:
            return None
        here = self.look(bucket, now)
        left = here.total
        if left + cost <= self.most:
            return 0
        for at in sorted(here.by_instant):
            left -= here.by_instant[at]
            if left + cost <= self.most:
                return at + self.length - now
        raise AssertionError("an empty window admits what fits")

    def take(self, bucket: Counts, cost: int, now: int) -> Counts:
        if not cost:
            return bucket
        here = self.look(bucket, now)
        at = max(now, *here.by_instant, now)
        by_instant = {**here.by_instant, at: here.by_instant.get(at, 0) + cost}
        return Counts(by_instant, here.unknown)

    def remaining(self, bucket: Counts, now: int) -> int:
        return max(0, self.most - self.look(bucket, now).total)

    def reset(self, bucket: Counts, now: int) -> int:
        here = self.look(bucket, now).by_instant
        return max((at + self.length - now for at, count in here.items() if count), default=0)

    def missing(self, bucket: Counts, now: int) -> int:
        return self.look(bucket, now).total

    def own_time(self, bucket: Counts, now: int) -> int:
        return max(now, *bucket.by_instant, now)

    def moved(self, old: Window, bucket: Counts, now: int) -> Counts:
        """Keep what both lengths hold. A longer one does not know older requests."""
        now = old.own_time(bucket, now)
        return self.look(old.look(bucket, now), now)

    def carried(self, old: Window, bucket: Counts, now: int) -> Counts:
        """Return what a request carries over to a bucket in use."""
        return self.moved(old, bucket, now)

    def absolute(self, bucket: Counts, untouched: Counts, now: int) -> Counts:
        return bucket

    relative = absolute

    def stricter(self, one: Counts, other: Counts, now: int) -> Counts:
        """Count, at each later instant, the larger of both counts."""
        now = max(self.own_time(one, now), self.own_time(other, now))
        logs = [self.look(log, now).by_instant for log in (one, other)]
        after = {
            at: max(sum(n for t, n in log.items() if t >= at) for log in logs)
            for at in {now, *logs[0], *logs[1]}
        }
        by_instant, counted = {now: after[now]}, after[now]
        for at in sorted(after, reverse=True):
            if after[at] > counted:
                by_instant[at], counted = after[at] - counted, after[at]
        return Counts(by_instant, now)

    def corrected(self, bucket: Counts, more: int, now: int, since: int, least: int) -> Counts:
        """Count more now; or subtract from the first charge at or after that of the request.

        A request before the first one may be older than the bucket.
        """
        here = self.look(bucket, now)
        if more >= 0:
            return self.take(here, more, now)
        at = min((t for t in here.by_instant if t >= since), default=None)
        known = here.unknown is None or since > here.unknown
        older = since < min(here.by_instant, default=0)
        if at is None or older or not known or since + self.length <= now:
            return here
        left = max(0, here.by_instant[at] + more)
        others = {t: n for t, n in here.by_instant.items() if t != at}
        return Counts({**others, at: left} if left else others, here.unknown)
