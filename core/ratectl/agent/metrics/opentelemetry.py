"""Metrics of an agent for OpenTelemetry, through its API."""

from __future__ import annotations

import math
import threading
import time
from typing import TYPE_CHECKING, Final

from opentelemetry.metrics import Observation, get_meter

from ratectl.agent.metrics.catalogue import CATALOGUE
from ratectl.agent.metrics.families import MAX_LIMITS, Histogram, Metrics
from ratectl.errors import UsageError
from ratectl.runtime.cooperative import cooperative
from ratectl.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from opentelemetry.metrics import CallbackOptions, MeterProvider

    from ratectl.agent.agent import Agent
    from ratectl.agent.metrics.catalogue import Metric
    from ratectl.agent.metrics.families import Labels

__all__ = ["export", "instrument_name"]

_UNITS: Final = {"_seconds": "s", "_bytes": "By", "_ratio": "1"}

_SAME: Final = 0.5
"""Seconds for which a reading serves all instruments: one collection calls them one by one."""


def instrument_name(metric: Metric) -> tuple[str, str]:
    """Return the name of an instrument and its unit: ``ratectl.decision_duration``, ``s``."""
    name = metric.name.removesuffix("_total").replace("ratectl_", "ratectl.", 1)
    for suffix, unit in _UNITS.items():
        if name.endswith(suffix):
            return name.removesuffix(suffix), unit
    return name, ""


def export(
    agent: Agent, meter_provider: MeterProvider | None = None, *, max_limits: int = MAX_LIMITS
) -> None:
    """Export an agent's metrics, until the agent is closed.

    ``meter_provider``: default: the program's own. ``max_limits``: most limits with series of their
    own; the others are counted together. The API has no instrument that reads a histogram, so each
    of its buckets is a number of its own, with its upper bound in the attribute ``le``.

    :raises UsageError: the agent is closed.
    :raises ValueError: the provider has metrics of another agent already.
    """
    if agent._closed:  # noqa: SLF001
        raise UsageError("the agent is closed, and its metrics do not change any more")
    known = _by_provider.get(meter_provider)
    if known is not None:  # instruments are made once: a second one would replace nothing
        known.take(agent, max_limits)
        agent._companions.join(known)  # noqa: SLF001
        return
    exported = _by_provider[meter_provider] = _Exported(agent, max_limits)
    meter = get_meter("ratectl", __version__, meter_provider)
    for metric in CATALOGUE:
        name, unit = instrument_name(metric)
        falls = metric.kind.startswith("gauge")
        make = meter.create_observable_gauge if falls else meter.create_observable_counter
        if metric.kind.endswith("histogram"):
            make(f"{name}.bucket", [exported.buckets_of(metric)], "", metric.help)
            make(f"{name}.sum", [exported.sums_of(metric)], unit, metric.help)
        else:
            make(name, [exported.values_of(metric)], unit, metric.help)
    agent._companions.join(exported)  # noqa: SLF001


_by_provider: dict[MeterProvider | None, _Exported] = {}
"""Exported metrics by provider; a program has few. None: the program's own."""


class _Exported:
    """Metrics of one agent, read once for each collection."""

    def __init__(self, agent: Agent, max_limits: int) -> None:
        self._closed = True
        self.take(agent, max_limits)

    def take(self, agent: Agent, max_limits: int) -> None:
        """Export this agent from now on.

        :raises ValueError: another one is exported, and is not closed.
        """
        if not self._closed:
            raise ValueError("this provider exports the metrics of an agent already")
        self._agent, self._max_limits = agent, max_limits
        self._closed = False
        self.in_child()

    def in_child(self) -> None:
        self._metrics = Metrics(self._agent, self._max_limits)
        self._reading = threading.Lock()
        self._read = -math.inf
        self._values: dict[str, dict[Labels, float | Histogram]] = {}

    def close(self) -> None:
        self._closed = True

    def _of(self, metric: Metric) -> Iterator[tuple[dict[str, str], float | Histogram]]:
        """Yield the values of a metric with their attributes."""
        if self._closed:
            return
        with self._reading:
            if time.monotonic() - self._read > _SAME:
                with cooperative():
                    found = self._metrics.read()
                self._values = {family.metric.name: family.values for family in found}
                self._read = time.monotonic()
            values = self._values[metric.name]
        for labels, value in values.items():
            yield dict(zip(metric.labels, labels, strict=True)), value

    def values_of(self, metric: Metric) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def observe(_: CallbackOptions) -> Iterable[Observation]:
            for attributes, value in self._of(metric):
                if not isinstance(value, Histogram):
                    yield Observation(value, attributes)

        return observe

    def buckets_of(self, metric: Metric) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def observe(_: CallbackOptions) -> Iterable[Observation]:
            for attributes, value in self._of(metric):
                if isinstance(value, Histogram):
                    for bound, count in value.cumulative():
                        yield Observation(count, {**attributes, "le": str(bound)})

        return observe

    def sums_of(self, metric: Metric) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def observe(_: CallbackOptions) -> Iterable[Observation]:
            for attributes, value in self._of(metric):
                if isinstance(value, Histogram):
                    yield Observation(value.sum, attributes)

        return observe
