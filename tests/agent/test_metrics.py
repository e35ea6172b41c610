"""Metrics of an agent: names, values, bounded series, counters that never fall."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from given_counts import GivenMeter, counted
from ratectl import Agent, FakeClock, UsageError
from ratectl.agent.metrics.catalogue import CATALOGUE, NAMES
from ratectl.agent.metrics.families import Histogram, Metrics
from ratectl.agent.metrics.series import LimitSeries, Of
from ratectl.contrib.prometheus import AgentCollector, export

if TYPE_CHECKING:
    from collections.abc import Iterator

POLICIES = """
apiVersion: ratectl/v1
scope: /mail
limits:
  spike: {rate: 2/s, burst: 10, per: tenant}
  steady: {algorithm: sliding-window, rate: 600/min, per: tenant, mode: shadow}
  daily: {algorithm: quota, rate: 1000/day}
  slots: {algorithm: concurrency, max: 100}
  llm: {rate: 60/min, burst: 100, unit: tokens}
budgets:
  spike: {rate: 100/s}
overrides:
- {name: gold, match: {tier: gold}, limits: {spike: {burst: 50}}}
"""

MAIL = ("/mail", "spike", "limit")


@pytest.fixture
def agent() -> Iterator[Agent]:
    with Agent.from_policies(POLICIES, clock=FakeClock()) as agent:
        yield agent


def values(agent: Agent, **options: Any) -> dict[str, dict[tuple[str, ...], Any]]:
    return {
        metric.name: {tuple(labels): value for labels, value in found.items()}
        for metric, found in Metrics(agent, **options).read()
    }


# Names ------------------------------------------------------------------------------------------


def test_names_follow_the_conventions() -> None:
    for metric in CATALOGUE:
        assert re.fullmatch(r"ratectl(_[a-z]+)+", metric.name)
        assert metric.name.endswith("_total") is (metric.kind == "counter")
        assert metric.help.endswith(".")
        assert not metric.name.endswith(("_ms", "_ns", "_percent", "_minutes"))
    assert len(NAMES) == len(CATALOGUE)


def test_every_metric_is_read(agent: Agent) -> None:
    assert [family.metric for family in Metrics(agent).read()] == list(CATALOGUE)


# Values -----------------------------------------------------------------------------------------


def test_decisions_by_limit_and_outcome(agent: Agent) -> None:
    for _ in range(12):
        agent.check("/mail", {"tenant": "acme"}).release()
    agent.check("/mail", {"tenant": "zeta", "tier": "gold"}, 40).release()
    agent.check("/mail", {"tenant": "zeta"}, 11)
    decisions = values(agent)["ratectl_decisions_total"]
    assert decisions[(*MAIL, "allowed")] == 11  # with all overrides
    assert decisions[(*MAIL, "refused")] == 2
    assert decisions[(*MAIL, "never")] == 1
    assert (*MAIL, "shadow_refused") not in decisions
    assert decisions["/mail", "spike", "budget", "allowed"] == 11
    assert decisions["/mail", "steady", "limit", "shadow_refused"] == 0


def test_configured_limits(agent: Agent) -> None:
    agent.check("/mail", {"tenant": "acme", "tier": "gold"})
    found = values(agent)
    capacity, rate = found["ratectl_limit_capacity"], found["ratectl_limit_rate_per_second"]
    assert capacity[(*MAIL, "requests")] == 10  # without the override
    assert capacity["/mail", "llm", "limit", "tokens"] == 100
    assert capacity["/mail", "slots", "limit", "requests"] == 100
    assert rate[(*MAIL, "requests")] == 2
    assert rate["/mail", "llm", "limit", "tokens"] == 1
    assert rate["/mail", "steady", "limit", "requests"] == 10
    assert rate["/mail", "daily", "limit", "requests"] == pytest.approx(1000 / 86_400)
    assert ("/mail", "slots", "limit", "requests") not in rate


SALE = """
---
apiVersion: ratectl/v1
kind: Exception
scope: /mail
reason: a sale
from: 2030-01-01T01:00Z
until: 2030-01-01T02:00Z
limits: {spike: {rate: 8/s, burst: 40}}
"""


def test_configured_limits_follow_an_exception_below_the_root() -> None:
    with Agent.from_policies(POLICIES + SALE, clock=FakeClock()) as agent:
        agent.check("/mail", {"tenant": "acme"}).release()
        metrics = Metrics(agent)
        sizes = []
        for _ in range(3):
            found = {metric.name: values for metric, values in metrics.read()}
            sizes.append(
                [
                    found[f"ratectl_limit_{name}"][(*MAIL, "requests")]
                    for name in ("capacity", "rate_per_second")
                ]
            )
            agent.clock.advance(3_600)
    assert sizes == [[10, 2], [40, 8], [10, 2]]


def test_keys_by_utilization(agent: Agent) -> None:
    for tenant, cost in (("a", 1), ("b", 5), ("c", 8), ("d", 10)):
        agent.check("/mail", {"tenant": tenant}, cost).release()
    found = values(agent)
    ratio = found["ratectl_limit_utilization_ratio"][MAIL]
    assert isinstance(ratio, Histogram)
    assert ratio.cumulative() == [(0.5, 1), (0.8, 2), (0.9, 3), (1.0, 4), (float("inf"), 4)]
    assert found["ratectl_limit_near_keys"][MAIL] == 2
    assert found["ratectl_limit_keys"][MAIL] == 4


def test_absent_attributes_are_counted_for_limits_per_attribute(agent: Agent) -> None:
    agent.check("/mail").release()
    absent = values(agent)["ratectl_absent_attributes_total"]
    assert absent[MAIL] == 1
    assert ("/mail", "daily", "limit") not in absent


def test_decisions_without_a_policy_and_failed_ones(agent: Agent) -> None:
    agent.check("/elsewhere")
    agent.failed("/mail", ValueError("meant"))
    found = values(agent)
    assert found["ratectl_unlimited_decisions_total"] == {(): 1}
    assert found["ratectl_failed_decisions_total"] == {("allowed",): 1, ("refused",): 0}


def test_problems_have_a_series_while_they_last(agent: Agent) -> None:
    agent._following.state.problem("report", "the store refuses writes")
    assert values(agent)["ratectl_problems"] == {("report",): 1}
    agent._following.state.problem("report", None)
    assert values(agent)["ratectl_problems"] == {}


def test_rejections_are_counted_once_each(agent: Agent) -> None:
    state = agent._following.state
    for rejected in (7, 7, None, 7, 8):
        state.problem("generation", rejected and "damaged", rejected=rejected)
    found = values(agent)
    assert found["ratectl_rejected_generations_total"] == {(): 3}
    assert found["ratectl_generation_rejected"] == {(): 8}


# Series -----------------------------------------------------------------------------------------


def test_keys_are_never_labels(agent: Agent) -> None:
    for number in range(50):
        agent.check("/mail", {"tenant": f"secret-{number}"}, 30)
    assert "secret" not in repr(values(agent))


def test_number_of_series_is_bounded() -> None:
    meter = GivenMeter()
    series = LimitSeries(10)
    many = [counted(f"l{number}", allowed=number) for number in range(100)]
    found = dict(series.read(meter.usage(1.0, *many)))
    assert len(found) == 11
    assert series.without == 90
    assert sum(total.allowed for total in found.values()) == sum(range(100))


def test_limits_with_requests_get_the_series() -> None:
    series = LimitSeries(2)
    quiet = [counted(f"a{number}", allowed=0) for number in range(10)]
    usage = GivenMeter().usage(1.0, *quiet, counted("z", allowed=5), counted("y", allowed=1))
    assert {of.limit for of, _ in series.read(usage)} == {"z", "y", "(other)"}


def test_overrides_share_the_series_of_their_limit() -> None:
    meter = GivenMeter()
    many = [counted("x", (f"o{number}@/a",), allowed=1) for number in range(500)]
    ((of, total),) = LimitSeries(1_000).read(meter.usage(1.0, *many))
    assert (of, total.allowed) == (Of("/a", "x", "limit"), 500)


def test_counters_do_not_fall_when_overrides_come_and_go() -> None:
    meter, series = GivenMeter(), LimitSeries(10)
    seen = []
    for gold in (None, 5, 9, None, 2, None):
        counts = [counted("x", allowed=10)]
        if gold is not None:
            counts.append(counted("x", ("gold@/a",), allowed=gold))
        ((_, total),) = series.read(meter.usage(len(seen) + 1.0, *counts))
        seen.append(total.allowed)
    assert seen == [10, 15, 19, 19, 21, 21]


def test_the_rest_does_not_fall_when_limits_are_removed() -> None:
    meter, series = GivenMeter(), LimitSeries(1)
    all_of_them = [counted("a", allowed=5), counted("b", allowed=7), counted("c", allowed=9)]
    first = dict(series.read(meter.usage(1.0, *all_of_them)))
    second = dict(series.read(meter.usage(2.0, *all_of_them[:2])))
    rest = Of("(other)", "(other)", "limit")
    assert first[rest].allowed == second[rest].allowed == 16


def test_a_removed_limit_makes_room_for_another() -> None:
    meter, series = GivenMeter(), LimitSeries(1)
    series.read(meter.usage(1.0, counted("old", allowed=5)))
    series.read(meter.usage(2.0, counted("new", allowed=1)))
    found = dict(series.read(meter.usage(3.0, counted("new", allowed=4))))
    assert Of("/a", "new", "limit") in found


# Exposition -------------------------------------------------------------------------------------


def test_page_is_read_by_the_parsers_of_prometheus(agent: Agent) -> None:
    agent.check("/mail", {"tenant": "acme"}).release()
    registry = CollectorRegistry()
    registry.register(AgentCollector(agent))
    plain = {family.name for family in parse(generate_latest(registry).decode())}
    assert "ratectl_decisions" in plain
    text = generate_openmetrics(registry).decode()
    types = {family.name: family.type for family in parse_openmetrics(text)}
    assert types["ratectl_limit_utilization_ratio"] == "gaugehistogram"
    assert types["ratectl_decision_duration_seconds"] == "histogram"
    assert types["ratectl_decisions"] == "counter"


def test_hostile_scopes_are_escaped() -> None:
    """Declared names are checked; a label's value is escaped anyway."""
    registry = CollectorRegistry()
    with Agent.from_policies(POLICIES) as agent:
        collector = AgentCollector(agent)
        registry.register(collector)
        agent._following.state.problem('x"\n', "odd")
        assert 'concern="x\\"\\n"' in generate_latest(registry).decode()


def test_export_joins_the_programs_metrics_until_the_agent_is_closed(agent: Agent) -> None:
    registry = CollectorRegistry()
    export(agent, registry)
    assert b"ratectl_generation 1.0" in generate_latest(registry)
    agent.close()
    assert generate_latest(registry) == b""


def test_two_agents_in_one_registry_are_refused(agent: Agent) -> None:
    registry = CollectorRegistry()
    export(agent, registry)
    with (
        Agent.from_policies(POLICIES) as other,
        pytest.raises(ValueError, match="Duplicated timeseries"),
    ):
        export(other, registry)


def test_scrape_during_reloads(agent: Agent) -> None:
    registry = CollectorRegistry()
    export(agent, registry)
    tree = agent._following.settings.given.tree  # type: ignore[union-attr]
    for generation in range(2, 20):
        agent._following.enforcement.enforce(tree, generation)
        agent.check("/mail", {"tenant": "acme"}).release()
        assert b"ratectl_decisions_total{" in generate_latest(registry)


def test_closed_agent_is_not_exported(agent: Agent) -> None:
    agent.close()
    with pytest.raises(UsageError, match="the agent is closed"):
        export(agent, CollectorRegistry())
