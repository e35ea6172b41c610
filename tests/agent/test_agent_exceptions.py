"""Exceptions start and end in a running agent, by the wall clock."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import pytest

from etcd_server import wait_for
from policy.conditions import FROM, NOON, UNTIL, excepted, exception, ns
from ratectl.agent import following
from ratectl.agent.enforcement import Enforcement
from ratectl.agent.state import AgentState
from ratectl.agent.wall_clock import WallClock
from ratectl.engine.pure import PureEngine
from ratectl.errors import BundleError
from support import publish_policies

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import ratectl
    from ratectl.policy.language.model import PolicyTree
    from ratectl.stores.base import Store

    Make = Callable[..., ratectl.Agent]

BASE = {"/": {"limits": {"x": {"rate": "10/h", "burst": 10}}}}
TREE = excepted(BASE, exception(limits={"x": {"burst": 3}}))
DIRECTORY = f"""\
apiVersion: ratectl/v1
scope: /
limits:
  x: {{rate: 10/h, burst: 10}}
---
apiVersion: ratectl/v1
kind: Exception
scope: /
reason: a test
from: {FROM}
until: {UNTIL}
limits: {{x: {{burst: 3}}}}
"""


class Wall:
    """A wall clock that the test sets; setting it wakes the waiting threads."""

    def __init__(self) -> None:
        self.ns = ns(FROM) - 1
        self.agent: ratectl.Agent | None = None

    def __call__(self) -> int:
        return self.ns

    def put(self, at: int) -> None:
        self.ns = at
        if self.agent is not None:
            changed = self.agent._following.enforcement._changed
            with changed:
                changed.notify_all()

    def follow(self, agent: ratectl.Agent) -> ratectl.Agent:
        self.agent = agent
        return agent


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch) -> Wall:
    """The wall clock of the agents that a test makes."""
    wall = Wall()
    monkeypatch.setattr(following, "Enforcement", functools.partial(Enforcement, now_ns=wall))
    return wall


def capacity(agent: ratectl.Agent) -> int | None:
    return agent.check("/", cost=0).capacity


def becomes(agent: ratectl.Agent, burst: int) -> None:
    wait_for(lambda: capacity(agent) == burst, f"a burst of {burst}")


def starts_and_ends(agent: ratectl.Agent, wall: Wall) -> None:
    assert capacity(agent) == 10
    wall.put(ns(FROM))
    becomes(agent, 3)
    wall.put(ns(UNTIL) - 1)
    agent._following.enforcement.keep_time()
    assert capacity(agent) == 3
    wall.put(ns(UNTIL))
    becomes(agent, 10)


def test_exception_starts_and_ends_with_a_store(
    store: Store, store_url: str, make_agent: Make, wall: Wall
) -> None:
    generation = publish_policies(store, TREE).generation
    agent = wall.follow(make_agent(store_url))
    starts_and_ends(agent, wall)
    assert agent.generation == generation
    assert agent.check("/").generation == generation


def test_exception_starts_and_ends_with_a_directory(
    tmp_path: Path, make_agent: Make, wall: Wall
) -> None:
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "p.yaml").write_text(DIRECTORY)
    agent = wall.follow(make_agent(str(tmp_path / "policies")))
    generation = agent.generation
    starts_and_ends(agent, wall)
    assert agent.generation == generation


def test_step_of_the_wall_clock_is_noticed_without_a_wake_up(
    tmp_path: Path, make_agent: Make, wall: Wall
) -> None:
    """The thread notices a step of the wall clock at its next check."""
    (tmp_path / "p.yaml").write_text(DIRECTORY)
    agent = make_agent(str(tmp_path))
    wall.put(ns(NOON))
    becomes(agent, 3)


def test_exception_starts_and_ends_without_the_store(
    tmp_path: Path, make_agent: Make, wall: Wall
) -> None:
    from ratectl.stores import open_store

    url = f"sqlite:///{tmp_path}/rates.db"
    with open_store(url) as store:
        publish_policies(store, TREE)
    agent = wall.follow(make_agent(url))
    assert agent.wait_ready(5)
    for file in tmp_path.glob("rates.db*"):
        file.rename(tmp_path / f"gone-{file.name}")
    starts_and_ends(agent, wall)
    assert agent.generation == 1


def test_exception_is_in_force_after_start_from_last_good(
    tmp_path: Path, make_agent: Make, wall: Wall
) -> None:
    from ratectl.stores import open_store

    url = f"sqlite:///{tmp_path}/rates.db"
    with open_store(url) as store:
        publish_policies(store, TREE)
    make_agent(url, id="edge").close()
    for file in tmp_path.glob("rates.db*"):
        file.unlink()
    (tmp_path / "rates.db").mkdir()  # no store can exist there
    wall.ns = ns(NOON)
    agent = wall.follow(make_agent(url, id="edge", ready_timeout=0))
    assert (agent.status.source, capacity(agent)) == ("last-good", 3)
    wall.put(ns(UNTIL))
    becomes(agent, 10)


def test_exception_follows_a_wall_clock_that_is_set_back(
    tmp_path: Path, make_agent: Make, wall: Wall
) -> None:
    (tmp_path / "p.yaml").write_text(DIRECTORY)
    wall.ns = ns(NOON)
    agent = wall.follow(make_agent(str(tmp_path)))
    assert capacity(agent) == 3
    wall.put(ns(FROM) - 1)
    becomes(agent, 10)
    wall.put(ns(NOON))
    becomes(agent, 3)
    wall.put(ns(UNTIL))
    becomes(agent, 10)
    wall.put(ns(NOON))
    becomes(agent, 3)


def test_start_and_end_of_an_exception_give_no_tokens(
    tmp_path: Path, make_agent: Make, wall: Wall
) -> None:
    (tmp_path / "p.yaml").write_text(DIRECTORY.replace("burst: 3", "burst: 30"))
    agent = wall.follow(make_agent(str(tmp_path)))
    for _ in range(10):
        assert agent.check("/")
    for at, burst in ((FROM, 30), (UNTIL, 10)):
        wall.put(ns(at))
        becomes(agent, burst)
        assert not agent.check("/")


def enforcement(tree: PolicyTree, wall: Callable[[], int], engine: PureEngine) -> Enforcement:
    made = Enforcement(engine, WallClock(), wall)
    made.enforce(tree, 7)
    return made


def test_plans_are_swapped_only_when_an_exception_starts_or_ends() -> None:
    swaps: list[int] = []

    class Counting(PureEngine):
        def swap(self, plans: Any, now: int | None = None) -> None:
            swaps.append(wall.ns)
            super().swap(plans, now)

    wall = Wall()
    made = enforcement(TREE, wall, Counting(lambda: 0))
    for at in (FROM, FROM, NOON, UNTIL, UNTIL, "2027-01-01T00:00Z"):
        wall.ns = ns(at)
        made.keep_time()
    assert swaps == [ns(FROM) - 1, ns(FROM), ns(UNTIL)]


def test_failing_exception_is_retried_with_pauses(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The instant of the change has passed, so waiting for it would not pause at all."""
    wall = Wall()
    made = enforcement(TREE, wall, PureEngine(lambda: 0))
    waits: list[float | None] = []

    class Waiting:
        """Replaces the condition: no wait takes time, and the third one ends the thread."""

        def __enter__(self) -> None:
            return None

        def __exit__(self, *_: object) -> None:
            return None

        def wait(self, seconds: float | None) -> None:
            waits.append(seconds)
            made._stopped = len(waits) == 4

    def refuse(*_: object) -> None:
        raise BundleError("no")

    monkeypatch.setattr("ratectl.agent.enforcement.activated", refuse)
    made._changed = Waiting()  # type: ignore[assignment]
    wall.ns = ns(FROM)
    made._state = state = AgentState()
    made.run()
    assert waits == [0.0, 1.0, 1.0, 1.0]
    said = "exceptions cannot start or end; keeping the limits in force: no"
    assert state.now.problems == {"exceptions": said}
    assert [each.getMessage() for each in caplog.records] == [said], "once"


def test_stop_before_the_wait_ends_the_thread() -> None:
    made = enforcement(TREE, Wall(), PureEngine(lambda: 0))
    made.stop()
    assert not made._wait(failed=False)
