"""An agent whose SQLite file is damaged, replaced or locked reports it."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agent.problems import RETRIES, Log, wait_for_problem, wait_until_well
from etcd_server import wait_for
from ratectl.errors import StoreUnauthenticated
from ratectl.stores import open_store
from support import once, publish_policies, simple

if TYPE_CHECKING:
    from collections.abc import Callable

    import ratectl

    Make = Callable[..., ratectl.Agent]

pytestmark = once

ACME = {"tenant": "acme"}
REFUSED = "the store refuses user or password"


def remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    remove_log(path)


def remove_log(path: Path) -> None:
    for end in ("-wal", "-shm"):
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


def a_link_to_a_directory(path: Path) -> None:
    """At once, unlike a directory: an agent that looks meanwhile finds one or the other."""
    path.with_name("directory").mkdir()
    path.with_name("link").symlink_to("directory")
    path.with_name("link").rename(path)
    remove_log(path)


def a_pipe(path: Path) -> None:
    os.mkfifo(path.with_name("pipe"))
    path.with_name("pipe").rename(path)
    remove_log(path)


def of_another_application(path: Path) -> None:
    beside = path.with_name("other.db")
    other = sqlite3.connect(beside)
    other.execute("CREATE TABLE shopping (item TEXT)")
    other.commit()
    other.close()
    remove_log(path)
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
    (folder_deleted, "does not exist: create it, or correct the URL"),
]

DURING = [
    (a_link_to_a_directory, "is not a file; name one in the store URL"),
    (a_pipe, "is not a file; name one in the store URL"),
    (of_another_application, "is a database of another program"),
    (deleted, "the file is gone; restore it"),
    (folder_deleted, "the file is gone; restore it"),
]


def in_another_process(damage: Callable[[Path], None], path: Path) -> None:
    """Damage a file in another process: opening it here would drop this process's SQLite locks."""
    code = f"from agent import test_silence_sqlite as t; t.{damage.__name__}(t.Path({str(path)!r}))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A SQLite file with generation 1."""
    path = tmp_path / "folder" / "rates.db"
    path.parent.mkdir()
    with open_store(f"sqlite:///{path}") as store:
        publish_policies(store, simple())
    return path


@pytest.mark.parametrize(("damage", "said"), BEFORE, ids=lambda each: getattr(each, "__name__", ""))
def test_file_that_is_not_a_store_is_reported_at_start(
    file: Path, make_agent: Make, log: Log, damage: Callable[[Path], None], said: str
) -> None:
    damage(file)
    agent = make_agent(f"sqlite:///{file}", ready_timeout=0.5)
    assert str(file) in wait_for_problem(agent, said)
    assert agent.check("/shop", ACME).reason == "error"
    time.sleep(RETRIES)
    assert len(log.warnings) == 1, log.warnings


@pytest.mark.parametrize(("damage", "said"), DURING, ids=lambda each: getattr(each, "__name__", ""))
def test_file_that_stops_being_a_store_is_reported(
    file: Path, make_agent: Make, log: Log, damage: Callable[[Path], None], said: str
) -> None:
    agent = make_agent(f"sqlite:///{file}")
    assert agent.generation == 1
    in_another_process(damage, file)
    problem = wait_for_problem(agent, said)
    assert str(file) in problem
    assert agent.status.connected is False
    time.sleep(RETRIES)
    # A call under way at that moment first reports that the files were replaced.
    log.check_no_repeats()
    assert log.warnings[-1] == problem
    assert len(log.warnings) <= 2
    assert agent.check("/shop", ACME).reason in ("ok", "limited"), "the policies in force stay"
    replace(agent, file)
    resolved = f"resolved: {problem}"
    wait_for(lambda: log.warnings[-2:] == [problem, resolved], "the end is logged")


def replace(agent: ratectl.Agent, file: Path) -> None:
    """Put a store with other policies at this path, and wait until the agent enforces them."""
    if file.is_dir() and not file.is_symlink():
        file.rmdir()
    remove(file)
    file.parent.mkdir(exist_ok=True)
    beside = file.with_name("beside.db")
    publish(f"sqlite:///{beside}")
    beside.rename(file)
    wait_for(lambda: agent.check("/shop", {"tenant": "new"}).capacity == 9, "it follows")
    wait_until_well(agent)


