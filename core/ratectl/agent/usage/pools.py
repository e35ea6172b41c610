"""Use of limits across the cluster that this process owns, over the last minutes."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from ratectl.agent.usage.counts import Counts
from ratectl.agent.usage.history import History
from ratectl.agent.usage.summary import PoolUsage
from ratectl.records import added_keys, fullest, utc_now

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ratectl.agent.usage.history import Minute
    from ratectl.cluster.owned import OwnedLimit
    from ratectl.engine.api import LimitCounts
    from ratectl.engine.limit_plan import GroupName
    from ratectl.records import UsageRecord

__all__ = [
    "OwnedHistories",
    "OwnerElsewhere",
    "SharedLimits",
    "heard_pools",
    "joined",
    "without_use",
]

_UNKNOWN: Final = (0, 0, 0, 0, 0)


class SharedLimits(Protocol):
    """Limits of this process that are one for all processes."""

    def names(self) -> Mapping[GroupName, str]:
        """Return the names of their pools."""

    def owned(self) -> Sequence[OwnedLimit]:
        """Return what this process pools as an owner, since the last call."""

    def owners(self) -> Sequence[OwnerElsewhere]:
        """Return the owners in other processes."""


class OwnerElsewhere(NamedTuple):
    """An owner of limits across the cluster, in another process."""

    agent: str
    """Id of its agent, or the beginning of a long one (see ``ID_PARTS``)."""
    members: int
    """Processes that share the limits."""


class OwnedHistories:
    """Use of each owned limit, by pool and owner."""

    def __init__(self) -> None:
        self._histories: dict[tuple[str, str], History] = {}

    def read(
        self, rows: Sequence[OwnedLimit], now: float, joins: float | None, empty: tuple[Minute, ...]
    ) -> list[PoolUsage]:
        """Add a read; return the use of each limit at each owner.

        See ``History`` for the parameters. The history of a limit that is owned again starts at 0.
        """
        before, self._histories = self._histories, {}
        usages = []
        for row in rows:
            key = row.pool, row.owner
            history = self._histories[key] = before.get(key) or History()
            history.add(now, Counts(), row.fullest, joins)
            usages.append(_usage(row, history, empty))
        return usages


def _usage(row: OwnedLimit, history: History, empty: tuple[Minute, ...]) -> PoolUsage:
    return PoolUsage(
        pool=row.pool,
        owner=row.owner,
        capacity=row.capacity,
        free=row.free,
        held=row.held,
        members=row.members,
        keys=row.keys,
        near_keys=sum(row.by_use[2:]),
        keys_by_use=row.by_use,
        peak=_rounded(history.peak() or 0.0),
        trend=tuple(
            None if minute.peak is None else _rounded(minute.peak)
            for minute in history.trend(empty)
        ),
        reported=utc_now(),
        is_one=row.is_one,
    )


def heard_pools(record: UsageRecord) -> list[PoolUsage]:
    """Return what owners in another process have reported."""
    return [
        PoolUsage(
            pool=report.pool,
            owner=report.owner,
            capacity=report.capacity,
            free=report.free,
            held=report.held,
            members=report.members,
            keys=report.keys,
            near_keys=report.near_keys,
            keys_by_use=None,
            peak=report.peak,
            trend=tuple(report.trend),
            reported=record.reported,
            is_one=report.is_one,
        )
        for report in record.pools
    ]


def joined(rows: Iterable[PoolUsage]) -> dict[str, PoolUsage]:
    """Return the use of each limit at all of its owners, by the name of the pool."""
    found: dict[str, PoolUsage] = {}
    for row in rows:
        known = found.get(row.pool)
        found[row.pool] = row if known is None else _joined(known, row)
    return found


def _joined(one: PoolUsage, other: PoolUsage) -> PoolUsage:
    total = partial(added_keys, is_one=one.is_one)
    by_use = one.keys_by_use
    if by_use is not None and other.keys_by_use is not None:
        a, b, c, d, e = map(total, by_use, other.keys_by_use)
        by_use = a, b, c, d, e
    return replace(
        one,
        capacity=one.capacity + other.capacity,
        free=one.free + other.free,
        held=one.held + other.held,
        members=max(one.members, other.members),
        keys=total(one.keys, other.keys),
        near_keys=total(one.near_keys, other.near_keys),
        keys_by_use=by_use,
        peak=max(one.peak, other.peak),
        trend=tuple(fullest(one.trend, other.trend)),
        reported=min(one.reported, other.reported),
    )


def _rounded(share: float) -> float:
    return round(share, 4)


def without_use(limit: LimitCounts) -> LimitCounts:
    """Return counts without what one process cannot know of a limit across the cluster.

    The engine compares with the wallet of the process, which says nothing about the whole limit.
    """
    busiest = tuple(busy._replace(use=None) for busy in limit.busiest)
    return replace(limit, lowest=None, fill=_UNKNOWN, busiest=busiest)
