"""Agents are closed by finalizers in their own threads, and again after an interruption."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from etcd_server import wait_for
from ratectl.stores import open_store
from ratectl.stores.sqlite.channel import Channel
from ratectl.usage import read_agents
from support import publish_policies, simple

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable
    from pathlib import Path

    import ratectl

    Make = Callable[..., ratectl.Agent]


def threads() -> list[str]:
    """Return the names of threads of agents."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("ratectl-")]


class Owner:
    """An object whose finalizer closes its agent."""

    def __init__(self, agent: ratectl.Agent) -> None:
        self._agent = agent

    def __del__(self) -> None:
        self._agent.close()


@pytest.fixture
def url(tmp_path: Path) -> str:
    """Return a SQLite store with one generation."""
    url = f"sqlite:///{tmp_path}/rates.db"
    with open_store(url) as store:
        publish_policies(store, simple())
    return url


@pytest.mark.parametrize("name", ["ratectl-report", "ratectl-sync"])
def test_a_finalizer_in_a_thread_of_the_agent_closes_it(
    url: str, make_agent: Make, monkeypatch: pytest.MonkeyPatch, name: str
):
    agent = make_agent(url, id="web")
    owners: list[Owner] = []
    ready = Channel._ready

    def ready_after_finalizer(self: Channel) -> sqlite3.Connection:
        if threading.current_thread().name == name and owners:
            owners.clear()  # the channel's lock is held here
        return ready(self)

    with open_store(url) as store:
        wait_for(lambda: read_agents(store), "the agent reports")
        monkeypatch.setattr(Channel, "_ready", ready_after_finalizer)
        owners.append(Owner(agent))
        if name == "ratectl-sync":
            publish_policies(store, simple("3/s"))
        wait_for(lambda: not owners, "the finalizer runs")
        wait_for(lambda: not threads(), "all threads have ended", seconds=8)
        assert read_agents(store) == []
    assert make_agent(url, id="web").id == "web", "the id is free"
