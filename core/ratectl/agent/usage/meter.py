"""The meter of one agent: it reads the engine's counts, and keeps those of the last minute."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple

from ratectl.agent.usage.counts import Counts
from ratectl.agent.usage.history import (
    RECENT_SECONDS,
    TREND_MINUTES,
    Decided,
    History,
    Minute,
    empty_minutes,
)
from ratectl.agent.usage.pools import OwnedHistories, heard_pools, joined, without_use
from ratectl.agent.usage.requests import requests_of
from ratectl.agent.usage.summary import AgentUsage, LimitUsage, Rates
from ratectl.engine.api import EngineCounts
from ratectl.records import owner_shard, utc_now
from ratectl.runtime.cooperative import paced, release

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from ratectl.agent.failures import Failures
    from ratectl.agent.line import Line
    from ratectl.agent.usage.pools import SharedLimits
    from ratectl.agent.usage.summary import PoolUsage
    from ratectl.engine.api import Engine, LimitCounts
    from ratectl.engine.limit_plan import GroupName
    from ratectl.records import UsageRecord

__all__ = ["UsageMeter"]

_JOINED_SECONDS: Final = 1.0
"""Reads within so long are kept as one: a meter may be read at any rate."""

_IDLE: Final = (0, 0, 0)


class _Key(NamedTuple):
    """Identity of a limit's counts."""

    scope: str
    limit: str
    overrides: tuple[str, ...]
    budget: bool
    unit: str


