"""The part of an agent that takes part in the cluster, with a store that works or does not."""

from __future__ import annotations

import os
import sqlite3
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from agent.problems import wait_for_problem, wait_until_well
from etcd_server import wait_for
from ratectl.agent.cluster import ClusterPart
from ratectl.cluster.keeper import Keeper
from ratectl.cluster.node import Node
from ratectl.cluster.sockets import SocketPlace
from ratectl.cluster.transport.listening import Listener
from ratectl.errors import StoreError
from ratectl.runtime.address import Address
from ratectl.stores import open_store
from support import policies, publish_policies

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import ratectl

    MakeAgent = Callable[..., ratectl.Agent]

pytestmark = pytest.mark.usefixtures("short_folder")

FLEET = {"rate": "100/s", "burst": 50, "across": "cluster"}


def tree(limit: Any = FLEET) -> Any:
    return policies(**{"/": {"budgets": {"fleet": limit}}})


@pytest.fixture
def source(tmp_path: Path) -> str:
    """Store with a limit across the cluster."""
    source = f"sqlite:///{tmp_path}/rates.db"
    write(source, tree())
    return source


def write(source: str, policies: Any) -> None:
    with open_store(source) as store:
        publish_policies(store, policies)


def members(source: str) -> list[str]:
    with open_store(source) as store:
        return [item.key for item in store.list("members").items if item.key != "members"]


@contextmanager
def locked(source: str) -> Iterator[None]:
    """Keep every other process out of a SQLite file."""
    connection = sqlite3.connect(source.removeprefix("sqlite:///"), isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    yield
    connection.execute("ROLLBACK")
    connection.close()


def cluster(agent: ratectl.Agent) -> Any:
    return agent._following._cluster  # type: ignore[attr-defined]


def admits(agent: ratectl.Agent) -> bool:
    return agent.check("/", {}).allowed


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate()}


