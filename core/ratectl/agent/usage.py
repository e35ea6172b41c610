"""Conversion of an engine's counts to a usage record: totals, the last minute, bounded size."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from ratectl.policy.language.scopes import ancestry
from ratectl.records import Beat, LimitReport, UsageRecord, utc_now
from ratectl.runtime.cooperative import paced

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ratectl.engine.api import EngineUsage, LimitUsage

__all__ = ["UsageMeter"]

_MAX_LIMITS: Final = 1_000
"""Most limits in one record: with the longest names it stays below the value limit of a store."""

_MAX_OVERRIDE_CHARS: Final = 250_000
"""Most characters of override names in one record: a limit may have any number of overrides."""

_RECENT_SECONDS: Final = 60.0


class _Key(NamedTuple):
    """Identity of a limit's counts."""

    scope: str
    limit: str
    overrides: tuple[str, ...]
    budget: bool
    unit: str


class _Sample(NamedTuple):
    """Counts of one limit between two reads."""

    at: float
    """Time of the later read (monotonic seconds)."""
    allowed: int
    refused: int
    """Refused, or refused by a shadow limit."""
    fullness: float | None
    """Use of the fullest bucket, 0 to 1; None if unknown."""


class _Decided(NamedTuple):
    """Numbers of requests, without those that a shadow limit refused."""

    allowed: int = 0
    refused: int = 0

    def plus(self, other: _Decided) -> Self:
        return self._replace(
            allowed=self.allowed + other.allowed, refused=self.refused + other.refused
        )

    def or_more(self, other: _Decided) -> Self:
        """Return the larger one of each number."""
        return self._replace(
            allowed=max(self.allowed, other.allowed), refused=max(self.refused, other.refused)
        )


class _Recent:
    """Samples of one limit over the last minute."""

    __slots__ = ("_allowed", "_refused", "_shadow_refused", "decided", "samples")

    def __init__(self) -> None:
        self.samples: deque[_Sample] = deque()
        self._allowed = self._refused = self._shadow_refused = 0
        self.decided = _Decided()
        """Decided between the last two reads."""

    def add(self, at: float, limit: LimitUsage) -> None:
        allowed = limit.allowed - self._allowed
        refused = limit.refused + limit.never - self._refused
        shadow_refused = limit.shadow_refused - self._shadow_refused
        self._allowed += allowed
        self._refused += refused
        self._shadow_refused += shadow_refused
        self.decided = _Decided(allowed, refused)
        self.samples.append(_Sample(at, allowed, refused + shadow_refused, _fullness(limit)))
        while self.samples[0].at <= at - _RECENT_SECONDS:
            self.samples.popleft()

    def peak(self) -> float | None:
        known = (sample.fullness for sample in self.samples if sample.fullness is not None)
        return max(known, default=None)


class UsageMeter:
    """Reads an engine's usage every few seconds; makes records of totals and of the last minute."""

    def __init__(self, agent_id: str, started: float) -> None:
        self._id = agent_id
        self._since = utc_now()
        self._reads = deque([started])
        self._recent: dict[_Key, _Recent] = {}
        self._requests = 0
        self._refused = 0

    def read(self, usage: EngineUsage, now: float, errors: int) -> UsageRecord:
        """Return the record at ``now`` (monotonic seconds)."""
        reports: list[LimitReport] = []
        known: dict[_Key, _Recent] = {}
        for limit in paced(usage.limits):
            key = _Key(limit.scope, limit.limit, limit.overrides, limit.budget, limit.unit)
            recent = known[key] = self._recent.get(key) or _Recent()
            recent.add(now, limit)
            reports.append(_report(limit, recent))
        decided = _decided(known)
        self._requests += decided.allowed + decided.refused
        self._refused += decided.refused
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
        """Return the sign of life that goes with the last record."""
        return Beat(
            id=record.id,
            generation=record.generation,
            since=record.since,
            reported=record.reported,
            requests=self._requests,
            refused=self._refused,
        )

    def _began(self, now: float) -> float:
        """Return the time at which the recent counts begin (monotonic seconds).

        That is the read before the oldest kept sample: up to one interval more than a minute ago.
        """
        reads = self._reads
        while len(reads) > 1 and reads[1] <= now - _RECENT_SECONDS:
            reads.popleft()
        reads.append(now)
        return reads[0]


def _decided(known: Mapping[_Key, _Recent]) -> _Decided:
    """Return the numbers of requests between the last two reads.

    A request is counted by every limit that it meets. So of one scope's limits only the largest
    number counts. A budget counts requests again that scopes below it have counted. The result is
    exact if one limit meets every request of a scope, and never more than the true number.
    Requests that meet no limit are not counted.
    """
    limits: dict[str, dict[str, _Decided]] = {}
    budgets: dict[str, dict[str, _Decided]] = {}
    for key, recent in known.items():
        counts = (budgets if key.budget else limits).setdefault(key.scope, {})
        counts[key.limit] = counts.get(key.limit, _Decided()).plus(recent.decided)
    scopes = limits.keys() | budgets.keys()
    below: dict[str, _Decided] = {}
    total = _Decided()
    # Deepest scopes first: the sum below a scope is complete when its turn comes.
    for scope in sorted(scopes, key=lambda path: len(list(ancestry(path))), reverse=True):
        own = _largest(limits.get(scope)).plus(below.pop(scope, _Decided()))
        own = own.or_more(_largest(budgets.get(scope)))
        above = next((up for up in ancestry(scope) if up in scopes and up != scope), None)
        if above is None:
            total = total.plus(own)
        else:
            below[above] = below.get(above, _Decided()).plus(own)
    return total


def _largest(counts: Mapping[str, _Decided] | None) -> _Decided:
    largest = _Decided()
    for decided in (counts or {}).values():
        largest = largest.or_more(decided)
    return largest


def _fitting(reports: list[LimitReport]) -> list[LimitReport]:
    """Return the longest beginning of ``reports`` that fits into one record."""
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
        waited=limit.waited,
        keys=limit.keys,
        recent_allowed=sum(sample.allowed for sample in recent.samples),
        recent_refused=sum(sample.refused for sample in recent.samples),
        peak=None if peak is None else round(peak, 4),
        top_refused=[(key[:100], count) for key, count in limit.top_refused],
        budget=limit.budget,
        overrides=list(limit.overrides),
        unit=limit.unit,
        absent=limit.absent,
    )
