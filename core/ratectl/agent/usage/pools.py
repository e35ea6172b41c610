"""Use of limits across the cluster that this process owns, over the last minutes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final, Protocol

from ratectl.agent.usage.counts import Counts
from ratectl.agent.usage.history import History
from ratectl.agent.usage.summary import PoolUsage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ratectl.agent.usage.history import Minute
    from ratectl.cluster.owned import OwnedLimit
    from ratectl.engine.api import LimitCounts
    from ratectl.engine.limit_plan import GroupName

__all__ = ["OwnedHistories", "SharedLimits", "without_use"]

_UNKNOWN: Final = (0, 0, 0, 0, 0)


class SharedLimits(Protocol):
    """Limits of this process that are one for all processes."""

    def names(self) -> Mapping[GroupName, str]:
        """Return the names of their pools."""

    def owned(self) -> Sequence[OwnedLimit]:
        """Return what this process pools as an owner, since the last call."""


class OwnedHistories:
    """Use of each owned limit, by pool and owner."""

    def __init__(self) -> None:
        self._histories: dict[tuple[str, str], History] = {}

    def read(
        self, rows: Sequence[OwnedLimit], now: float, joins: float | None, empty: tuple[Minute, ...]
    ) -> dict[str, PoolUsage]:
        """Add a read; return the use of each limit, by the name of its pool.

        See ``History`` for the parameters. A limit that is owned again begins anew.
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
        keys_by_use=row.by_use,
        peak=_rounded(history.peak() or 0.0),
        trend=tuple(
            None if minute.peak is None else _rounded(minute.peak)
            for minute in history.trend(empty)
        ),
    )


def _rounded(share: float) -> float:
    return round(share, 4)


def without_use(limit: LimitCounts) -> LimitCounts:
    """Return counts without what one process cannot know of a limit across the cluster.

    The engine compares with the wallet of the process, which says nothing about the whole limit.
    """
    busiest = tuple(busy._replace(use=None) for busy in limit.busiest)
    return replace(limit, lowest=None, fill=_UNKNOWN, busiest=busiest)
