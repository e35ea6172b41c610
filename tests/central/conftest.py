"""Fixtures of the tests of central limits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from ratectl import Agent
from valkey_server import ValkeyServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def own_valkey() -> Iterator[ValkeyServer]:
    """A server that a test may harm."""
    server = ValkeyServer.start()
    yield server
    server.stop()


@pytest.fixture
def agent_of(valkey: ValkeyServer) -> Iterator[Callable[..., Agent]]:
    """Agents of policies that use the healthy server, and are closed."""
    agents: list[Agent] = []

    def make(policies: str, **given: Any) -> Agent:
        agents.append(
            Agent.from_policies(policies, **{"redis": valkey.url, "redis_deadline": 10, **given})
        )
        return agents[-1]

    yield make
    for agent in agents:
        agent.close()
