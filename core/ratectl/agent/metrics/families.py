"""Values of all metrics of one agent at one moment. They know nothing of who exports them."""

from __future__ import annotations

from datetime import datetime
from itertools import accumulate
from typing import TYPE_CHECKING, Final, NamedTuple

from ratectl.agent.metrics.catalogue import CATALOGUE, NAMES
from ratectl.agent.metrics.cluster import cluster_values
from ratectl.agent.metrics.configured import Configured
from ratectl.agent.metrics.series import LimitSeries
from ratectl.engine.api import FILL_BOUNDS
from ratectl.engine.timings import BOUNDS_NS
from ratectl.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ratectl.agent.agent import Agent
    from ratectl.agent.metrics.catalogue import Metric
    from ratectl.agent.usage.summary import AgentUsage

__all__ = ["MAX_LIMITS", "Family", "Histogram", "Metrics"]

MAX_LIMITS: Final = 1_000
"""Most limits that have series of their own, unless told otherwise."""

Labels = tuple[str, ...]


class Histogram(NamedTuple):
    """Counts by upper bounds, which are not cumulative; the last count has no bound."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    sum: float

    def cumulative(self) -> list[tuple[float, int]]:
        """Return the number of values up to each bound, infinity included."""
        return list(zip((*self.bounds, float("inf")), accumulate(self.counts), strict=True))


class Family(NamedTuple):
    """One metric, and its values by labels."""

    metric: Metric
    values: dict[Labels, float | Histogram]


class Metrics:
    """Metrics of one agent. Not thread-safe.

    Counters never fall while the process lives, also when overrides and limits come and go.
    """

    def __init__(self, agent: Agent, max_limits: int = MAX_LIMITS) -> None:
        """``max_limits``: most limits with series of their own."""
        self._agent = agent
        self._limits = LimitSeries(max_limits)
        self._configured = Configured(agent)

    def read(self) -> list[Family]:
        """Return the values now, in the order of the catalogue."""
        usage = self._agent.usage()
        found: dict[str, dict[Labels, float | Histogram]] = {name: {} for name in NAMES}
        for name, labels, value in (*self._of_limits(usage), *self._of_agent(usage)):
            found[name][labels] = value
        status = self._agent._following.cluster_status()  # noqa: SLF001
        if status is not None:
            for name, labels, number in cluster_values(status, usage, self._limits.shown):
                found[name][labels] = number
        return [Family(metric, found[metric.name]) for metric in CATALOGUE]

    def _of_limits(self, usage: AgentUsage) -> Iterator[tuple[str, Labels, float | Histogram]]:
        for labels, total in self._limits.read(usage):
            for outcome, count in total.outcomes():
                yield "ratectl_decisions_total", (*labels, outcome), count
            if total.per:
                yield "ratectl_absent_attributes_total", labels, total.absent
            yield "ratectl_waits_total", labels, total.waited
            yield "ratectl_limit_keys", labels, total.keys
            yield "ratectl_limit_near_keys", labels, sum(total.by_use[2:])
            yield "ratectl_limit_utilization_ratio", labels, _utilization(total.by_use)
        yield "ratectl_limits_without_series", (), self._limits.without
        for labels, configured in self._configured.read(self._limits.shown):
            yield "ratectl_limit_capacity", (*labels, configured.unit), configured.capacity
            if configured.per_second is not None:
                name = "ratectl_limit_rate_per_second"
                yield name, (*labels, configured.unit), configured.per_second

    def _of_agent(self, usage: AgentUsage) -> Iterator[tuple[str, Labels, float | Histogram]]:
        status, state = self._agent.status, self._agent._following.state  # noqa: SLF001
        yield "ratectl_unlimited_decisions_total", (), usage.no_policy
        yield "ratectl_failed_decisions_total", ("allowed",), usage.failed_allowed
        yield "ratectl_failed_decisions_total", ("refused",), usage.failed_refused
        yield "ratectl_waiting_requests", (), usage.waiting
        bounds = tuple(bound / 1e9 for bound in BOUNDS_NS)
        counts, sum_ns = usage.timings
        times = Histogram(bounds, counts, sum_ns / 1e9)
        yield "ratectl_decision_duration_seconds", (), times
        yield "ratectl_generation", (), status.generation
        if status.applied is not None:
            applied = datetime.fromisoformat(status.applied).timestamp()
            yield "ratectl_generation_applied_timestamp_seconds", (), applied
        yield "ratectl_generation_rejected", (), status.rejected or 0
        yield "ratectl_rejected_generations_total", (), state.rejections
        yield "ratectl_store_connected", (), int(status.connected)
        if state.contacted is not None:
            yield "ratectl_store_contact_timestamp_seconds", (), state.contacted
        if state.reported is not None:
            yield "ratectl_report_timestamp_seconds", (), state.reported
        for concern in status.problems:
            yield "ratectl_problems", (concern,), 1
        yield "ratectl_kill_switches", (), len(status.panic)
        yield "ratectl_buckets", (), usage.buckets
        yield "ratectl_bucket_bytes", (), usage.bytes
        yield "ratectl_bucket_bytes_limit", (), usage.max_bytes
        yield "ratectl_bucket_evictions_total", (), usage.evicted
        yield "ratectl_bucket_overflows_total", (), usage.overflowed
        yield "ratectl_agent_info", (__version__, status.engine.split(" ", 1)[0]), 1


def _utilization(by_use: tuple[int, ...]) -> Histogram:
    """Return keys by their use. A key that uses all of its limit is the last bound's."""
    *below, full, all_of_it = by_use
    counts = (*below, full + all_of_it, 0)
    # The sum is an estimate from the middle of each range.
    edges = (0.0, *FILL_BOUNDS)
    middles = [(low + high) / 2 for low, high in zip(edges, FILL_BOUNDS, strict=False)]
    total = sum(count * middle for count, middle in zip((*below, full), middles, strict=True))
    return Histogram(FILL_BOUNDS, counts, total + all_of_it)
