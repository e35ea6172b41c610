"""An agent that enforces nothing, or something old, says so: in its status, and once in the log."""

from __future__ import annotations

import logging
import os
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from etcd_server import wait_for
from ratectl.panic import PANIC, Switch, change_switches
from ratectl.stores import open_store
from ratectl.usage import read_agents
from support import publish_policies, simple

if TYPE_CHECKING:
    from collections.abc import Callable

    import ratectl
    from etcd_server import EtcdServer
    from ratectl.stores.base import Store

    Make = Callable[..., ratectl.Agent]

ACME = {"tenant": "acme"}
RETRIES = 1.5
"""Seconds in which an agent tries several times."""


class Log:
    """Warnings that agents logged."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO, "ratectl.agent")
        self._caplog = caplog

    @property
    def warnings(self) -> list[str]:
        found = self._caplog.records
        return [each.getMessage() for each in found if each.levelno >= logging.WARNING]

    def once(self) -> None:
        """Each was logged once, however often it was seen."""
        assert max(Counter(self.warnings).values(), default=0) <= 1, self.warnings


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Log:
    return Log(caplog)


def says(agent: ratectl.Agent, words: str, seconds: float = 10.0) -> str:
    """Wait until the status says this; returns all that it says."""
    wait_for(lambda: words in (agent.status.error or ""), f"{words!r} is said", seconds)
    return agent.status.error or ""


def well(agent: ratectl.Agent, seconds: float = 10.0) -> None:
    wait_for(lambda: agent.status.error is None, "nothing is wrong any more", seconds)


# -- nothing was ever published --------------------------------------------------------------------


@pytest.mark.parametrize("on_error", ["allow", "deny"])
def test_a_store_in_which_nothing_was_published_is_told_from_one_that_fails(
    store: Store, store_url: str, make_agent: Make, log: Log, on_error: str
) -> None:
    agent = make_agent(store_url, on_error=on_error, ready_timeout=0.5)
    said = says(agent, "nothing is published in ")
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
    well(agent)
    wait_for(lambda: log.warnings == [said, f"no longer: {said}"], "the end is logged")
    wait_for(lambda: read_agents(store)[0].error is None, "`ratectl agents` shows that it is over")


def test_what_was_published_elsewhere_is_not_in_force_here(
    store: Store, store_url: str, make_agent: Make
) -> None:
    """A misspelt environment, or another file, is a store like any other."""
    publish_policies(store, simple())
    other = store_url.replace(".db", "-other.db") if "sqlite" in store_url else f"{store_url}x"
    agent = make_agent(other, ready_timeout=0.5)
    said = says(agent, "nothing is published in ")
    assert other.rpartition("/")[2] in said


def test_a_status_says_what_it_waits_for_before_anything_is_known(
    make_agent: Make, log: Log
) -> None:
    """A server that takes a connection and says nothing; agents do not wait for it for ever."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"etcd://127.0.0.1:{silent.getsockname()[1]}/prod"
        agent = make_agent(url, ready_timeout=0.2)
        said = "waiting for the store's first answer: on_error answers every request until then"
        assert agent.status.error == said
        assert log.warnings == [said]
        assert agent.check("/shop", ACME).reason == "error"
        said = says(agent, "is not reachable", 15)
        time.sleep(RETRIES)
        agent.close()
    log.once()


@pytest.mark.etcd
def test_a_server_without_tls_is_named_where_tls_is_expected(
    etcd_server: EtcdServer, make_agent: Make, log: Log
) -> None:
    url = etcd_server.store_url("prod").replace("etcd://", "etcds://")
    agent = make_agent(url, ready_timeout=0.2)
    assert "TLS" in says(agent, "is not reachable", 15)


# -- SQLite files ----------------------------------------------------------------------------------


def remove(path: Path) -> None:
    for end in ("", "-wal", "-shm"):
        Path(f"{path}{end}").unlink(missing_ok=True)


def garbage_in_the_header(path: Path) -> None:
    path.write_bytes(b"X" * 100 + path.read_bytes()[100:])


def garbage_behind_the_header(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:4096] + b"\xa5" * (len(data) - 4096))


