"""Conversion of an agent's usage to the record that it writes to the store: of bounded size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ratectl.records import LimitReport, UsageRecord
from ratectl.runtime.cooperative import paced

if TYPE_CHECKING:
    from ratectl.agent.usage.summary import AgentUsage, LimitUsage

__all__ = ["usage_record"]

_MAX_LIMITS: Final = 1_000
"""Most limits in one record: with the longest names it stays below the value limit of a store."""

_MAX_OVERRIDE_CHARS: Final = 250_000
"""Most characters of override names in one record: a limit may have any number of overrides."""


def usage_record(usage: AgentUsage) -> UsageRecord:
    """Return the record: the most active limits first, and only as many as fit."""
    limits = sorted(usage.limits, key=lambda limit: -(limit.recent_allowed + limit.recent_refused))
    kept = _fitting(limits)
    return UsageRecord(
        id=usage.id,
        generation=usage.generation,
        since=usage.since,
        reported=usage.at,
        recent_seconds=usage.recent_seconds,
        limits=[_report(limit) for limit in paced(kept)],
        omitted=len(limits) - len(kept),
        no_policy=usage.no_policy,
        errors=usage.failed_allowed + usage.failed_refused,
        buckets=usage.buckets,
        overflowed=usage.overflowed,
    )


def _fitting(limits: list[LimitUsage]) -> list[LimitUsage]:
    """Return the longest beginning of ``limits`` that fits into one record."""
    room = _MAX_OVERRIDE_CHARS
    for count, limit in enumerate(limits[:_MAX_LIMITS]):
        room -= sum(map(len, limit.overrides))
        if room < 0:
            return limits[:count]
    return limits[:_MAX_LIMITS]


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
        keys=limit.keys,
        recent_allowed=limit.recent_allowed,
        recent_refused=limit.recent_refused,
        peak=limit.peak,
        top_refused=[(key[:100], count) for key, count in limit.top_refused],
        budget=limit.budget,
        overrides=list(limit.overrides),
        unit=limit.unit,
        absent=limit.absent,
    )
