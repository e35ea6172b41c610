"""Usage of a whole environment: the sum of the agents' latest reports."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import TYPE_CHECKING, Final

from ratectl.fleet.pools import PoolTotal, pool_totals
from ratectl.fleet.recent import RecentTotal, recent
from ratectl.records import AGENTS, BEATS, USAGE, AgentRecord, Beat, UsageRecord, fullest
from ratectl.records.reading import readable

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Set as AbstractSet

    from ratectl.records import LimitReport
    from ratectl.stores.base import Store

    Warn = Callable[[str], None]

__all__ = [
    "NEAR", "BusyKey", "LimitTotal", "Totals", "read_agents", "read_beats", "read_usage", "totals",
]  # fmt: skip

NEAR: Final = 0.8
"""Use from which a limit is almost full, and from which agents count a key as near."""

_LISTED: Final = 20
"""Busiest keys that an agent reports of a limit, at most."""


@dataclass(slots=True)
class BusyKey:
    """A busy key of one limit, in all agents that report it."""

    key: str
    requests: int = 0
    """At least so many in the last minutes."""
    error: int = 0
    """There may be so many more."""
    use: float | None = None
    """Use of its fullest bucket in any agent, 0 to 1; None if it has none."""
    agents: int = 0
    bound: int = 0
    """Sum of the least counts in the lists of these agents; see ``LimitTotal.bound``."""

    def add(self, requests: int, error: int, use: float | None, bound: int) -> None:
        self.requests += requests
        self.error += error
        self.agents += 1
        self.bound += bound
        if use is not None:
            self.use = max(self.use or 0.0, use)


@dataclass(slots=True)
class LimitTotal:
    """Sum of all agents' counts of one limit, for the buckets that certain overrides select.

    Numbers are requests, but ``most`` is in the limit's unit. Limits count per agent, unless
    ``shared`` is not 0.
    """

    scope: str
    limit: str
    overrides: tuple[str, ...]
    budget: bool
    unit: str
    """What the limit counts."""
    shadow: bool
    most: int
    """Capacity of a bucket: what a full one admits at once; the newest generation's if agents
    differ."""
    agents: int = 0
    allowed: int = 0
    refused: int = 0
    never: int = 0
    shadow_refused: int = 0
    waited: int = 0
    absent: int = 0
    """Requests that lacked an attribute which the limit counts per."""
    keys: int = 0
    recent_per_second: float = 0.0
    """Requests a second over the last minute, admitted or not."""
    peak: float | None = None
    """Fullest recent use of any one bucket in any agent, 0 to 1; None if unknown."""
    top_refused: Counter[str] = field(default_factory=Counter)
    """Most refused keys, with approximate counts."""
    refused_error: int = 0
    """Part of each count of ``top_refused`` that may be other keys'."""
    near_keys: int = 0
    """Keys that use at least 80 % of their bucket, in all agents: a key counts in each."""
    rates: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
    """Requests per second: in the last seconds, over a minute, over 15 minutes."""
    refused_rates: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
    trend: list[tuple[int, int, float | None]] = field(default_factory=list)
    """Allowed, refused and use of the fullest bucket in each of the last minutes, newest last."""
    busiest: dict[str, BusyKey] = field(default_factory=dict)
    """Busiest keys of the last minutes, by key. Every five minutes, agents halve all counts."""
    traffic: int = 0
    """Requests of all keys, in the last minutes like those of ``busiest``."""
    bound: int = 0
    """Requests that a key may have in all agents although none lists it."""
    unlisted: int = 0
    """Agents that decided requests and list no key: the record had no room, or is older."""
    detailed: int = 0
    """Agents that report ``near_keys``, ``rates`` and ``refused_rates``: not those of older
    versions."""
    trending: int = 0
    """Agents that report ``trend``."""
    recent: RecentTotal = field(default_factory=RecentTotal)
    """Usage over the minutes that were asked for."""
    shared: int = 0
    """Agents in which the limit is one for all processes."""
    pool_name: str = ""
    """Name of its pool: that of the newest generation, if agents differ."""
    pool: PoolTotal | None = None
    """Use of that one limit, as its owners report it; None if none of them reports."""

    @property
    def is_unknown(self) -> bool:
        """True if the limit is one for all processes, and no owner reports how full it is."""
        return bool(self.shared) and self.pool is None

    @property
    def refusals(self) -> int:
        """Requests that the limit refused, for now or for good."""
        return self.refused + self.never

    @property
    def decided(self) -> int:
        """Requests that the limit admitted or refused, or would have refused."""
        return self.allowed + self.refusals + self.shadow_refused

    def add(self, report: LimitReport, record: UsageRecord, minutes: int) -> None:
        self.agents += 1
        seconds = record.recent_seconds
        self.allowed += report.allowed
        self.refused += report.refused
        self.never += report.never
        self.shadow_refused += report.shadow_refused
        self.waited += report.waited
        self.absent += report.absent
        self.shared += bool(report.pool)
        self.pool_name = report.pool or self.pool_name
        if not report.pool:
            self._add_use(report)
        if seconds > 0:
            self.recent_per_second += (report.recent_allowed + report.recent_refused) / seconds
        self.top_refused.update(dict(report.top_refused))
        self.refused_error += report.refused_error
        self.traffic += report.traffic
        self.rates = _added(self.rates, report.rates)
        self.refused_rates = _added(self.refused_rates, report.refused_rates)
        self.trend = _joined(self.trend, _counts_of(report) if report.pool else report.trend)
        self.detailed += bool(report.rates)
        self.trending += bool(report.trend)
        self.recent.add(recent(record, report, minutes))
        self._add_keys(report)

    def _add_use(self, report: LimitReport) -> None:
        """Add what an agent knows of buckets of its own."""
        self.keys += report.keys
        self.near_keys += report.near_keys
        if report.peak is not None:
            self.peak = max(self.peak or 0.0, report.peak)

    def join(self, pool: PoolTotal, minutes: int) -> None:
        """Take over how full a limit across the cluster is: only its owners know."""
        self.pool = pool
        self.peak = max(self.peak or 0.0, pool.peak)
        self.recent.peak = max(self.recent.peak or 0.0, pool.peak_of(minutes))
        if self.trend:
            peaks = fullest([peak for _, _, peak in self.trend], pool.trend)[-len(self.trend) :]
            counts = [(allowed, refused) for allowed, refused, _ in self.trend]
            self.trend = [(*count, peak) for count, peak in zip(counts, peaks, strict=True)]
        self.near_keys += pool.near_keys
        self.keys += pool.keys

    def _add_keys(self, report: LimitReport) -> None:
        busiest = report.busiest
        counts = [requests for _, requests, _, _ in busiest]
        bound = min(counts) if len(busiest) >= _LISTED else 0
        decided = report.allowed + report.refused + report.never + report.shadow_refused
        self.bound += bound
        self.unlisted += bool(decided and not busiest)
        for key, requests, error, use in busiest:
            self.busiest.setdefault(key, BusyKey(key)).add(requests, error, use, bound)


