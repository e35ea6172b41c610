"""Agents and processes: forks, workers, and failed starts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

import ratectl
from etcd_server import wait_for
from ratectl.agent import processes
from ratectl.engine import engine_type
from ratectl.fleet.usage import read_agents
from ratectl.policy import read
from support import CRASHING, publish_policies, simple

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from ratectl.stores.base import Store

    Make = Callable[..., ratectl.Agent]

ACME = {"tenant": "acme"}

# Each test runs in its own process: a fork of the test runner would copy its threads' locks.
HEAD = """
import json, multiprocessing, os, signal, sys, threading, time, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # 3.12 on: threads exist while forking
import ratectl
"""


def run(script: str, *words: str, **settings: Any) -> Any:
    command = [sys.executable, "-c", HEAD + script, *words]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, **settings
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


WORKERS = """
url, state = sys.argv[1:]
from ratectl.publishing.provenance import Provenance
from ratectl.publishing._publish import publish
from ratectl.stores import open_store
from ratectl.fleet.usage import read_agents
from support import simple

agent = ratectl.Agent(url, state_dir=state, report_interval=0.1, ready_timeout=10)

def work(wanted):
    with open_store(url) as store:
        while agent.id not in {each.id for each in read_agents(store)}:
            time.sleep(0.01)
    agent.wait_for_generation(wanted, 20)

seen = []
for wanted in (1, 1, 1, 2):
    if wanted == 2:
        agent._following.sync.stop()  # so that the worker is the one to adopt it
        with open_store(url) as store:
            publish(store, simple("6/s"), Provenance("ada"))
    worker = multiprocessing.get_context("fork").Process(target=work, args=[wanted])
    worker.start()
    worker.join()
    with open_store(url) as store:
        seen.append([worker.exitcode, len(read_agents(store))])
print(json.dumps(seen))
agent.close()
"""


SANITIZER = ("LD_PRELOAD", "ASAN_OPTIONS", "PYTHONMALLOC")


def test_normal_end_of_a_worker_is_no_evidence_against_its_generation(
    store: Store, store_url: str, tmp_path: Path
):
    publish_policies(store, simple("5/s"))
    state = tmp_path / "state"
    sanitizer = {name: os.environ[name] for name in SANITIZER if name in os.environ}
    env = {"PYTHONPATH": ":".join(sys.path), "PATH": "", **sanitizer}
    seen = run(WORKERS, store_url, str(state), env=env)
    assert seen == [[0, 1]] * 4, "each worker signs off"
    assert not list(state.rglob("trying"))


ENDING = """
url, state, how = sys.argv[1:]
agent = ratectl.Agent(url, state_dir=state, ready_timeout=10)
seen = []
for _ in range(5):
    read, write = os.pipe()
    child = os.fork()
    if not child:
        decision = agent.check("/", {"tenant": "acme"})
        os.write(write, json.dumps([decision.generation, agent.status.problems]).encode())
        if how == "fault":
            import ctypes
            ctypes.string_at(0)
        os._exit(0)
    os.waitpid(child, 0)
    seen.append(json.loads(os.read(read, 65536)))
agent.close()
again = ratectl.Agent(url, state_dir=state, ready_timeout=10)
seen.append([again.generation, again.status.problems])
print(json.dumps(seen))
again.close()
"""


@pytest.mark.parametrize("how", ["exit", "fault"])
def test_early_end_of_children_is_no_evidence_against_the_parents_generation(
    store: Store, store_url: str, tmp_path: Path, how: str
):
    """Crashes of children count for other children of the same slot only."""
    publish_policies(store, simple("5/s"))
    seen = run(ENDING, store_url, str(tmp_path / "state"), how, env=CRASHING)
    assert [generation for generation, _ in seen] == [1] * 6
    assert [bool(problems) for _, problems in seen] == [
        how == "fault" and crashes >= 2 and engine_type().name != "pure" for crashes in range(5)
    ] + [False]


DIRECTORY = """
from pathlib import Path
Path("policies").mkdir()
Path("policies/a.yaml").write_text(
    "{apiVersion: ratectl/v1, scope: /, limits: {x: {rate: 1/day, burst: 2}}}"
)
"""

NO_THREADS = """
agents = [ratectl.Agent("policies", state_dir="state") for _ in range(2)]
parent, start = os.getpid(), threading.Thread.start
def refuse(self):
    if os.getpid() != parent:
        raise RuntimeError("can't start new thread")
    start(self)
threading.Thread.start = refuse
child = os.fork()
if not child:
    signal.alarm(20)
    os._exit(sum(agent.check("/").allowed for agent in agents))
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_agents_decide_in_a_child_that_cannot_start_threads(tmp_path: Path):
    assert run(DIRECTORY + NO_THREADS, cwd=tmp_path) == 2


