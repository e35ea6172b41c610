"""Closing of agents: by finalizers in their own threads, and again after an interruption."""

from __future__ import annotations

import gc
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from etcd_server import wait_for
from ratectl.agent import agent as agent_module
from ratectl.agent import following, last_good
from ratectl.agent.adoption import Adoption
from ratectl.agent.last_good import Slot
from ratectl.agent.report import Reporter
from ratectl.agent.switches import StoreSwitches
from ratectl.agent.sync import StoreSync
from ratectl.fleet.usage import read_agents
from ratectl.stores import open_store
from ratectl.stores.sqlite.channel import Channel
from ratectl.stores.sqlite.lease import SqliteLease
from support import publish_policies, simple

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

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
def test_agent_can_be_closed_by_a_finalizer_in_its_own_thread(
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


def open_files() -> int:
    """Return the number of open descriptors of this process."""
    return len(list(Path("/proc/self/fd").iterdir()))


def interrupted_once(
    monkeypatch: pytest.MonkeyPatch, owner: type, name: str, *, after: bool = False
) -> None:
    """Make the next call of a method raise KeyboardInterrupt, before or after its work."""
    real = getattr(owner, name)
    calls: list[None] = []

    def interrupted(*given: Any, **named: Any) -> Any:
        first, result = not calls, None
        calls.append(None)
        if after or not first:
            result = real(*given, **named)
        if first:
            raise KeyboardInterrupt
        return result

    monkeypatch.setattr(owner, name, interrupted)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (threading.Thread, "join"),
        (Reporter, "sign_off"),
        (SqliteLease, "revoke"),
        (StoreSync, "close"),
        (Slot, "release"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_interrupted_close_is_finished_by_the_next_close(
    url: str,
    make_agent: Make,
    monkeypatch: pytest.MonkeyPatch,
    owner: type,
    name: str,
    after: bool,
):
    agent = make_agent(url, id="web")
    with open_store(url) as store:
        wait_for(lambda: read_agents(store), "the agent reports")
        with monkeypatch.context() as patch:
            interrupted_once(patch, owner, name, after=after)
            with pytest.raises(KeyboardInterrupt):
                agent.close()
        agent.close()
        assert threads() == []
        assert read_agents(store) == []
    assert make_agent(url, id="web").id == "web", "the id is free"


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (last_good, "_persisted_id"),
        (following, "ShadowEvaluator"),
        (Adoption, "start"),
        (StoreSwitches, "start_from_disk"),
        (threading.Thread, "start"),
        (agent_module, "follow"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_interrupted_start_leaves_nothing_behind(
    url: str,
    make_agent: Make,
    monkeypatch: pytest.MonkeyPatch,
    owner: Any,
    name: str,
    after: bool,
):
    make_agent(url).close()  # import modules, and create the folder of the first slot
    descriptors = open_files()
    with monkeypatch.context() as patch:
        interrupted_once(patch, owner, name, after=after)
        with pytest.raises(KeyboardInterrupt) as caught:
            make_agent(url)
    del caught
    gc.collect()
    wait_for(lambda: not threads(), "all threads have ended")
    wait_for(lambda: open_files() <= descriptors, "all files are closed")
    with open_store(url) as store:
        assert read_agents(store) == []


def test_a_finalizer_may_close_an_agent_that_is_being_closed(
    url: str, make_agent: Make, monkeypatch: pytest.MonkeyPatch
):
    agent = make_agent(url, id="web")
    drop = Channel._drop

    def drop_after_finalizer(self: Channel) -> None:
        Owner(agent)  # the channel's lock is held here
        drop(self)

    monkeypatch.setattr(Channel, "_drop", drop_after_finalizer)
    closing = threading.Thread(target=agent.close, daemon=True)
    closing.start()
    closing.join(20)
    assert not closing.is_alive()
