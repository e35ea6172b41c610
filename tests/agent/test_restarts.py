"""Agents that keep their counters, with real stores and state directories."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from agent.reset_support import an_order, exhaust, obeyed
from etcd_server import wait_for
from ratectl.errors import UsageError
from ratectl.resets.ordering import order_reset
from ratectl.stores import open_store
from support import CRASHING, once, publish_policies, simple

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import ratectl
    from agent.problems import Log

    Make = Callable[..., ratectl.Agent]

ACME = {"tenant": "acme"}


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A SQLite store with a limit of five."""
    url = f"sqlite:///{tmp_path}/rates.db"
    with open_store(url) as store:
        publish_policies(store, simple("1/day", burst=5))
    return url


def counters(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "state").rglob("counters"))


def used_up(make: Make, url: str, **options: Any) -> None:
    """Run an agent until its limit is used up."""
    agent = make(url, keep_counters=True, **options)
    assert agent.wait_ready(5)
    assert exhaust(agent) == 5
    agent.close()


def left(make: Make, url: str, **options: Any) -> int:
    """Return what the next process has left."""
    agent = make(url, keep_counters=True, **options)
    assert agent.wait_ready(5)
    return exhaust(agent)


def test_next_process_goes_on(both_engines: str, make_agent: Make, url: str) -> None:
    used_up(make_agent, url)
    assert left(make_agent, url) == 0


def test_nothing_is_kept_by_default(make_agent: Make, url: str, tmp_path: Path) -> None:
    used_up(make_agent, url)
    agent = make_agent(url)
    assert exhaust(agent) == 5
    agent.close()
    assert len(counters(tmp_path)) == 1


def test_agents_do_not_read_counters_of_others(make_agent: Make, url: str, tmp_path: Path) -> None:
    used_up(make_agent, url, id="a")
    assert left(make_agent, url, id="b") == 5
    assert left(make_agent, url, id="a") == 0
    # The processes of a service without ids take the first free place, and so its counters.
    used_up(make_agent, url)
    first = make_agent(url, keep_counters=True)
    assert exhaust(first) == 0
    assert left(make_agent, url) == 5


def test_other_engine_refuses_the_counters(
    make_agent: Make, url: str, monkeypatch: pytest.MonkeyPatch, both_engines: str
) -> None:
    used_up(make_agent, url)
    monkeypatch.setenv("RATECTL_ENGINE", "pure" if both_engines == "c" else "c")
    agent = make_agent(url, keep_counters=True)
    assert f"its keys are those of the {both_engines} engine" in agent.status.problems["counters"]
    assert exhaust(agent) == 5


def test_shared_secret_is_the_one_of_the_keys(make_agent: Make, url: str, tmp_path: Path) -> None:
    used_up(make_agent, url, stable_keys=b"k" * 16)
    assert not (tmp_path / "state" / "counters.secret").exists()
    agent = make_agent(url, keep_counters=True, stable_keys=b"x" * 16)
    assert "another secret" in agent.status.problems["counters"]
    agent.close()
    used_up(make_agent, url, stable_keys=b"k" * 16)
    assert left(make_agent, url, stable_keys=b"k" * 16) == 0


