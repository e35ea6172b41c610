"""Usage of a limit across the cluster, as two real agents report it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from etcd_server import wait_for
from ratectl.health.usage_report import read_usage_report
from ratectl.stores import open_store
from support import policies, publish_policies
from unix_http import ask

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import ratectl
    from ratectl.fleet.usage import LimitTotal

    MakeAgent = Callable[..., ratectl.Agent]

pytestmark = pytest.mark.usefixtures("short_folder")


@pytest.fixture
def source(tmp_path: Path) -> str:
    source = f"sqlite:///{tmp_path}/rates.db"
    fleet = {"rate": "1/h", "burst": 100, "across": "cluster"}
    with open_store(source) as store:
        publish_policies(store, policies(**{"/": {"budgets": {"fleet": fleet}}}))
    return source


def total_of(source: str) -> LimitTotal | None:
    with open_store(source) as store:
        rows = read_usage_report(store, None, print).rows
    return rows[0].total if rows else None


def test_one_line_for_both_with_the_use_of_the_owner(source: str, make_agent: MakeAgent) -> None:
    """Each agent took the limit for full, as its own wallet is empty."""
    agents = [make_agent(source, id=name, report_interval=0.1) for name in ("one", "two")]
    allowed = 0

    def all_are_spent() -> bool:
        nonlocal allowed
        allowed += sum(agent.check("/", {}).allowed for agent in agents)
        total = total_of(source)
        return total is not None and total.pool is not None and total.allowed == allowed >= 40

    wait_for(all_are_spent, "40 admitted requests")

    def is_told() -> bool:
        total = total_of(source)
        pool = total and total.pool
        return pool is not None and pool.capacity - pool.free - pool.held >= allowed

    wait_for(is_told, "the owner's report")
    total = total_of(source)
    assert total is not None
    assert (total.agents, total.shared, total.allowed) == (2, 2, allowed)
    assert total.pool is not None
    assert total.peak == pytest.approx(total.pool.used, abs=0.03)
    owners = [agent for agent in agents if agent.usage().owned]
    assert [owner.agent for owner in total.pool.owners] == [agent.usage().id for agent in owners]
    assert len(owners) == 1


LONG = "checkout-" * 8
"""Beginning of ids that do not fit into the names of members."""


@pytest.mark.parametrize("names", [("one", "two"), (LONG + "one", LONG + "two")])
def test_each_process_knows_how_full_the_limit_is(
    source: str, make_agent: MakeAgent, names: tuple[str, str]
) -> None:
    """Also the one that does not own it."""
    agents = [make_agent(source, id=name, report_interval=0.1) for name in names]

    def uses() -> list[float | None]:
        for agent in agents:
            agent.check("/", {})
        usages = [agent.usage() for agent in agents]
        pools = [pool for usage in usages for pool in (*usage.owned, *usage.heard)]
        known = [len(usage.owned) + len(usage.heard) for usage in usages] == [1, 1]
        settled = known and {pool.capacity for pool in pools} == {100}
        return [usage.limits[0].peak for usage in usages] if settled else []

    found = wait_for(lambda: [use for use in uses() if use is not None][1:] and uses(), "both")
    assert len(found) == 2
    (owner,) = [agent for agent in agents if agent.usage().owned]
    (other,) = [agent for agent in agents if not agent.usage().owned]
    (heard,) = other.usage().heard
    assert heard.pool == owner.usage().owned[0].pool
    assert heard.keys_by_use is None


def test_a_limit_that_was_shared_counts_in_each_process_again(
    source: str, make_agent: MakeAgent
) -> None:
    agent = make_agent(source, id="one")
    wait_for(lambda: agent.check("/", {}).allowed and agent.usage().owned, "an owner")
    assert agent.usage().limits[0].pool
    with open_store(source) as store:
        fleet = {"rate": "100/s", "burst": 100}
        publish_policies(store, policies(**{"/": {"budgets": {"fleet": fleet}}}))
    wait_for(lambda: agent.generation == 2 and not agent.usage().owned, "the end of the pool")
    wait_for(lambda: agent.check("/", {}).allowed, "a token")
    (limit,) = agent.usage().limits
    assert limit.pool == ""
    assert limit.peak is not None


def test_the_admin_endpoint_shows_it(
    source: str, make_agent: MakeAgent, short_folder: Path
) -> None:
    agent = make_agent(source, id="one")
    wait_for(lambda: agent.check("/", {}).allowed and agent.usage().owned, "an owner")
    served = agent.serve(admin=f"unix:{short_folder}/admin")
    status, text, _ = ask(served.admin, "/v1/usage")
    document: dict[str, Any] = json.loads(text)
    _, page, _ = ask(served.admin, "/")
    assert status == 200
    (pool,) = document["owned"]
    assert pool["capacity"] == 100
    assert document["limits"][0]["pool"] == pool["pool"]
    assert "One limit for all processes: " in page
    assert "held by 1 members (just now)" in page
