"""Metrics of an agent for Prometheus, through ``prometheus_client``."""

from __future__ import annotations

import math
import os
import threading
import weakref
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from prometheus_client import REGISTRY
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeHistogramMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.registry import Collector
from prometheus_client.values import ValueClass

from ratectl.agent.log import log
from ratectl.agent.metrics.catalogue import CATALOGUE
from ratectl.agent.metrics.families import MAX_LIMITS, Histogram, Metrics
from ratectl.errors import UsageError
from ratectl.runtime.cooperative import cooperative

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import Metric as Exposed

    from ratectl.agent.agent import Agent
    from ratectl.agent.metrics.catalogue import Metric
    from ratectl.agent.metrics.families import Family, Labels

__all__ = ["AgentCollector", "export", "multiprocess"]

_WRITE_SECONDS: Final = 2.0


def multiprocess() -> bool:
    """Return True in the multi-process mode of ``prometheus_client``.

    It is chosen when that is imported, if ``PROMETHEUS_MULTIPROC_DIR`` is set then.
    """
    return bool(ValueClass._multiprocess)  # noqa: SLF001


def export(
    agent: Agent, registry: CollectorRegistry = REGISTRY, *, max_limits: int = MAX_LIMITS
) -> None:
    """Export an agent's metrics with those of the program, until the agent is closed.

    ``max_limits``: most limits with series of their own; the others are counted together. In
    the multi-process mode (``PROMETHEUS_MULTIPROC_DIR`` is set), each process writes its values to
    the folder every two seconds, and the sum of all processes is exposed.

    :raises UsageError: the agent is closed.
    :raises ValueError: ``registry`` has metrics of another agent already; in the multi-process
        mode, the process has.
    """
    if agent._closed:  # noqa: SLF001
        raise UsageError("the agent is closed, and its metrics do not change any more")
    if multiprocess():
        known = next((values for values in _writing if not values.ended), None)
        if known is None:
            agent._companions.join(_ProcessValues(agent, max_limits))  # noqa: SLF001
        elif known.agent is not agent:
            raise ValueError("this process exports the metrics of another agent already")
    else:
        collector = AgentCollector(agent, max_limits=max_limits)
        registry.register(collector)
        agent._companions.join(_Registered(collector, registry))  # noqa: SLF001


class AgentCollector(Collector):
    """Collector of one agent's metrics, for a registry of ``prometheus_client``."""

    def __init__(self, agent: Agent, *, max_limits: int = MAX_LIMITS) -> None:
        """``max_limits``: most limits with series of their own."""
        self._agent, self._max_limits = agent, max_limits
        self.restart()

    def restart(self) -> None:
        """Begin at zero: the agent of a forked child does so too."""
        self._metrics = Metrics(self._agent, self._max_limits)
        self._reading = threading.Lock()

    def collect(self) -> Iterator[Exposed]:
        """Yield the metrics as of now."""
        with self._reading, cooperative():
            families = self._metrics.read()
        for family in families:
            yield _exposed(family)

    def describe(self) -> Iterator[Exposed]:
        """Yield the metrics without values: to register the collector reads nothing."""
        for metric in CATALOGUE:
            yield _empty(metric)


def _empty(metric: Metric) -> Any:
    kinds = {
        "counter": CounterMetricFamily,
        "gauge": GaugeMetricFamily,
        "histogram": HistogramMetricFamily,
        "gauge histogram": GaugeHistogramMetricFamily,
    }
    return kinds[metric.kind](metric.name, metric.help, labels=metric.labels)


def _exposed(family: Family) -> Exposed:
    exposed = _empty(family.metric)
    for labels, value in family.values.items():
        if isinstance(value, Histogram):
            buckets = [(_text(bound), count) for bound, count in value.cumulative()]
            exposed.add_metric(labels, buckets, value.sum)
        else:
            exposed.add_metric(labels, value)
    return exposed  # type: ignore[no-any-return]


def _text(bound: float) -> str:
    """Return a bound as Prometheus writes it."""
    return "+Inf" if bound == math.inf else repr(bound)


class _Registered:
    """A collector in a registry."""

    def __init__(self, collector: AgentCollector, registry: CollectorRegistry) -> None:
        self._collector, self._registry = collector, registry

    def close(self) -> None:
        self._registry.unregister(self._collector)

    def in_child(self) -> None:
        self._collector.restart()