CLOSED = """
agent = ratectl.Agent("policies", state_dir="state")
agent.close()
lock, held, forking = agent._engine._lock, threading.Event(), threading.Event()
def decide():
    with lock:
        held.set()
        forking.wait(0.2)  # in the middle of a decision
threading.Thread(target=decide).start()
held.wait()
child = os.fork()
if not child:
    signal.alarm(20)
    os._exit(agent.check("/").allowed)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_closed_agent_decides_in_a_forked_child(tmp_path: Path):
    env = {**os.environ, "RATECTL_ENGINE": "pure"}
    assert run(DIRECTORY + CLOSED, cwd=tmp_path, env=env) == 1


INTERRUPTED = """
import gc
from pathlib import Path
agent = ratectl.Agent("policies", state_dir="state")
reloading, reloaded, printed = threading.Event(), [], []
def reload():
    with agent._engine._swapping:
        reloading.set()
        time.sleep(0.3)
        reloaded.append(True)
class Late(BaseException):
    pass
def interrupt(_, frame):
    if frame.f_globals["__name__"].startswith("ratectl."):
        raise Late
signal.signal(signal.SIGALRM, interrupt)
sys.unraisablehook = lambda caught: printed.append(caught.exc_type.__name__)
threading.Thread(target=reload).start()
reloading.wait()
signal.setitimer(signal.ITIMER_REAL, 0.05, float(sys.argv[1]))
child = os.fork()
signal.setitimer(signal.ITIMER_REAL, 0)
stood_still = bool(reloaded)
file = Path("policies/a.yaml")
if child:
    file.write_text(file.read_text().replace("burst: 2", "burst: 3"))
followed = agent.wait_for_generation(2, 10)
if not child:
    os._exit(bool(agent.check("/")) + 2 * followed + 4 * gc.isenabled() + 8 * stood_still)
ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
print(json.dumps([followed, gc.isenabled(), ended, set(printed) <= {"Late"}, len(printed) > 0]))
"""


@pytest.mark.parametrize("again", ["0", "0.01"], ids=["once", "again and again"])
@pytest.mark.parametrize("engine", ["pure", "c"])
def test_exception_while_a_fork_waits_breaks_neither_parent_nor_child(
    tmp_path: Path, engine: str, again: str
):
    env = {**os.environ, "RATECTL_ENGINE": engine}
    seen = run(DIRECTORY + INTERRUPTED, again, cwd=tmp_path, env=env)
    assert seen == [True, True, 15, True, True]


class Recorded:
    """An agent that records the calls of its engine."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self._engine: Any = self

    def standstill(self) -> Generator[None]:
        self.seen.append("held")
        try:
            yield
        finally:
            self.seen.append("released")

    def close(self) -> None:
        pass


def test_second_forking_thread_waits_for_the_first():
    agent = Recorded()
    processes.register(agent)  # type: ignore[arg-type]
    entering = threading.Event()

    def fork() -> None:
        entering.set()
        processes._before_fork()
        processes._after_fork_in_parent()

    processes._before_fork()
    other = threading.Thread(target=fork)
    other.start()
    entering.wait()
    other.join(0.1)
    processes._after_fork_in_parent()
    other.join()
    assert agent.seen == ["held", "released"] * 2


def ours() -> list[str]:
    return [each.name for each in threading.enumerate() if each.name.startswith("ratectl-")]


def test_interrupted_wait_for_policies_leaves_no_agent(
    store: Store, store_url: str, make_agent: Make, monkeypatch: pytest.MonkeyPatch
):
    def interrupted(self: ratectl.Agent, timeout: float) -> bool:
        wait_for(lambda: read_agents(store), "it reports")
        raise KeyboardInterrupt

    monkeypatch.setattr(ratectl.Agent, "wait_ready", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make_agent(store_url)
    assert ours() == []
    assert read_agents(store) == []


@pytest.mark.parametrize("source", ["store", "directory"])
def test_failed_thread_start_leaves_no_threads(
    store_url: str,
    make_agent: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    source: str,
):
    (tmp_path / "a.yaml").write_text("{apiVersion: ratectl/v1, scope: /}")
    place = store_url if source == "store" else str(tmp_path / "a.yaml")
    start = threading.Thread.start
    with monkeypatch.context() as patch:

        def refuse(self: threading.Thread) -> None:
            if self.name == "ratectl-exceptions":
                raise RuntimeError("can't start new thread")
            start(self)

        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="new thread"):
            make_agent(place, id="web")
    assert ours() == []
    if source == "store":
        assert make_agent(store_url, id="web", ready_timeout=0).id == "web", "the id is free"


def test_temporarily_unreadable_directory_is_read_again(
    make_agent: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    file = tmp_path / "policies.yaml"
    said = "{{apiVersion: ratectl/v1, scope: /, limits: {{x: {{rate: {}/s}}}}}}"
    file.write_text(said.format(10))
    agent = make_agent(str(file))
    load, failing = read.load_valid, [OSError(24, "Too many open files")]

    def load_again(paths: list[Path]) -> object:
        if failing:
            raise failing.pop()
        return load(paths)

    monkeypatch.setattr(read, "load_valid", load_again)
    file.write_text(said.format(11))
    assert agent.wait_for_generation(2, 10)
    wait_for(lambda: agent.status.error is None, "no problem is left")
    assert not failing