def test_without_a_limit_nothing_happens(
    source: str, make_agent: MakeAgent, short_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread looked five times a second whether there is a limit."""
    write(source, tree({"rate": "100/s"}))
    agent = make_agent(source)
    looked = []
    monkeypatch.setattr(cluster(agent)._limits, "in_force", lambda: looked.append(1))
    time.sleep(0.5)
    assert not looked
    assert not members(source)
    assert not list(short_folder.iterdir())
    assert "ratectl-roster" not in threads()
    assert admits(agent)


def test_the_membership_ends_with_the_last_limit(
    source: str, make_agent: MakeAgent, short_folder: Path
) -> None:
    agent = make_agent(source)
    wait_for(lambda: admits(agent), "a token")
    write(source, tree({"rate": "100/s"}))
    wait_for(lambda: not members(source) and "ratectl-roster" not in threads(), "the end")
    assert not list(short_folder.glob("*/*"))
    write(source, tree())
    wait_for(lambda: len(members(source)) == 1, "a member")
    wait_for(lambda: admits(agent), "a token")
    assert agent.status.error is None


def test_two_agents_in_one_process(source: str, make_agent: MakeAgent) -> None:
    agents = [make_agent(source, id=name) for name in ("one", "two")]
    wait_for(lambda: len(members(source)) == 2, "two members")
    for agent in agents:
        wait_for(lambda agent=agent: admits(agent), "a token")
        assert agent.status.error is None
    for agent in agents:
        agent.close()
        agent.close()
    assert not members(source)


def test_a_closed_agent_admits_one_burst_more(source: str, make_agent: MakeAgent) -> None:
    agent = make_agent(source)
    wait_for(lambda: admits(agent), "a token")
    agent.close()
    assert sum(admits(agent) for _ in range(200)) == 50


def test_a_store_that_cannot_be_used_allows_requests(
    source: str, make_agent: MakeAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the thread waited for the store, nothing was allowed."""
    first = make_agent(source)
    wait_for(lambda: admits(first), "a token")
    first.close()  # it has left last-good
    monkeypatch.setattr("ratectl.agent.cluster._PATIENCE", 10**8)
    with locked(source):
        agent = make_agent(source, ready_timeout=2)
        assert agent.generation
        text = "limits across the cluster count in this process alone"
        wait_for_problem(agent, text)
        until = time.monotonic() + 1.5
        allowed = 0
        while time.monotonic() < until:
            allowed += admits(agent)
            time.sleep(0.002)
        assert allowed > 75
        before = time.monotonic()
        part = cluster(agent)
        part.stop()
        wait_for(lambda: "ratectl-cluster" not in threads(), "the end of the thread")
        assert time.monotonic() - before < 3.5


def test_a_process_alone_admits_a_request_of_a_key_that_costs_the_burst(
    tmp_path: Path, make_agent: MakeAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = f"sqlite:///{tmp_path}/rates.db"
    each = {"rate": "10/s", "burst": 10, "per": "tenant", "across": "cluster"}
    write(source, policies(**{"/": {"limits": {"each": each}}}))
    first = make_agent(source)
    wait_for(lambda: first.check("/", {"tenant": "a"}).allowed, "a token")
    first.close()  # it has left last-good
    monkeypatch.setattr("ratectl.agent.cluster._PATIENCE", 10**8)
    with locked(source):
        agent = make_agent(source, ready_timeout=2)
        wait_for_problem(agent, "limits across the cluster count in this process alone")
        wait_for(lambda: agent.check("/", {"tenant": "a"}, 10).allowed, "the whole burst", 5)


def test_a_store_that_fails_for_a_moment_is_asked_again(
    source: str, make_agent: MakeAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One error of the store was enough to count alone, with full buckets."""
    fails = iter([True, True])

    def step(keeper: Keeper, now: int) -> None:
        if next(fails, False):
            raise StoreError("busy")
        keeper_step(keeper, now)

    keeper_step = Keeper.step
    monkeypatch.setattr(Keeper, "step", step)
    begun = []
    monkeypatch.setattr(ClusterPart, "_count_alone", begun.append)
    agent = make_agent(source)
    wait_for(lambda: admits(agent), "a token")
    assert not begun
    assert agent.status.error is None


def test_a_problem_ends_with_the_limit(
    source: str, make_agent: MakeAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Node, "round", lambda self, wait: 1 / 0)
    agent = make_agent(source)
    wait_for_problem(agent, "in this process alone: ZeroDivisionError")
    assert admits(agent)
    write(source, tree({"rate": "100/s"}))
    wait_until_well(agent)


def test_a_failing_round_is_told_once_and_does_not_run_hot(
    source: str,
    make_agent: MakeAgent,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A round that failed was repeated at once, and its traceback logged each time."""
    rounds = []

    def broken(node: Node, wait: int) -> None:
        rounds.append(wait)
        raise ZeroDivisionError("odd")

    with monkeypatch.context() as broken_node:
        broken_node.setattr(Node, "round", broken)
        agent = make_agent(source)
        wait_for_problem(agent, "odd")
        time.sleep(1.5)
        assert len(rounds) <= 3
    wait_until_well(agent)
    wait_for(lambda: admits(agent), "a token")
    told = [record.message for record in caplog.records if "odd" in record.getMessage()]
    assert len(told) <= 5


def test_a_lost_entry_is_replaced_at_once_and_admits_no_burst(
    source: str, make_agent: MakeAgent
) -> None:
    """A process counted alone for a second, with full buckets."""
    agent = make_agent(source)
    wait_for(lambda: admits(agent), "a token")
    (before,) = members(source)
    while admits(agent):
        pass
    begin = time.monotonic()
    cluster(agent).node._keeper.lost = True
    allowed = 0
    while members(source) in ([], [before]) and time.monotonic() < begin + 10:
        allowed += admits(agent)
    while time.monotonic() < begin + 1:
        allowed += admits(agent)
    assert allowed <= 1 + 100 * (time.monotonic() - begin)
    assert agent.status.error is None


def test_the_store_is_gone_and_new(source: str, make_agent: MakeAgent) -> None:
    """A process that has counted does not begin with full buckets: the store has lost all."""
    agent = make_agent(source)
    wait_for(lambda: admits(agent), "a token")
    part = cluster(agent)
    assert part._has_counted
    new = part._new_node(_Joined(), part._attempt.links, bytes(16))
    assert all(shard._own._full is False for shard in new.shards)


class _Joined:
    standing = None
    starts_full = True


# Sockets ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trap", ["file", "link", "open"])
def test_another_user_was_here_first(
    source: str, make_agent: MakeAgent, short_folder: Path, trap: str, tmp_path: Path
) -> None:
    """In a shared /tmp, anybody could keep the processes of another user apart."""
    usual = short_folder / f"ratectl-{os.geteuid()}"
    match trap:
        case "file":
            usual.touch()
        case "link":
            usual.symlink_to(tmp_path)
        case "open":
            usual.mkdir()
            usual.chmod(0o777)
    agents = [make_agent(source, id=name) for name in ("one", "two")]
    for agent in agents:
        wait_for(lambda agent=agent: admits(agent), "a token")
        assert agent.status.error is None
    for agent in agents:
        agent.close()
    assert list(short_folder.iterdir()) == [usual]
    assert not list(tmp_path.glob("*.sock"))


def test_a_long_folder_of_temporary_files(
    short_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = short_folder / ("x" * 100)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    place = SocketPlace()
    assert len(place.path) <= 100
    place.close()


def test_sockets_of_killed_processes_are_removed(short_folder: Path) -> None:
    """Each process that was killed left one for ever."""
    listeners = []
    for _ in range(3):
        listeners.append(Listener(Address("", 0, SocketPlace().path), None))
    dead, young, alive = (Path(listener.address.path) for listener in listeners)
    for listener in listeners[:2]:
        listener.socket.close()
    for path in (dead, alive):
        os.utime(path, (0, 0))
    other = dead.parent / "notes.txt"
    other.touch()
    SocketPlace().close()
    locks = [Path(f"{path}.lock") for path in (young, alive)]
    assert sorted(short_folder.glob("*/*")) == sorted([young, alive, *locks, other])
    listeners[2].close()
