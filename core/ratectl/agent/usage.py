"""From an engine's counts to a usage record: totals, the last minute, and a bound on size."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from ratectl.policy.language.scopes import ancestry
from ratectl.records import Beat, LimitReport, UsageRecord, utc_now
from ratectl.runtime.cooperative import paced

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ratectl.engine.api import EngineUsage, LimitUsage

__all__ = ["UsageMeter"]

_MAX_LIMITS: Final = 1_000
"""Limits in one record: with the longest names it stays below what a store takes."""

_MAX_OVERRIDE_CHARS: Final = 250_000
"""Names of overrides in one record, for the same reason: a limit may have any number."""

_RECENT_SECONDS: Final = 60.0

_Key = tuple[str, str, tuple[str, ...], bool]


class _Recent:
    """Samples of one limit over the last minute."""

    __slots__ = ("_stopped", "decided", "last", "samples")

    def __init__(self) -> None:
        self.samples: deque[tuple[float, int, int, float | None]] = deque()
        self.last = (0, 0)
        self._stopped = 0
        self.decided = (0, 0)
        """Admitted and refused since the read before."""

    def add(self, at: float, limit: LimitUsage) -> None:
        refused = limit.refused + limit.never + limit.shadow_refused
        allowed_before, refused_before = self.last
        self.last = (limit.allowed, refused)
        stopped = limit.refused + limit.never
        self.decided = (limit.allowed - allowed_before, stopped - self._stopped)
        self._stopped = stopped
        self.samples.append(
            (at, limit.allowed - allowed_before, refused - refused_before, _fullness(limit))
        )
        while self.samples[0][0] <= at - _RECENT_SECONDS:
            self.samples.popleft()

    def peak(self) -> float | None:
        return max((peak for *_, peak in self.samples if peak is not None), default=None)


class UsageMeter:
    """Reads an engine's usage every few seconds and says what happened lately."""

    def __init__(self, agent_id: str, started: float) -> None:
        self._id = agent_id
        self._since = utc_now()
        self._reads = deque([started])
        self._recent: dict[_Key, _Recent] = {}
        self._requests = 0
        self._refused = 0

    def read(self, usage: EngineUsage, now: float, errors: int) -> UsageRecord:
        """The record at ``now`` (monotonic seconds)."""
        reports: list[LimitReport] = []
        known: dict[_Key, _Recent] = {}
        for limit in paced(usage.limits):
            key = (limit.scope, limit.limit, limit.overrides, limit.budget)
            recent = known[key] = self._recent.get(key) or _Recent()
            recent.add(now, limit)
            reports.append(_report(limit, recent))
        requests, refused = _decided(known)
        self._requests += requests
        self._refused += refused
        self._recent = known
        reports.sort(key=lambda report: -(report.recent_allowed + report.recent_refused))
        kept = _fitting(reports)
        return UsageRecord(
            id=self._id,
            generation=usage.generation,
            since=self._since,
            reported=utc_now(),
            recent_seconds=round(now - self._began(now), 3),
            limits=kept,
            omitted=len(reports) - len(kept),
            no_policy=usage.no_policy,
            errors=errors,
            buckets=usage.buckets,
            overflowed=usage.overflowed,
        )

    def beat(self, record: UsageRecord) -> Beat:
        """What goes with the record that was read last."""
        return Beat(
            id=record.id,
            generation=record.generation,
            since=record.since,
            reported=record.reported,
            requests=self._requests,
            refused=self._refused,
        )

    def _began(self, now: float) -> float:
        """When what is counted as recent began: with the read before the first sample kept, and so
        up to one interval more than a minute ago."""
        reads = self._reads
        while len(reads) > 1 and reads[1] <= now - _RECENT_SECONDS:
            reads.popleft()
        reads.append(now)
        return reads[0]


def _decided(known: Mapping[_Key, _Recent]) -> tuple[int, int]:
    """Requests and refusals since the read before.

    A request is counted by every limit that it meets, and refused by each that refuses it. So at
    each scope it is the limit that admitted, and the one that refused, the most that counts; and a
    budget counts what scopes below it have counted already. Exact where one limit meets every
    request, and never more than there were. What no limit meets is not counted.
    """
    scopes: dict[str, tuple[dict[str, list[int]], dict[str, list[int]]]] = {}
    for (scope, name, _, budget), recent in known.items():
        counts = scopes.setdefault(scope, ({}, {}))[budget].setdefault(name, [0, 0])
        counts[0] += recent.decided[0]
        counts[1] += recent.decided[1]
    below: dict[str, list[int]] = {}
    total = [0, 0]
    # The deepest first: what is below a scope has been added up when its turn comes.
    for scope in sorted(scopes, key=lambda each: len(list(ancestry(each))), reverse=True):
        limits, budgets = scopes[scope]
        beneath = below.pop(scope, [0, 0])
        own = [
            max(_most(limits, which) + beneath[which], _most(budgets, which)) for which in (0, 1)
        ]
        above = next((up for up in ancestry(scope) if up in scopes and up != scope), None)
        into = total if above is None else below.setdefault(above, [0, 0])
        into[0] += own[0]
        into[1] += own[1]
    return total[0] + total[1], total[1]


def _most(limits: Mapping[str, Sequence[int]], which: int) -> int:
    return max((counts[which] for counts in limits.values()), default=0)


def _fitting(reports: list[LimitReport]) -> list[LimitReport]:
    """As many of the first as one record takes."""
    room = _MAX_OVERRIDE_CHARS
    for count, report in enumerate(reports[:_MAX_LIMITS]):
        room -= sum(map(len, report.overrides))
        if room < 0:
            return reports[:count]
    return reports[:_MAX_LIMITS]


def _fullness(limit: LimitUsage) -> float | None:
    if limit.lowest is None or not limit.most:
        return None
    return min(1.0, max(0.0, (limit.most - limit.lowest) / limit.most))


def _report(limit: LimitUsage, recent: _Recent) -> LimitReport:
    peak = recent.peak()
    return LimitReport(
        scope=limit.scope,
        limit=limit.limit,
        shadow=limit.shadow,
        most=limit.most,
        allowed=limit.allowed,
        refused=limit.refused,
        never=limit.never,
        shadow_refused=limit.shadow_refused,
        keys=limit.keys,
        recent_allowed=sum(sample[1] for sample in recent.samples),
        recent_refused=sum(sample[2] for sample in recent.samples),
        peak=None if peak is None else round(peak, 4),
        top_refused=[(key[:100], count) for key, count in limit.top_refused],
        budget=limit.budget,
        overrides=list(limit.overrides),
    )
