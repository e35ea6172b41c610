"""Two processes with one agent id, each with a state directory of its own."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from agent.problems import wait_for_problem, wait_until_well
from etcd_server import wait_for
from ratectl.fleet.usage import read_agents
from ratectl.records import AGENTS, USAGE, AgentRecord
from support import publish_policies, simple

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import ratectl
    from agent.problems import Log
    from ratectl.stores.base import Store

    Make = Callable[..., ratectl.Agent]


def recorded(store: Store, name: str) -> AgentRecord | None:
    item = store.get(AGENTS + name)
    return AgentRecord.decode(item.value) if item else None


def test_the_second_process_of_an_id_says_so_and_leaves_the_record_alone(
    store: Store, store_url: str, make_agent: Make, tmp_path: Path, log: Log
):
    publish_policies(store, simple())
    first = make_agent(store_url, id="edge")
    wait_for(lambda: store.get(USAGE + "edge"), "the first one reports")
    before = recorded(store, "edge")
    assert before is not None
    second = make_agent(store_url, id="edge", state_dir=tmp_path / "another")
    problem = wait_for_problem(second, "another process uses the agent id edge")
    assert f"pid {os.getpid()}" in problem
    assert "give each its own --id" in problem
    assert second.status.problems.keys() == {"id"}
    assert first.status.error is None
    publish_policies(store, simple("3/s"))
    wait_for(
        lambda: (now := recorded(store, "edge")) is not None and now.generation == 2,
        "the first one still reports what changes",
    )
    second.close()
    after = recorded(store, "edge")
    assert after is not None
    assert after.instance == before.instance
    assert store.get(USAGE + "edge") is not None
    assert len([text for text in log.warnings if text.startswith("another process")]) == 1


def test_the_second_process_takes_the_record_when_the_first_has_ended(
    store: Store, store_url: str, make_agent: Make, tmp_path: Path
):
    publish_policies(store, simple())
    first = make_agent(store_url, id="edge")
    wait_for(lambda: store.get(USAGE + "edge"), "the first one reports")
    second = make_agent(store_url, id="edge", state_dir=tmp_path / "another")
    wait_for_problem(second, "another process")
    first.close()
    wait_until_well(second)
    wait_for(lambda: [each.error for each in read_agents(store)] == [None], "it reports")
    wait_for(lambda: store.get(USAGE + "edge"), "it reports its usage")
    second.close()
    assert recorded(store, "edge") is None


def test_a_restarted_process_takes_the_record_of_its_earlier_run_at_once(
    store: Store, store_url: str, make_agent: Make, tmp_path: Path, log: Log
):
    publish_policies(store, simple())
    first = make_agent(store_url, id="edge")
    wait_for(lambda: store.get(USAGE + "edge"), "it reports")
    left = store.get(AGENTS + "edge")
    assert left is not None
    first.close()
    store.put(AGENTS + "edge", left.value)  # as a killed process leaves it
    make_agent(store_url, id="edge")
    started = AgentRecord.decode(left.value).started
    wait_for(
        lambda: (now := recorded(store, "edge")) is not None and now.started != started,
        "the new run has the record",
        3,
    )
    assert log.warnings == []


def test_a_deleted_record_is_written_again(store: Store, store_url: str, make_agent: Make):
    publish_policies(store, simple())
    agent = make_agent(store_url, id="edge")
    wait_for(lambda: store.get(USAGE + "edge"), "it reports")
    store.delete(AGENTS + "edge")
    wait_for(lambda: recorded(store, "edge"), "the record is there again")
    assert agent.status.error is None
