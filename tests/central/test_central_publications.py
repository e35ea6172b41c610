"""Publications of central limits to agents of a store; exceptions that begin and end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from ratectl import Agent, FakeClock
from ratectl.errors import UsageError
from ratectl.records import ENVIRONMENT, Environment
from ratectl.stores import open_store
from support import once, policies, publish_policies

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from valkey_server import ValkeyServer

pytestmark = [once, pytest.mark.valkey]

SPIKE = {"rate": "1/h", "burst": 4, "across": "redis"}


def publish(source: str, **limits: Any) -> None:
    with open_store(source, timeout=30) as store:
        publish_policies(store, policies(**{"/": {"limits": limits}}))


@pytest.fixture
def source(tmp_path: Path) -> str:
    source = f"sqlite:///{tmp_path}/rates.db"
    publish(source, spike=SPIKE)
    return source


@pytest.fixture
def agents(source: str, tmp_path: Path, valkey: ValkeyServer) -> Iterator[list[Agent]]:
    made = [
        Agent(source, state_dir=tmp_path / name, redis=valkey.url, redis_deadline=10)
        for name in "ab"
    ]
    yield made
    for agent in made:
        agent.close()


def follow(agents: list[Agent], generation: int) -> None:
    for agent in agents:
        assert agent.wait_for_generation(generation, 20)


def test_agents_of_one_store_share_a_limit_named_by_their_environment(
    agents: list[Agent], source: str, valkey: ValkeyServer
) -> None:
    one, other = agents
    assert [one.check_blocking("/").allowed, other.check_blocking("/").allowed] == [True, True]
    assert one.check_blocking("/", cost=0).remaining == 2
    with open_store(source, timeout=30) as store:
        record = store.get(ENVIRONMENT)
        assert record is not None
        prefix = f"ratectl:{{{Environment.decode(record.value).id}}}:".encode()
    assert all(name.startswith(prefix) for name in valkey.client().keys("*"))


def test_a_new_burst_keeps_what_was_counted(agents: list[Agent], source: str) -> None:
    assert agents[0].check_blocking("/", cost=3).remaining == 1
    publish(source, spike={**SPIKE, "burst": 10})
    follow(agents, 2)
    assert agents[1].check_blocking("/", cost=0).remaining == 1
    publish(source, spike={**SPIKE, "burst": 1})
    follow(agents, 3)
    assert agents[1].check_blocking("/").remaining == 0


def test_a_limit_moves_to_the_server_and_back(agents: list[Agent], source: str) -> None:
    agent = agents[0]
    publish(source, spike={"rate": "1/h", "burst": 4})
    follow([agent], 2)
    assert not agent.asks_server
    assert agent.check("/").allowed
    publish(source, spike=SPIKE)
    follow([agent], 3)
    with pytest.raises(UsageError, match="acheck"):
        agent.check("/")
    assert asyncio.run(agent.acheck("/")).remaining == 3


def test_without_an_address_check_begins_to_refuse_such_requests(
    source: str, tmp_path: Path
) -> None:
    publish(source, spike={"rate": "1/h", "burst": 4})
    with Agent(source, state_dir=tmp_path) as agent:
        follow([agent], 2)
        assert agent.check("/").allowed
        assert "redis" not in agent.status.problems
        publish(source, spike=SPIKE)
        follow([agent], 3)
        with pytest.raises(UsageError, match="acheck"):
            agent.check("/")
        assert "RATECTL_REDIS_URL" in agent.status.problems["redis"]
        publish(source, spike={"rate": "1/h", "burst": 4})
        follow([agent], 4)
        assert agent.check("/").allowed
        assert "redis" not in agent.status.problems


def test_a_check_that_the_program_replaced_stays(source: str, tmp_path: Path) -> None:
    publish(source, spike={"rate": "1/h", "burst": 4})
    with Agent(source, state_dir=tmp_path) as agent:
        own = agent.check
        agent.check = lambda *question: own(*question)  # type: ignore[method-assign]
        replaced = agent.check
        publish(source, spike={"rate": "1/h", "burst": 5})
        follow([agent], 3)
        assert agent.check is replaced


def test_exceptions_begin_and_end() -> None:
    clock = FakeClock("2036-01-01T00:00Z")
    documents = """
apiVersion: ratectl/v1
scope: /
limits:
  spike: {rate: 1/h, burst: 2, across: redis}
---
apiVersion: ratectl/v1
kind: Exception
scope: /
reason: a test
from: 2036-01-01T00:01Z
until: 2036-01-01T00:02Z
limits: {spike: {rate: 1/s, burst: 5}}
"""
    with Agent.from_policies(documents, clock=clock) as agent:
        assert [agent.check_blocking("/").allowed for _ in range(3)] == [True, True, False]
        clock.advance(61)
        clock.advance(5)
        assert [agent.check_blocking("/").allowed for _ in range(6)] == [True] * 5 + [False]
        clock.advance(60)
        assert agent.check_blocking("/", cost=3).reason == "never"