def test_secret_is_for_its_owner_alone(make_agent: Make, url: str, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        used_up(make_agent, url)
    finally:
        os.umask(before)
    secret = tmp_path / "state" / "counters.secret"
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert [path.name for path in secret.parent.iterdir()] == ["agents", secret.name]


@pytest.mark.parametrize("damage", ["readable", "short", "link", "folder"])
def test_unusable_secret_is_told(
    make_agent: Make, url: str, tmp_path: Path, damage: str, log: Log
) -> None:
    used_up(make_agent, url)
    secret = tmp_path / "state" / "counters.secret"
    if damage == "readable":
        secret.chmod(0o640)
    elif damage == "short":
        secret.write_bytes(b"short")
    else:
        moved = secret.rename(tmp_path / "elsewhere")
        if damage == "link":
            secret.symlink_to(moved)
        else:
            secret.mkdir()
    before = counters(tmp_path)[0].read_bytes()
    agent = make_agent(url, keep_counters=True)
    assert agent.status.problems["counters"].startswith(f"counters are not kept: {secret}: ")
    assert exhaust(agent) == 5
    agent.close()
    assert counters(tmp_path)[0].read_bytes() == before


def test_state_directory_that_cannot_be_written_is_told(
    make_agent: Make, url: str, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    agent = make_agent(url, keep_counters=True, state_dir=tmp_path / "file" / "state")
    assert "cannot keep state" in agent.status.problems["disk"]
    assert agent.wait_ready(5)
    assert exhaust(agent) == 5


def test_counters_without_last_good_are_told(make_agent: Make, url: str, tmp_path: Path) -> None:
    used_up(make_agent, url)
    for path in (tmp_path / "state").rglob("last-good*"):
        path.unlink()
    agent = make_agent(url, keep_counters=True)
    assert "no generation on disk goes with them" in agent.status.problems["counters"]
    assert agent.wait_ready(5)
    assert exhaust(agent) == 5


def test_generation_before_last_good_is_found(make_agent: Make, url: str, tmp_path: Path) -> None:
    """A process adopts a generation, and is killed before it saves its counters again."""
    used_up(make_agent, url)
    saved = counters(tmp_path)[0].read_bytes()
    with open_store(url) as store:
        publish_policies(store, simple("1/day", burst=9))
    agent = make_agent(url, keep_counters=True)
    assert agent.wait_for_generation(2, 5)
    wait_for(lambda: list((tmp_path / "state").rglob("last-good.before")), "both generations")
    agent.close()
    counters(tmp_path)[0].write_bytes(saved)
    agent = make_agent(url, keep_counters=True)
    assert (agent.generation, exhaust(agent)) == (2, 0)
    assert "counters" not in agent.status.problems


def test_reset_that_is_ordered_while_no_process_runs_is_obeyed(make_agent: Make, url: str) -> None:
    used_up(make_agent, url)
    with open_store(url) as store:
        reset = order_reset(store, an_order()).reset
    agent = make_agent(url, keep_counters=True)
    obeyed(agent, reset)
    assert exhaust(agent) == 5


@pytest.mark.parametrize("source", ["memory://kept", "folder"])
def test_source_without_a_next_process_is_refused(
    make_agent: Make, source: str, tmp_path: Path
) -> None:
    (tmp_path / "folder").mkdir()
    where = source if "://" in source else str(tmp_path / source)
    with pytest.raises(UsageError, match="keep_counters needs a store that other processes can"):
        make_agent(where, keep_counters=True)


FORKING = """
import os, sys
import ratectl
url, state = sys.argv[1:]
agent = ratectl.Agent(url, state_dir=state, keep_counters=True, ready_timeout=10)
while agent.check("/", {"tenant": "acme"}): pass
child = os.fork()
if not child:
    agent.check("/", {"tenant": "zeta"}, 5)
    agent.close()
    os._exit(0)
os.waitpid(child, 0)
agent.close()
"""


@once
def test_forked_child_saves_and_restores_nothing(
    make_agent: Make, url: str, tmp_path: Path
) -> None:
    words = [sys.executable, "-c", FORKING, url, str(tmp_path / "state")]
    subprocess.run(words, check=True, timeout=60)
    assert len(counters(tmp_path)) == 1
    agent = make_agent(url, keep_counters=True)
    assert exhaust(agent) == 0
    assert exhaust(agent, {"tenant": "zeta"}) == 5


def saved(tmp_path: Path) -> bytes:
    return b"".join(path.read_bytes() for path in counters(tmp_path))


SAVING = """
import os, sys, json
import ratectl, ratectl.agent.kept_counters as kept_counters
kept_counters._SECONDS = 0.05
url, state = sys.argv[1:]
agent = ratectl.Agent(url, state_dir=state, keep_counters=True, ready_timeout=10)
print(json.dumps([bool(agent.check("/", {"tenant": "acme"})) for _ in range(6)]), flush=True)
sys.stdin.read()
"""


@once
@pytest.mark.parametrize("ends_by", [signal.SIGKILL, signal.SIGTERM])
def test_process_that_is_killed_has_saved(url: str, tmp_path: Path, ends_by: int) -> None:
    """After the default action of SIGTERM, too, nothing runs at the end."""
    words = [sys.executable, "-c", SAVING, url, str(tmp_path / "state")]
    seen = []
    for _ in range(2):
        with subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=CRASHING
        ) as process:
            assert process.stdout is not None
            seen.append(json.loads(process.stdout.readline()))
            wait_for(lambda: b'"tenant"' in saved(tmp_path), "a save", 20)
            process.send_signal(ends_by)
    assert seen == [[True] * 5 + [False], [False] * 6]