def _added(one: list[float], other: list[float]) -> list[float]:
    """Return the sum of rates; an agent of another version may report fewer."""
    return [sum(pair) for pair in zip_longest(one, other, fillvalue=0.0)]


def _counts_of(report: LimitReport) -> list[tuple[int, int, float | None]]:
    """Return a trend without the use of buckets, which the owners of a pool report."""
    return [(allowed, refused, None) for allowed, refused, _ in report.trend]


def _joined(
    one: list[tuple[int, int, float | None]], other: list[tuple[int, int, float | None]]
) -> list[tuple[int, int, float | None]]:
    """Return the sum of two trends, whose last minutes are the same."""
    joined = []
    for here, there in zip_longest(reversed(one), reversed(other), fillvalue=(0, 0, None)):
        peaks = [peak for peak in (here[2], there[2]) if peak is not None]
        joined.append((here[0] + there[0], here[1] + there[1], max(peaks, default=None)))
    return joined[::-1]


@dataclass(slots=True)
class Totals:
    """Sum of the agents' reports, limits at and below one scope only."""

    limits: list[LimitTotal]
    reporting: int
    """Agents whose usage is counted here."""
    newest: str | None
    """Time of the newest report (ISO 8601, UTC)."""
    oldest: str | None
    no_policy: int
    errors: int
    omitted: int


def read_agents(store: Store, warn: Warn | None = None) -> list[AgentRecord]:
    """Return every agent that reported within its lease, by id; see ``read_usage``."""
    return list(readable(AgentRecord, store.list(AGENTS).items, warn))


def read_beats(store: Store, warn: Warn | None = None) -> list[Beat]:
    """Return every agent's last sign of life, by id; see ``read_usage``."""
    return list(readable(Beat, store.list(BEATS).items, warn))


def read_usage(store: Store, warn: Warn | None = None) -> list[UsageRecord]:
    """Return every usage record, by agent.

    Unreadable records (of another version, or not written by an agent) are left out, and ``warn``
    gets a message for each.
    """
    return list(readable(UsageRecord, store.list(USAGE).items, warn))


def totals(
    records: list[UsageRecord],
    scope: str = "/",
    budgets: AbstractSet[tuple[str, str]] = frozenset(),
    minutes: int = 1,
    owners: AbstractSet[str] = frozenset(),
) -> Totals:
    """Add up the limits at and below ``scope``, and these ``budgets`` (their scope and name).

    ``minutes``: the span of ``LimitTotal.recent``, 1 to 15. ``owners``: see ``pool_totals``.
    """
    limits: dict[tuple[str, str, tuple[str, ...], bool, str], LimitTotal] = {}
    below = scope.rstrip("/") + "/"
    for record in sorted(records, key=lambda record: record.generation):
        for report in record.limits:
            above = report.budget and (report.scope, report.limit) in budgets
            if report.scope != scope and not report.scope.startswith(below) and not above:
                continue
            buckets = (report.scope, report.limit, tuple(report.overrides), report.budget)
            key = (*buckets, report.unit)
            total = limits.get(key)
            if total is None:
                total = limits[key] = LimitTotal(*key, report.shadow, report.most)
            total.shadow, total.most = report.shadow, report.most
            total.add(report, record, minutes)
    pools = pool_totals(records, owners)
    for total in limits.values():
        if total.pool_name in pools:
            total.join(pools[total.pool_name], minutes)
    reported = sorted(record.reported for record in records)
    return Totals(
        limits=[limits[key] for key in sorted(limits)],
        reporting=sum(not record.dedicated for record in records),
        newest=reported[-1] if reported else None,
        oldest=reported[0] if reported else None,
        no_policy=sum(record.no_policy for record in records),
        errors=sum(record.errors for record in records),
        omitted=sum(record.omitted for record in records),
    )