# Several processes ------------------------------------------------------------------------------


class _ProcessValues:
    """Values of one process, in the files from which ``prometheus_client`` adds up all processes.

    Only the process that is scraped asks its collectors, so a thread writes the values ahead.
    """

    def __init__(self, agent: Agent, max_limits: int) -> None:
        self.agent, self._max_limits = agent, max_limits
        self._start()
        _writing.add(self)
        _hold_at_forks()

    @property
    def ended(self) -> bool:
        return self._ended.is_set()

    def _start(self) -> None:
        self._metrics = Metrics(self.agent, self._max_limits)
        self._values: dict[tuple[str, Labels], _Value] = {}
        self.writing = threading.RLock()
        self._ended = threading.Event()
        thread = threading.Thread(target=self._run, name="ratectl-metrics", daemon=True)
        thread.start()

    def _run(self) -> None:
        while not self._ended.wait(_WRITE_SECONDS):
            self._write()

    def _write(self) -> None:
        try:
            with self.writing, cooperative():
                samples = dict(_samples(self._metrics.read()))
                for sample, known in self._values.items():
                    if sample not in samples and known.metric.kind.startswith("gauge"):
                        known.set(0)  # of a limit that is gone, for example
                for (name, labels), (metric, value) in samples.items():
                    known = self._values.get((name, labels)) or _Value(metric, name, labels)
                    self._values[name, labels] = known
                    known.set(value)
        except Exception:  # noqa: BLE001  the thread must survive any error
            log.exception("metrics were not written for other processes")

    def close(self) -> None:
        """Write the last counts. What is told of the present ends: sums become 0."""
        self._ended.set()
        self._write()
        with self.writing:
            for value in self._values.values():
                if value.metric.kind.startswith("gauge") and value.metric.combined == "sum":
                    value.set(0)

    def in_child(self) -> None:
        self._start()


_writing: weakref.WeakSet[_ProcessValues] = weakref.WeakSet()
"""Writers of this process."""

_held: list[_ProcessValues] = []
"""Writers that stand still for a fork: ``prometheus_client`` has a lock of its own, which a thread
of the parent must not hold in the child for ever."""


@cache
def _hold_at_forks() -> None:
    os.register_at_fork(before=_hold, after_in_parent=_let_go, after_in_child=_held.clear)


def _hold() -> None:
    for values in list(_writing):
        values.writing.acquire()
        _held.append(values)


def _let_go() -> None:
    while _held:
        _held.pop().writing.release()


class _Value:
    """One number in this process's file. Another process of the same id may have begun it."""

    def __init__(self, metric: Metric, name: str, labels: Labels) -> None:
        self.metric = metric
        names = (*metric.labels, "le") if name.endswith("_bucket") else metric.labels
        # A snapshot of keys is no histogram there: those are never taken back.
        kind = "gauge" if metric.kind.startswith("gauge") else metric.kind
        family = name if kind == "gauge" else metric.name.removesuffix("_total")
        mode = f"live{metric.combined}" if kind == "gauge" else ""
        self._value = ValueClass(
            kind, family, name, names, labels, metric.help, multiprocess_mode=mode
        )
        self._counts = kind != "gauge"
        self._base = self._value.get() if self._counts else 0.0
        self._last = 0.0

    def set(self, value: float) -> None:
        """Set the value; a count that has begun anew goes on from where it was."""
        if self._counts and value < self._last:
            self._base += self._last
        self._last = value
        self._value.set(self._base + value)


def _samples(
    families: list[Family],
) -> Iterator[tuple[tuple[str, Labels], tuple[Metric, float]]]:
    """Yield the numbers of all families: name and labels, metric and value."""
    for metric, values in families:
        for labels, value in values.items():
            if not isinstance(value, Histogram):
                yield (metric.name, tuple(labels)), (metric, value)
                continue
            # Prometheus adds up the buckets of a histogram; those of a snapshot stay as they are.
            snapshot = metric.kind == "gauge histogram"
            counts = [count for _, count in value.cumulative()] if snapshot else value.counts
            for bound, count in zip((*value.bounds, math.inf), counts, strict=True):
                le = _text(bound)
                yield (f"{metric.name}_bucket", (*labels, le)), (metric, count)
            name = f"{metric.name}_gsum" if snapshot else f"{metric.name}_sum"
            yield (name, tuple(labels)), (metric, value.sum)
