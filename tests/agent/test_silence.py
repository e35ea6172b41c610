"""An agent that enforces nothing or old policies reports it: in its status, and once in the log."""

from __future__ import annotations

import os
import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest

from agent.problems import RETRIES, Log, wait_for_problem, wait_until_well
from etcd_server import wait_for
from ratectl.fleet.usage import read_agents
from ratectl.kill_switch.switches import PANIC, Switch, change_switches
from ratectl.stores import open_store
from support import once, publish_policies, simple

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import ratectl
    from etcd_server import EtcdServer
    from ratectl.stores.base import Store

    Make = Callable[..., ratectl.Agent]

pytestmark = once

ACME = {"tenant": "acme"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A SQLite file with generation 1."""
    path = tmp_path / "folder" / "rates.db"
    path.parent.mkdir()
    with open_store(f"sqlite:///{path}") as store:
        publish_policies(store, simple())
    return path


# -- nothing was ever published --------------------------------------------------------------------


@pytest.mark.parametrize("on_error", ["allow", "deny"])
def test_empty_store_is_distinguished_from_a_failing_one(
    store: Store, store_url: str, make_agent: Make, log: Log, on_error: str
) -> None:
    agent = make_agent(store_url, on_error=on_error, ready_timeout=0.5)
    said = wait_for_problem(agent, "nothing is published in ")
    assert store.url in said, "the environment may be misspelt"
    assert "on_error answers every request" in said
    assert "`ratectl apply PATH`" in said
    assert (agent.status.connected, agent.status.state) == (True, "waiting")
    decision = agent.check("/shop", ACME)
    assert (decision.reason, decision.allowed) == ("error", on_error == "allow")
    (record,) = wait_for(lambda: read_agents(store), "it reports")
    wait_for(lambda: read_agents(store)[0].error == said, "`ratectl agents` shows it")
    assert record.state == "waiting"
    time.sleep(RETRIES)
    assert [said] == log.warnings
    publish_policies(store, simple())
    wait_until_well(agent)
    wait_for(lambda: log.warnings == [said, f"resolved: {said}"], "the end is logged")
    wait_for(lambda: read_agents(store)[0].error is None, "`ratectl agents` shows that it is over")


def test_publication_in_another_environment_is_not_enforced(
    store: Store, store_url: str, make_agent: Make
) -> None:
    """A misspelt environment, or another file, is a store without that generation."""
    publish_policies(store, simple())
    other = store_url.replace(".db", "-other.db") if "sqlite" in store_url else f"{store_url}x"
    agent = make_agent(other, ready_timeout=0.5)
    said = wait_for_problem(agent, "nothing is published in ")
    assert other.rpartition("/")[2] in said


def test_status_names_the_missing_step_before_the_first_answer(make_agent: Make, log: Log) -> None:
    """A server that accepts a connection and never answers; agents do not wait for ever."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"etcd://127.0.0.1:{silent.getsockname()[1]}/prod"
        agent = make_agent(url, ready_timeout=0.2)
        said = "waiting for the store's first answer: on_error answers every request until then"
        assert agent.status.error == said
        assert log.warnings == [said]
        assert agent.check("/shop", ACME).reason == "error"
        said = wait_for_problem(agent, "is not reachable", 15)
        time.sleep(RETRIES)
        agent.close()
    log.check_no_repeats()


@pytest.mark.etcd
def test_a_server_without_tls_is_named_where_tls_is_expected(
    etcd_server: EtcdServer, make_agent: Make, log: Log
) -> None:
    url = etcd_server.store_url("prod").replace("etcd://", "etcds://")
    agent = make_agent(url, ready_timeout=0.2)
    assert "TLS" in wait_for_problem(agent, "is not reachable", 15)


# -- decisions that fail ---------------------------------------------------------------------------


class Broken(dict[str, str]):
    """Attributes that cannot be read."""

    def get(self, *_: object) -> str:
        raise ZeroDivisionError("a mapping of the service's own")


@pytest.mark.parametrize("kind", ["store", "directory"])
def test_failing_decisions_are_reported_while_they_fail(
    file: Path, make_agent: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """``on_error`` may answer every request of the service."""
    folder = tmp_path / "policies"
    folder.mkdir()
    (folder / "all.yaml").write_text(
        "apiVersion: ratectl/v1\nscope: /\nlimits: {spike: {rate: 2/s, per: tenant}}\n"
    )
    agent = make_agent(f"sqlite:///{file}" if kind == "store" else folder)
    assert agent.check("/shop", Broken()).reason == "error"
    said = "decisions fail, and on_error answers them: ZeroDivisionError: a mapping of the service"
    wait_for_problem(agent, said)
    monkeypatch.setattr("ratectl.agent.failures._LOG_EVERY", 0.0)
    wait_until_well(agent)


# -- the kill switch, exceptions, forks ------------------------------------------------------------


def test_deleted_kill_switch_record_is_reported_and_still_obeyed(
    store: Store, store_url: str, make_agent: Make, log: Log
) -> None:
    publish_policies(store, simple())
    agent = make_agent(store_url)
    switch = Switch.now("/shop", "open", "INC-1", "ada")
    change_switches(store, lambda known: known.turned_on(switch))
    wait_for(lambda: agent.status.panic, "it is obeyed")
    store.delete(PANIC)
    wait_for_problem(
        agent, "the kill switch's record is gone from the store; switches that were on stay on"
    )
    assert agent.status.panic
    change_switches(store, lambda known: known.turned_on(switch).turned_off())
    wait_until_well(agent)
    wait_for(lambda: not agent.status.panic, "it is off")
    log.check_no_repeats()


def test_forked_child_that_cannot_follow_reports_it(
    file: Path, make_agent: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = make_agent(f"sqlite:///{file}")
    parent = os.getpid()
    start = threading.Thread.start

    def fails_in_child(thread: threading.Thread) -> None:
        if os.getpid() != parent:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", fails_in_child)
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        said = f"{agent.status.connected} {agent.status.error} {agent.check('/', ACME).reason}"
        os.write(writing, said.encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        assert pipe.read() == (
            "False this forked process gets no updates and keeps the policies in force: "
            "can't start new thread ok"
        )
    assert agent.status.error is None
