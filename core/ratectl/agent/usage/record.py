"""Conversion of an agent's usage to the record that it writes to the store: of bounded size."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from ratectl.records import LimitReport, PoolReport, UsageRecord
from ratectl.runtime.cooperative import paced

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ratectl.agent.usage.summary import AgentUsage, LimitUsage, PoolUsage

__all__ = ["pool_record", "usage_record"]

_MAX_LIMITS: Final = 1_000
"""Most limits in one record: with the longest names it stays below the value limit of a store."""

_MAX_POOLS: Final = 1_000
"""Most limits across the cluster in one record, the fullest first."""

_MAX_BYTES: Final = 64 * 1024
"""Most bytes of a record: each agent writes one every few seconds."""

_DETAILED: Final = (300, 100, 30, 10, 0)
"""Numbers of limits with keys and a trend, tried in turn until the record is small enough."""

_DETAILS: Final[dict[str, Any]] = {"trend": [], "busiest": [], "top_refused": []}


def usage_record(usage: AgentUsage) -> UsageRecord:
    """Return the record: the most active limits first, and only as many as fit.

    The least active ones first lose their keys and their trend.
    """
    limits = sorted(usage.limits, key=lambda limit: -(limit.recent_allowed + limit.recent_refused))
    reports = [_report(limit) for limit in paced(limits[:_MAX_LIMITS])]
    pools = _pools(usage.owned)
    record = _record(usage, reports, pools)
    for detailed in [number for number in _DETAILED if number < len(reports)]:
        if len(record.encode()) <= _MAX_BYTES:
            return record
        bare = [replace(report, **_DETAILS) for report in paced(reports[detailed:])]
        reports = [*reports[:detailed], *bare]
        record = _record(usage, reports, pools)
    while len(record.encode()) > _MAX_BYTES:
        if not reports:
            pools = pools[: len(pools) // 2]
        reports = reports[: len(reports) * 3 // 4]
        record = _record(usage, reports, pools)
    return record


def _record(usage: AgentUsage, reports: list[LimitReport], pools: list[PoolReport]) -> UsageRecord:
    return UsageRecord(
        id=usage.id,
        generation=usage.generation,
        since=usage.since,
        reported=usage.at,
        recent_seconds=usage.recent_seconds,
        limits=reports,
        omitted=len(usage.limits) - len(reports),
        no_policy=usage.no_policy,
        errors=usage.failed_allowed + usage.failed_refused,
        buckets=usage.buckets,
        overflowed=usage.overflowed,
        pools=pools,
    )


def _report(limit: LimitUsage) -> LimitReport:
    return LimitReport(
        scope=limit.scope,
        limit=limit.limit,
        shadow=limit.shadow,
        most=limit.capacity,
        allowed=limit.allowed,
        refused=limit.refused,
        never=limit.never,
        shadow_refused=limit.shadow_refused,
        waited=limit.waited,
        keys=limit.keys or 0,
        recent_allowed=limit.recent_allowed,
        recent_refused=limit.recent_refused,
        peak=limit.peak,
        top_refused=[(key[:100], count) for key, count in limit.top_refused],
        budget=limit.budget,
        overrides=list(limit.overrides),
        unit=limit.unit,
        absent=limit.absent,
        near_keys=limit.near_keys or 0,
        rates=list(limit.rates),
        refused_rates=list(limit.refused_rates),
        trend=[(minute.allowed, minute.refused, minute.peak) for minute in limit.trend],
        busiest=[(busy.key[:100], busy.requests, busy.error, busy.use) for busy in limit.busiest],
        refused_error=limit.refused_error,
        traffic=limit.traffic,
        pool=limit.pool,
    )


def pool_record(record: UsageRecord, owned: Sequence[PoolUsage]) -> UsageRecord:
    """Return a record with the limits that a dedicated owner owns, and only as many as fit."""
    record = replace(record, pools=_pools(owned))
    while len(record.encode()) > _MAX_BYTES:
        record = replace(record, pools=record.pools[: len(record.pools) // 2])
    return record


def _pools(owned: Sequence[PoolUsage]) -> list[PoolReport]:
    """Return reports of the fullest pools."""
    return [_pool(pool) for pool in sorted(owned, key=lambda pool: -pool.peak)[:_MAX_POOLS]]


def _pool(pool: PoolUsage) -> PoolReport:
    return PoolReport(
        pool=pool.pool,
        owner=pool.owner,
        capacity=pool.capacity,
        free=pool.free,
        held=pool.held,
        members=pool.members,
        keys=pool.keys,
        near_keys=pool.near_keys,
        peak=pool.peak,
        trend=list(pool.trend),
        is_one=pool.is_one,
    )