class UsageMeter:
    """Usage of one agent. Thread-safe; a report, a scrape and the program may all read it.

    A read resets what the engine keeps since the last read, so an engine has one meter.
    """

    def __init__(
        self,
        engine: Engine,
        failures: Failures,
        line: Line,
        clock: Callable[[], int],
        uncounted: EngineCounts | None = None,
    ) -> None:
        """``clock``: the engine's clock (nanoseconds).

        ``uncounted``: counts that belong to the process which forked this one.
        """
        self._engine, self._failures, self._line, self._clock = engine, failures, line, clock
        self._reading = threading.RLock()
        self._since = utc_now()
        self._began = clock() / 1e9
        self._reads = deque([self._began])
        self._histories: dict[_Key, History] = {}
        self._last = self._uncounted = uncounted or EngineCounts(0, (), 0, 0, 0)
        self._before = {_key(limit): limit for limit in self._uncounted.limits}
        self._failed_before = (failures.allowed, failures.refused) if uncounted else (0, 0)
        self._decided = Decided()
        self.shared: SharedLimits | None = None
        """Limits across the cluster; None: every limit counts in this process alone."""
        self._owned = OwnedHistories()
        self._heard: list[PoolUsage] = []
        self._heard_until = 0.0

    def in_child(self) -> UsageMeter:
        """Return the meter of a forked child: it counts from the fork on."""
        counts = self._last
        if not self._engine.changing:  # otherwise this would wait for itself
            counts = self._engine.usage()
        return UsageMeter(self._engine, self._failures, self._line, self._clock, counts)

    def read(self, agent_id: str) -> AgentUsage:
        """Return the usage now. Takes some milliseconds with thousands of limits or keys."""
        with self._reading:
            before, self._last = self._last, self._engine.usage(fill=True)
            usage = self._taken(self._last, agent_id)
            counted = list(before.limits)
            del before
        release(counted)
        return usage

    def hear(self, records: Iterable[UsageRecord], seconds: float) -> None:
        """Take over what owners in other processes report, for so many seconds."""
        with self._reading:
            self._heard = [use for record in records for use in heard_pools(record)]
            self._heard_until = self._clock() / 1e9 + seconds

    @property
    def decided(self) -> Decided:
        """Requests since the start, as of the last read; never more than were made."""
        return self._decided

    def _taken(self, counts: EngineCounts, agent_id: str) -> AgentUsage:
        now = self._clock() / 1e9
        joins, spans, empty = self._join(now), self._spans(now), empty_minutes(now)
        names, owned, heard = self._pools(now, joins, empty)
        pools = joined((*owned, *heard))
        histories: dict[_Key, History] = {}
        limits = []
        for limit in paced(counts.limits):
            key = _key(limit)
            history = histories[key] = self._histories.get(key) or History(self._before.get(key))
            pool = names.get((*key[:2], limit.budget, limit.overrides, limit.per, limit.unit), "")
            known = without_use(limit) if pool else limit
            history.add(now, Counts.of(known), _fullness(known), joins)
            summary = _summary(known, history, now, spans, empty)
            limits.append(_pooled(summary, pool, pools.get(pool)))
        # A limit that comes later, or again, begins at 0.
        self._histories, self._before = histories, {}
        decided = [(key.scope, key.limit, key.budget, of.decided) for key, of in histories.items()]
        self._decided = self._decided.plus(requests_of(decided))
        allowed, refused = self._failed_before
        return AgentUsage(
            id=agent_id,
            generation=counts.generation,
            since=self._since,
            at=utc_now(),
            recent_seconds=round(now - self._reads[0], 3),
            limits=tuple(limits),
            owned=tuple(owned),
            heard=tuple(heard),
            no_policy=counts.no_policy - self._uncounted.no_policy,
            failed_allowed=self._failures.allowed - allowed,
            failed_refused=self._failures.refused - refused,
            waiting=len(self._line),
            buckets=counts.buckets,
            bytes=counts.bytes,
            max_bytes=counts.max_bytes,
            evicted=counts.evicted - self._uncounted.evicted,
            overflowed=counts.overflowed - self._uncounted.overflowed,
            timings=counts.timings.since(self._uncounted.timings),
        )

    def _pools(
        self, now: float, joins: float | None, empty: tuple[Minute, ...]
    ) -> tuple[Mapping[GroupName, str], list[PoolUsage], list[PoolUsage]]:
        """Return names of pools, what this process owns, and what it has heard of others."""
        shared = self.shared
        if shared is None:
            return {}, [], []
        names, owned = shared.names(), self._owned.read(shared.owned(), now, joins, empty)
        heard = self._heard if names and now < self._heard_until else []
        known = {(use.pool, owner_shard(use.owner)) for use in owned}
        return names, owned, [u for u in heard if (u.pool, owner_shard(u.owner)) not in known]

    def _join(self, now: float) -> float | None:
        """Note a read. Return the time of the read whose samples it is joined to, if any.

        The first kept read is the one before the oldest kept sample: up to one interval more than a
        minute ago. There the recent counts begin.
        """
        reads = self._reads
        joins = reads.pop() if len(reads) > 1 and now - reads[-2] < _JOINED_SECONDS else None
        while len(reads) > 1 and reads[1] <= now - RECENT_SECONDS:
            reads.popleft()
        reads.append(now)
        return joins

    def _spans(self, now: float) -> Rates:
        """Return the seconds since the last reading, those of the minute, and of 15 minutes."""
        reads = self._reads
        began = max(self._began, 60 * (now // 60 - TREND_MINUTES + 1))
        return now - reads[-2], now - reads[0], now - began


def _key(limit: LimitCounts) -> _Key:
    return _Key(limit.scope, limit.limit, limit.overrides, limit.budget, limit.unit)


def _fullness(limit: LimitCounts) -> float | None:
    if limit.lowest is None or not limit.most:
        return None
    return min(1.0, max(0.0, (limit.most - limit.lowest) / limit.most))


def _pooled(limit: LimitUsage, pool: str, use: PoolUsage | None) -> LimitUsage:
    """Return the usage of a limit with that of its pool. ``use``: None if it is unknown."""
    if not pool:
        return limit
    if use is None:
        return replace(limit, pool=pool, keys=None, near_keys=None)
    peaks = (*(None for _ in limit.trend), *use.trend)[-len(limit.trend) :]
    return replace(
        limit,
        pool=pool,
        peak=use.peak,
        keys=use.keys,
        near_keys=use.near_keys,
        keys_by_use=use.keys_by_use or limit.keys_by_use,
        trend=tuple(
            minute._replace(peak=peak) for minute, peak in zip(limit.trend, peaks, strict=True)
        ),
    )


def _rates(counts: tuple[int, int, int], spans: Rates) -> Rates:
    """Return counts per second."""
    if counts == _IDLE:
        return 0.0, 0.0, 0.0
    now, minute, quarter = (
        round(count / span, 3) if span > 0 else 0.0
        for count, span in zip(counts, spans, strict=True)
    )
    return now, minute, quarter


def _counted(
    history: History, trend: tuple[Minute, ...], now: float
) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Return requests, and those refused: since the last reading, in a minute, in 15 minutes."""
    if not history.minutes:
        return _IDLE, _IDLE
    samples = history.samples
    refused = (
        sum([sample.refused for sample in samples if sample.at == now]),
        sum([sample.refused for sample in samples]),
        sum([minute.refused for minute in trend]),
    )
    asked = (
        sum([sample.allowed for sample in samples if sample.at == now]) + refused[0],
        sum([sample.allowed for sample in samples]) + refused[1],
        sum([minute.allowed for minute in trend]) + refused[2],
    )
    return asked, refused


def _summary(
    limit: LimitCounts, history: History, now: float, spans: Rates, empty: tuple[Minute, ...]
) -> LimitUsage:
    peak, trend = history.peak(), history.trend(empty)
    asked, refused = _counted(history, trend, now)
    below_half, below_80, below_90, below_full, full = limit.fill or (0,) * 5
    return LimitUsage(
        scope=limit.scope,
        limit=limit.limit,
        budget=limit.budget,
        overrides=limit.overrides,
        unit=limit.unit,
        per=limit.per,
        shadow=limit.shadow,
        capacity=limit.most,
        **history.counts._asdict(),
        keys=limit.keys,
        near_keys=below_90 + below_full + full,
        keys_by_use=(below_half, below_80, below_90, below_full, full),
        peak=None if peak is None else round(peak, 4),
        recent_allowed=asked[1] - refused[1],
        recent_refused=refused[1],
        rates=_rates(asked, spans),
        refused_rates=_rates(refused, spans),
        trend=trend,
        busiest=limit.busiest,
        traffic=limit.traffic,
        top_refused=limit.top_refused,
        refused_error=limit.refused_error,
    )
