"""Metrics through OpenTelemetry's API, read back with its SDK."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from given_counts import GivenShared, owned
from ratectl import Agent, UsageError
from ratectl.agent.cluster_status import ClusterStatus
from ratectl.agent.metrics.catalogue import CATALOGUE
from ratectl.agent.metrics.opentelemetry import instrument_name
from ratectl.contrib.opentelemetry import export

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ratectl.engine.limit_plan import GroupName

POLICIES = """
apiVersion: ratectl/v1
scope: /mail
limits: {spike: {rate: 1/h, burst: 10, per: tenant}}
"""

MAIL = {"scope": "/mail", "limit": "spike", "kind": "limit"}


@pytest.fixture
def reader() -> InMemoryMetricReader:
    return InMemoryMetricReader()


@pytest.fixture
def agent(reader: InMemoryMetricReader) -> Iterator[Agent]:
    provider = MeterProvider([reader])
    with Agent.from_policies(POLICIES) as agent:
        export(agent, provider)
        yield agent
    provider.shutdown()


def found(reader: InMemoryMetricReader) -> dict[str, Any]:
    data = reader.get_metrics_data()
    return {
        metric.name: metric
        for resource in (data.resource_metrics if data else ())
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }


def value(metric: Any, **attributes: str) -> float:
    points = [point for point in metric.data.data_points if dict(point.attributes) == attributes]
    (point,) = points
    return float(point.value)


def test_values_with_attributes(agent: Agent, reader: InMemoryMetricReader) -> None:
    for _ in range(12):
        agent.check("/mail", {"tenant": "acme"})
    metrics = found(reader)
    decisions = metrics["ratectl.decisions"]
    assert decisions.data.is_monotonic
    assert value(decisions, **MAIL, outcome="allowed") == 10
    assert value(decisions, **MAIL, outcome="refused") == 2
    assert value(metrics["ratectl.limit_capacity"], **MAIL, unit="requests") == 10
    assert value(metrics["ratectl.limit_utilization.bucket"], **MAIL, le="0.9") == 0
    assert value(metrics["ratectl.limit_utilization.bucket"], **MAIL, le="1.0") == 1
    assert metrics["ratectl.decision_duration.sum"].unit == "s"
    assert "acme" not in repr(metrics)


SPIKE: GroupName = ("/mail", "spike", False, (), ("tenant",), "requests")


def test_every_metric_has_an_instrument(
    agent: Agent, reader: InMemoryMetricReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    status = ClusterStatus(state="lent", members=2, answered=1.0, wallets={SPIKE: 3})
    monkeypatch.setattr(agent._following, "cluster_status", lambda: status)
    agent._following.settings.meter.shared = GivenShared(SPIKE, owned())
    state = agent._following.state
    agent.check("/mail", {"tenant": "acme"})
    state.contact(reported=True)
    state.problem("report", "none reaches the store")
    names = found(reader).keys()
    for metric in CATALOGUE:
        name, _ = instrument_name(metric)
        assert name in names or f"{name}.bucket" in names, metric.name


def test_nothing_is_observed_after_closing(agent: Agent, reader: InMemoryMetricReader) -> None:
    agent.close()
    assert found(reader) == {}


def test_one_agent_follows_another(agent: Agent, reader: InMemoryMetricReader) -> None:
    """Instruments are made once for each provider: a closed agent makes room."""
    provider = MeterProvider([other_reader := InMemoryMetricReader()])
    with Agent.from_policies(POLICIES) as first:
        export(first, provider)
        with Agent.from_policies(POLICIES) as second, pytest.raises(ValueError, match="already"):
            export(second, provider)
    with Agent.from_policies(POLICIES) as third:
        export(third, provider)
        third.check("/mail", {"tenant": "acme"})
        decisions = found(other_reader)["ratectl.decisions"]
        assert value(decisions, **MAIL, outcome="allowed") == 1
    provider.shutdown()


def test_closed_agent_is_not_exported(agent: Agent, reader: InMemoryMetricReader) -> None:
    agent.close()
    with pytest.raises(UsageError, match="closed"):
        export(agent)
