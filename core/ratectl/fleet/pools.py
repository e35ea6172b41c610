"""Use of one limit across the cluster: the sum of what its owners report."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from ratectl.records import added_keys, fullest, owner_shard, pool_use

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Set as AbstractSet

    from ratectl.records import PoolReport, UsageRecord

__all__ = ["OwnerReport", "PoolTotal", "pool_totals"]


_Reports = list[tuple["UsageRecord", "PoolReport"]]


class OwnerReport(NamedTuple):
    """Reporter of a part of a pool."""

    agent: str
    owner: str
    reported: str
    """ISO 8601, UTC."""


@dataclass(slots=True)
class PoolTotal:
    """Sum of the owners' reports of one limit. Tokens are in the limit's unit."""

    owners: list[OwnerReport] = field(default_factory=list)
    capacity: int = 0
    """Tokens that full buckets hold, of what members lend."""
    free: int = 0
    held: int = 0
    """Tokens that members may still spend."""
    members: int = 0
    """Members with a session, at the owner that has most of them."""
    keys: int = 0
    near_keys: int = 0
    peak: float = 0.0
    """Use of the fullest bucket of any owner in the last minute, 0 to 1."""
    trend: list[float | None] = field(default_factory=list)

    @property
    def used(self) -> float:
        """Use of all buckets at the time of the reports, 0 to 1."""
        return pool_use(self.capacity, self.free, self.held)

    @property
    def oldest(self) -> str:
        """Time of the oldest report."""
        return min(owner.reported for owner in self.owners)

    def add(self, record: UsageRecord, report: PoolReport) -> None:
        self.owners.append(OwnerReport(record.id, report.owner, record.reported))
        self.capacity += report.capacity
        self.free += report.free
        self.held += report.held
        self.members = max(self.members, report.members)
        self.keys = added_keys(self.keys, report.keys, is_one=report.is_one)
        self.near_keys = added_keys(self.near_keys, report.near_keys, is_one=report.is_one)
        self.peak = max(self.peak, report.peak)
        self.trend = fullest(self.trend, report.trend)

    def peak_of(self, minutes: int) -> float:
        """Return the use of the fullest bucket in the last minutes."""
        if minutes == 1:
            return self.peak
        return max([self.peak, *(peak for peak in self.trend[-minutes:] if peak is not None)])


def pool_totals(
    records: Iterable[UsageRecord], owners: AbstractSet[str] = frozenset()
) -> dict[str, PoolTotal]:
    """Return the use of limits across the cluster, by the name of the pool.

    ``owners``: those that the store names. The report of another one, such as a process that was
    killed, stays for some seconds: it counts only for shards of a limit of which none of them has
    reported.
    """
    named: dict[tuple[str, str], _Reports] = defaultdict(list)
    others: dict[tuple[str, str], _Reports] = defaultdict(list)
    for record in records:
        for report in record.pools:
            found = named if report.owner in owners else others
            found[report.pool, owner_shard(report.owner)].append((record, report))
    totals: dict[str, PoolTotal] = defaultdict(PoolTotal)
    for (pool, _), reports in {**others, **named}.items():
        for record, report in reports:
            totals[pool].add(record, report)
    return dict(totals)
