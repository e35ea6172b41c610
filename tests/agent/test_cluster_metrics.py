"""Metrics of limits across the cluster, of real agents."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from etcd_server import wait_for
from ratectl import Agent
from ratectl.agent.cluster_status import STATES, ClusterStatus
from ratectl.agent.metrics.catalogue import CATALOGUE
from ratectl.agent.metrics.cluster import cluster_values
from ratectl.agent.metrics.families import Metrics
from ratectl.agent.metrics.series import Of
from ratectl.cluster.tally import Tally
from ratectl.stores import open_store
from support import policies, publish_policies

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    MakeAgent = Callable[..., Agent]

pytestmark = pytest.mark.usefixtures("short_folder")

FLEET = {"rate": "100/s", "burst": 100, "across": "cluster"}
BUDGET = ("/", "fleet", "budget", "requests")
NAMES = {metric.name for metric in CATALOGUE if metric.name.startswith("ratectl_cluster_")}


@pytest.fixture
def source(tmp_path: Path) -> str:
    source = f"sqlite:///{tmp_path}/rates.db"
    publish(source, FLEET)
    return source


def publish(source: str, fleet: dict[str, Any]) -> None:
    with open_store(source) as store:
        publish_policies(store, policies(**{"/": {"budgets": {"fleet": fleet}}}))


def read(metrics: Metrics) -> dict[str, dict[tuple[str, ...], Any]]:
    return {metric.name: dict(values) for metric, values in metrics.read()}


def state_of(found: dict[str, dict[tuple[str, ...], Any]]) -> list[str]:
    return [labels[0] for labels, value in found["ratectl_cluster_state"].items() if value]


def test_two_members(source: str, make_agent: MakeAgent) -> None:
    agents = [make_agent(source, id=name) for name in ("one", "two")]
    metrics = [Metrics(agent) for agent in agents]
    found: list[dict[str, dict[tuple[str, ...], Any]]] = []

    def are_settled() -> bool:
        for agent in agents:
            agent.check("/", {})
        found[:] = map(read, metrics)
        sessions = sorted(each["ratectl_cluster_sessions"].get((), -1) for each in found)
        shares = [each["ratectl_cluster_share_ratio"].get(()) for each in found]
        lent_tokens = [each["ratectl_cluster_pool_capacity"].get(BUDGET, 0) for each in found]
        lent = [state_of(each) for each in found] == [["lent"], ["lent"]]
        return lent and sessions == [2, 2] and shares == [0.5, 0.5] and sum(lent_tokens) >= 99

    wait_for(are_settled, "two members with equal shares")
    for each in found:
        assert set(each["ratectl_cluster_state"]) == {(state,) for state in STATES}
        assert each["ratectl_cluster_members"] == {(): 2}
        assert BUDGET in each["ratectl_cluster_wallet_tokens"]
        contact = each["ratectl_cluster_owner_contact_timestamp_seconds"][()]
        assert abs(time.time() - contact) < 5
    member, owner = sorted(found, key=lambda each: BUDGET in each["ratectl_cluster_pool_capacity"])
    assert owner["ratectl_cluster_pool_capacity"] == {BUDGET: pytest.approx(100, abs=1)}
    tokens = owner["ratectl_cluster_pool_tokens"]
    assert set(tokens) == {(*BUDGET, "free"), (*BUDGET, "held")}
    assert 0 <= sum(tokens.values()) <= 100
    for name in ("polls", "replies"):
        counts = [each[f"ratectl_cluster_{name}_total"] for each in (owner, member)]
        direction = ("sent",) if name == "polls" else ("received",)
        assert all(count[direction] > 0 for count in counts)
    assert member["ratectl_cluster_messages_total"]["sent",] > 0
    assert member["ratectl_cluster_transport_bytes_total"]["received",] > 0
    assert member["ratectl_cluster_connections_total"]["opened",] >= 1


def test_counters_do_not_fall_when_a_process_is_another_member(
    source: str, make_agent: MakeAgent
) -> None:
    agent = make_agent(source, id="one")
    metrics = Metrics(agent)
    wait_for(lambda: agent.check("/", {}).allowed, "a token")
    wait_for(lambda: state_of(read(metrics)) == ["lent"], "a session")
    before = read(metrics)["ratectl_cluster_polls_total"]["sent",]
    publish(source, {"rate": "100/s"})
    wait_for(lambda: not any(read(metrics)[name] for name in NAMES), "no limit across the cluster")
    publish(source, FLEET)
    wait_for(lambda: state_of(read(metrics)) == ["lent"], "a session")
    assert read(metrics)["ratectl_cluster_polls_total"]["sent",] > before > 0


def test_an_agent_that_counts_alone(tmp_path: Path) -> None:
    text = "apiVersion: ratectl/v1\nscope: /\nlimits: {l: {rate: 5/s, across: cluster}}\n"
    (tmp_path / "a.yaml").write_text(text, "utf-8")
    with Agent(str(tmp_path)) as agent:
        found = read(Metrics(agent))
    assert state_of(found) == ["alone"]
    assert found["ratectl_cluster_members"] == {}


def test_without_such_limits_there_are_no_such_metrics(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        "apiVersion: ratectl/v1\nscope: /\nlimits: {l: {rate: 5/s}}\n", "utf-8"
    )
    with Agent(str(tmp_path)) as agent:
        found = read(Metrics(agent))
    assert not any(found[name] for name in NAMES)


def test_the_number_of_series_is_bounded(tmp_path: Path) -> None:
    """Limits without series of their own have no tokens, and overrides share a series."""
    wallets = {
        ("/", f"l{number}", False, overrides, (), "requests"): 2
        for number in range(5)
        for overrides in ((), ("gold@/",))
    }
    status = ClusterStatus(state="lent", members=1, wallets=wallets, tally=Tally())
    with Agent.from_policies("apiVersion: ratectl/v1\nscope: /\nlimits: {}\n") as agent:
        values = list(cluster_values(status, agent.usage(), {Of("/", "l1", "limit")}))
    tokens = [each for each in values if each[0] == "ratectl_cluster_wallet_tokens"]
    assert tokens == [("ratectl_cluster_wallet_tokens", ("/", "l1", "limit", "requests"), 4)]
    assert {name for name, *_ in values} <= NAMES