def truncated(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def emptied(path: Path) -> None:
    os.truncate(path, 0)


def a_text(path: Path) -> None:
    path.write_text("a text\n" * 3000)


def a_directory(path: Path) -> None:
    remove(path)
    path.mkdir()


def a_pipe(path: Path) -> None:
    remove(path)
    os.mkfifo(path)


def of_another_application(path: Path) -> None:
    beside = path.with_name("other.db")
    other = sqlite3.connect(beside)
    other.execute("CREATE TABLE shopping (item TEXT)")
    other.commit()
    other.close()
    remove(path)
    beside.rename(path)


def deleted(path: Path) -> None:
    remove(path)


def folder_deleted(path: Path) -> None:
    remove(path)
    path.parent.rmdir()


BEFORE = [
    (garbage_in_the_header, "is not a SQLite database: name another file"),
    (garbage_behind_the_header, "is damaged"),
    (truncated, "is damaged"),
    (a_text, "is not a SQLite database: name another file"),
    (a_directory, "is not a file; name one in the store URL"),
    (a_pipe, "is not a file; name one in the store URL"),
    (of_another_application, "is a database of another program; it was not touched"),
    (emptied, "nothing is published in"),
    (deleted, "nothing is published in"),
    (folder_deleted, "nothing is published in"),
]

DURING = [
    (a_directory, "is not a file; name one in the store URL"),
    (a_pipe, "is not a file; name one in the store URL"),
    (of_another_application, "is a database of another program"),
    (deleted, "the file is gone; restore it"),
    (folder_deleted, "the file is gone; restore it"),
]


def in_another_process(damage: Callable[[Path], None], path: Path) -> None:
    """Damage a file. To open it in this process would end SQLite's locks of this process."""
    code = f"import test_silence as t; t.{damage.__name__}(t.Path({str(path)!r}))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A store with generation 1."""
    path = tmp_path / "folder" / "rates.db"
    with open_store(f"sqlite:///{path}") as store:
        publish_policies(store, simple())
    return path


@pytest.mark.parametrize(("damage", "said"), BEFORE, ids=lambda each: getattr(each, "__name__", ""))
def test_a_file_that_is_no_store_is_reported_at_the_start(
    file: Path, make_agent: Make, log: Log, damage: Callable[[Path], None], said: str
) -> None:
    damage(file)
    agent = make_agent(f"sqlite:///{file}", ready_timeout=0.5)
    assert str(file) in says(agent, said)
    assert agent.check("/shop", ACME).reason == "error"
    time.sleep(RETRIES)
    assert len(log.warnings) == 1, log.warnings


@pytest.mark.parametrize(("damage", "said"), DURING, ids=lambda each: getattr(each, "__name__", ""))
def test_a_file_that_is_no_store_any_more_is_reported(
    file: Path, make_agent: Make, log: Log, damage: Callable[[Path], None], said: str
) -> None:
    agent = make_agent(f"sqlite:///{file}")
    assert agent.generation == 1
    in_another_process(damage, file)
    problem = says(agent, said)
    assert str(file) in problem
    assert agent.status.connected is False
    time.sleep(RETRIES)
    assert log.warnings == [problem]
    assert agent.check("/shop", ACME).reason in ("ok", "limited"), "what is in force stays"
    replace(agent, file)
    wait_for(lambda: log.warnings == [problem, f"no longer: {problem}"], "the end is logged")


def replace(agent: ratectl.Agent, file: Path) -> None:
    """Publish anew in the place of what lies there, which the agent follows."""
    if file.is_dir():
        file.rmdir()
    remove(file)
    beside = file.with_name("beside.db")
    publish(f"sqlite:///{beside}")
    beside.rename(file)
    wait_for(lambda: agent.check("/shop", {"tenant": "new"}).capacity == 9, "it follows")
    well(agent)


def test_a_file_that_is_emptied_is_reported_and_not_taken_for_a_new_store(
    file: Path, make_agent: Make, log: Log
) -> None:
    """What SQLite makes of it when it is let go is another thing each time; it is said as well."""
    agent = make_agent(f"sqlite:///{file}")
    in_another_process(emptied, file)
    said = f"store {file} is not reachable: the file was emptied; restore it, or remove it to begin"
    wait_for(lambda: any(each.startswith(said) for each in log.warnings), "it is logged")
    time.sleep(RETRIES)
    log.once()
    assert agent.generation == 1
    assert "nothing is published" not in (agent.status.error or "")
    replace(agent, file)


@pytest.mark.parametrize("ends", [("-wal",), ("-wal", "-shm")])
def test_an_agent_whose_write_ahead_log_was_removed_follows_on(
    file: Path, make_agent: Make, ends: tuple[str, ...]
) -> None:
    """It would read and write a file that nobody else sees, and find nothing wrong."""
    url = f"sqlite:///{file}"
    agent = make_agent(url)
    for end in ends:
        Path(f"{file}{end}").unlink()
    wait_for(lambda: Path(f"{file}-wal").exists(), "it has opened the file again")
    code = "import sys, test_silence as t; t.publish(sys.argv[1])"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code, url], check=True, env=environment)
    wait_for(lambda: agent.check("/shop", {"tenant": "new"}).capacity == 9, "it follows")
    well(agent)


def publish(url: str) -> None:
    with open_store(url) as store:
        publish_policies(store, simple("9/s"))


def test_a_store_that_can_be_read_and_not_written_is_reported(
    file: Path, make_agent: Make, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ratectl.agent.report._RENEW_SECONDS", 0.5)
    agent = make_agent(f"sqlite:///{file}")
    writer = sqlite3.connect(file, isolation_level=None)
    try:
        writer.execute("BEGIN IMMEDIATE")
        said = says(agent, "`ratectl agents` does not show this agent, which cannot report", 20)
        assert "keeps it locked" in said
        assert agent.status.connected
        writer.execute("ROLLBACK")
    finally:
        writer.close()
    well(agent)
    wait_for(lambda: log.warnings == [said, f"no longer: {said}"], "the end is logged")


# -- the kill switch, exceptions, forks ------------------------------------------------------------


def test_a_deleted_record_of_the_kill_switch_is_reported_and_obeyed(
    store: Store, store_url: str, make_agent: Make, log: Log
) -> None:
    publish_policies(store, simple())
    agent = make_agent(store_url)
    switch = Switch.now("/shop", "open", "INC-1", "ada")
    change_switches(store, lambda known: known.turned_on(switch))
    wait_for(lambda: agent.status.panic, "it is obeyed")
    store.delete(PANIC)
    says(agent, "the kill switch's record is gone from the store; what was on stays on")
    assert agent.status.panic
    change_switches(store, lambda known: known.turned_on(switch).turned_off())
    well(agent)
    wait_for(lambda: not agent.status.panic, "it is off")
    log.once()


def test_a_forked_child_that_cannot_follow_says_so(
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
            "False this forked process follows nothing, and keeps what is in force: "
            "can't start new thread ok"
        )
    assert agent.status.error is None
