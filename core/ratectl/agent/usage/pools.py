"""Use of limits across the cluster that this process owns, over the last minutes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from ratectl.agent.usage.counts import Counts
from ratectl.agent.usage.history import History
from ratectl.agent.usage.summary import PoolUsage
from ratectl.records import utc_now

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ratectl.agent.usage.history import Minute
    from ratectl.cluster.owned import OwnedLimit
    from ratectl.engine.api import LimitCounts
    from ratectl.engine.limit_plan import GroupName
    from ratectl.records import UsageRecord

__all__ = ["OwnedHistories", "OwnerElsewhere", "SharedLimits", "heard_pools", "without_use"]

_UNKNOWN: Final = (0, 0, 0, 0, 0)


class SharedLimits(Protocol):
    """Limits of this process that are one for all processes."""

    def names(self) -> Mapping[GroupName, str]:
        """Return the names of their pools."""

    def owned(self) -> Sequence[OwnedLimit]:
        """Return what this process pools as an owner, since the last call."""

    def owner(self) -> OwnerElsewhere | None:
        """Return the owner in another process; None without one."""


class OwnerElsewhere(NamedTuple):
    """The owner of limits across the cluster, in another process."""

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
    ) -> dict[str, PoolUsage]:
        """Add a read; return the use of each limit, by the name of its pool.

        See ``History`` for the parameters. The history of a limit that is owned again starts at 0.
        """
        before, self._histories = self._histories, {}
        usages = {}
        for row in rows:
            key = row.pool, row.owner
            history = self._histories[key] = before.get(key) or History()
            history.add(now, Counts(), row.fullest, joins)
            usages[row.pool] = _usage(row, history, empty)
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
    )


def heard_pools(record: UsageRecord) -> dict[str, PoolUsage]:
    """Return what an owner in another process has reported, by the name of the pool."""
    return {
        report.pool: PoolUsage(
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
        )
        for report in record.pools
    }


def _rounded(share: float) -> float:
    return round(share, 4)


def without_use(limit: LimitCounts) -> LimitCounts:
    """Return counts without what one process cannot know of a limit across the cluster.

    The engine compares with the wallet of the process, which says nothing about the whole limit.
    """
    busiest = tuple(busy._replace(use=None) for busy in limit.busiest)
    return replace(limit, lowest=None, fill=_UNKNOWN, busiest=busiest)