def test_emptied_file_is_reported_and_not_taken_for_a_new_store(
    file: Path, make_agent: Make, log: Log
) -> None:
    """The behaviour of SQLite at that moment varies; tests/stores tests each case."""
    agent = make_agent(f"sqlite:///{file}")
    in_another_process(emptied, file)
    wait_for(lambda: any(str(file) in each for each in log.warnings), "it is logged")
    time.sleep(RETRIES)
    log.check_no_repeats()
    assert agent.generation == 1
    assert "nothing is published" not in (agent.status.error or "")
    replace(agent, file)


@pytest.mark.parametrize("ends", [("-wal",), ("-shm",), ("-wal", "-shm"), ("-shm", "-wal")])
@pytest.mark.parametrize("pause", [0.0, 0.1])
def test_agent_follows_after_its_write_ahead_log_was_removed(
    file: Path, make_agent: Make, ends: tuple[str, ...], pause: float
) -> None:
    """Without the repair it would use a deleted file, and miss publications of others."""
    url = f"sqlite:///{file}"
    agent = make_agent(url)
    for end in ends:
        Path(f"{file}{end}").unlink()
        time.sleep(pause)  # the agent may open the file again before the next one goes
    for end in ends:
        wait_for(Path(f"{file}{end}").exists, "it has opened the file again")
    code = "import sys; from agent import test_silence_sqlite as t; t.publish(sys.argv[1])"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code, url], check=True, env=environment)
    wait_for(lambda: agent.check("/shop", {"tenant": "new"}).capacity == 9, "it follows")
    wait_until_well(agent)


def publish(url: str) -> None:
    with open_store(url) as store:
        publish_policies(store, simple("9/s"))


def test_read_only_store_is_reported(
    file: Path, make_agent: Make, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ratectl.agent.report._RENEW_SECONDS", 0.5)
    agent = make_agent(f"sqlite:///{file}")
    writer = sqlite3.connect(file, isolation_level=None)
    try:
        writer.execute("BEGIN IMMEDIATE")
        said = wait_for_problem(agent, "does not show this agent: it cannot report", 20)
        assert "keeps it locked" in said
        assert agent.status.connected
        writer.execute("ROLLBACK")
    finally:
        writer.close()
    wait_until_well(agent)
    wait_for(lambda: log.warnings == [said, f"resolved: {said}"], "the end is logged")


def test_a_watch_that_is_older_than_a_refusal_does_not_end_the_problem(
    tmp_path: Path, make_agent: Make, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The watch that the store admitted before may still bring a change."""
    url = f"sqlite:///{tmp_path}/rates.db"
    with open_store(url) as admin:
        publish_policies(admin, simple())
        agent = make_agent(url)
        sync = agent._following.sync
        wait_for(lambda: sync._watch is not None, "the agent watches")
        watch = sync._watch
        close = watch.close

        def change_and_close() -> None:
            patch.setattr(watch, "close", close)
            publish_policies(admin, simple("9/s"))
            time.sleep(RETRIES / 2)
            close()

        with monkeypatch.context() as patch:
            patch.setattr(sync.store, "list", refuse)
            patch.setattr(watch, "close", change_and_close)
            sync.look()
            time.sleep(RETRIES / 2)
            assert log.warnings == [REFUSED]
            assert agent.status.error == REFUSED
        assert agent.wait_for_generation(2, 10)
        wait_for(lambda: log.warnings == [REFUSED, f"resolved: {REFUSED}"], "the end is logged")
        wait_for(lambda: sync._watch is not watch, "another watch")
        watch = sync._watch
        publish_policies(admin, simple("8/s"))
        assert agent.wait_for_generation(3, 10)
        time.sleep(RETRIES / 2)
        assert sync._watch is watch, "the new watch stays open"


def refuse(*_: object) -> None:
    raise StoreUnauthenticated(REFUSED)
