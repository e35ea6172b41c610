"""Agents in a rollout: which agents join, when they join, and how they go back."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from etcd_server import wait_for
from ratectl.fleet.membership import included
from ratectl.fleet.usage import read_agents
from ratectl.records import CONTROLLER
from ratectl.rollout import (
    Controlling,
    Terms,
    abort,
    advance,
    pause,
    presence,
    promote,
    read_rollout,
)
from ratectl.rollout._start import start
from ratectl.stores.base import Put
from support import ME, POISON, once, publish_policies, simple

if TYPE_CHECKING:
    from collections.abc import Callable

    import ratectl
    from ratectl.records import RolloutRecord
    from ratectl.rollout import Progress
    from ratectl.stores.base import Store

    Make = Callable[..., ratectl.Agent]

pytestmark = once

TERMS = Terms.of([100.0], bake_seconds=0, min_requests=0)
LONG = Terms.of([50.0, 100.0], bake_seconds=3600, min_requests=0)
IDS = [f"agent-{number}" for number in range(6)]


class Controlled:
    """A controller that runs beside the test."""

    def __init__(self, store: Store, *, seconds: float = 60) -> None:
        self.seen: list[Progress] = []
        self.final: RolloutRecord | None = None
        self.error: Exception | None = None
        self._news = threading.Condition()
        self._control = Controlling(store, read_rollout(store).record, tell=self._hear)
        self._thread = threading.Thread(target=self._run, args=(seconds,))
        self._thread.start()

    def _hear(self, progress: Progress) -> None:
        with self._news:
            self.seen.append(progress)
            self._news.notify_all()

    def _run(self, seconds: float) -> None:
        try:
            self.final = self._control.run(seconds)
        except Exception as error:  # noqa: BLE001
            self.error = error

    def until(self, probe: Callable[[Progress], object]) -> None:
        with self._news:
            assert self._news.wait_for(lambda: self.seen and probe(self.seen[-1]), 20), self.seen

    def join(self) -> RolloutRecord:
        self._thread.join(30)
        assert self.error is None
        assert self.final is not None
        return self.final


@pytest.fixture
def fleet(store: Store, store_url: str, make_agent: Make) -> list[ratectl.Agent]:
    publish_policies(store, simple("5/s"))
    agents = [make_agent(store_url, id=each) for each in IDS]
    wait_for(lambda: len(read_agents(store)) == len(IDS), "every agent reports")
    return agents


def running(agents: list[ratectl.Agent]) -> list[int]:
    return [agent.generation for agent in agents]


def hashed_in(store: Store, percent: float) -> list[int]:
    rollout = read_rollout(store).record.id
    return [2 if included(rollout, each, percent) else 1 for each in IDS]


def test_no_agent_joins_a_rollout_without_a_controller(store: Store, fleet: list[ratectl.Agent]):
    start(store, simple("9/s"), ME, TERMS)
    wait_for(
        lambda: {each.sequence for each in read_agents(store)} == {2}, "all have seen the candidate"
    )
    assert running(fleet) == [1] * 6
    assert Controlled(store).join().state == "promoted"
    wait_for(lambda: running(fleet) == [2] * 6, "all run it")


def test_joined_agents_stay_without_controller_and_no_agent_joins(
    store: Store, fleet: list[ratectl.Agent]
):
    start(store, simple("9/s"), ME, LONG)
    first = Controlled(store, seconds=2)
    assert first.join().state == "running"
    assert store.get(CONTROLLER) is None
    assert running(fleet) == hashed_in(store, 50)
    advance(store, read_rollout(store))
    wait_for(lambda: {each.sequence for each in read_agents(store)} == {3}, "all have seen that")
    assert running(fleet) == hashed_in(store, 50)
    second = Controlled(store)
    wait_for(lambda: running(fleet) == [2] * 6, "`rollout run` takes over")
    abort(store, read_rollout(store), "Ada", "enough")
    assert second.join().state == "aborted"
    wait_for(lambda: running(fleet) == [1] * 6, "all are back")


def test_agent_rejoins_its_rollout_after_a_restart(
    store: Store, store_url: str, fleet: list[ratectl.Agent], make_agent: Make
):
    start(store, simple("9/s"), ME, TERMS._replace(bake_seconds=3600))
    control = Controlled(store, seconds=2)
    control.join()
    wait_for(lambda: running(fleet) == [2] * 6, "all run it")
    fleet[0].close()
    again = make_agent(store_url, id=IDS[0])
    wait_for(lambda: again.status.source == "store", "it has seen the head")
    assert again.generation == 2
    newcomer = make_agent(store_url, id="newcomer")
    assert newcomer.generation == 1, "nobody controls it"


def test_a_promoted_candidate_is_not_loaded_again(store: Store, fleet: list[ratectl.Agent]):
    start(store, simple("9/s"), ME, TERMS._replace(bake_seconds=3600))
    Controlled(store, seconds=2).join()
    wait_for(lambda: running(fleet) == [2] * 6, "all run it")
    applied = [agent.status.applied for agent in fleet]
    promote(store, read_rollout(store), "Ada")
    wait_for(lambda: {each.rollout for each in read_agents(store)} == {None}, "all know")
    assert [agent.status.applied for agent in fleet] == applied
    wait_for(lambda: fleet[0]._following.slot.load().rollout is None, "on disk it is live as well")


def test_agent_that_rejects_a_candidate_enforces_the_live_generation(
    store: Store, store_url: str, fleet: list[ratectl.Agent], make_agent: Make
):
    start(store, POISON, ME, TERMS)
    final = Controlled(store).join()
    assert final.state == "aborted"
    assert "has no rate" in final.reason
    wait_for(
        lambda: {each.state for each in read_agents(store)} == {"serving"}, "no agent has a problem"
    )
    assert running(fleet) == [1] * 6


def test_a_paused_rollout_goes_no_further(store: Store, fleet: list[ratectl.Agent]):
    start(store, simple("9/s"), ME, Terms.of([50.0, 100.0], bake_seconds=1, min_requests=0))
    pause(store, read_rollout(store), "Ada", "looking")
    control = Controlled(store, seconds=3)
    control.until(lambda progress: progress.waiting == "paused: looking")
    final = control.join()
    assert (final.state, final.stage) == ("paused", 0)


def test_candidate_that_no_agent_can_run_is_not_promoted(store: Store):
    publish_policies(store, simple("5/s"))
    start(store, simple("9/s"), ME, TERMS)
    control = Controlled(store, seconds=2)
    assert control.join().state == "running"
    assert control.seen[-1].waiting == "waiting for any agent to try it"


def test_rollout_waits_for_an_agent_that_does_not_acknowledge(
    store: Store, fleet: list[ratectl.Agent]
):
    stuck = read_agents(store)[0]
    store.put("agents/stuck", stuck.encode().replace(b'"id":"agent-0"', b'"id":"stuck"'))
    start(store, simple("9/s"), ME, TERMS)
    control = Controlled(store, seconds=2)
    assert control.join().state == "running"
    assert control.seen[-1].waiting == "waiting for stuck to run it"


def test_stage_does_not_end_with_too_few_requests(store: Store, fleet: list[ratectl.Agent]):
    start(store, simple("9/s"), ME, Terms.of([100.0], bake_seconds=0, min_requests=50, band=None))
    control = Controlled(store)
    control.until(lambda progress: progress.waiting == "waiting for enough requests")
    for number in range(60):
        fleet[number % 6].check("/", {"tenant": str(number)})
    assert control.join().state == "promoted"


def test_of_two_controllers_the_second_waits_for_the_first_and_gives_up(
    store: Store, fleet: list[ratectl.Agent], monkeypatch: pytest.MonkeyPatch
):
    start(store, simple("9/s"), ME, LONG)
    first = Controlled(store, seconds=6)
    first.until(lambda progress: progress.verdict is not None)
    monkeypatch.setattr(presence, "LEASE_SECONDS", 2.0)
    second = Controlled(store)
    second._thread.join(20)
    assert "has controlled a rollout since" in str(second.error)
    assert first.join().state == "running"


def test_unreadable_controller_record_is_no_controller(store: Store, fleet: list[ratectl.Agent]):
    store.txn((), [Put(CONTROLLER, b"\xff")])
    start(store, simple("9/s"), ME, TERMS)
    wait_for(lambda: {each.sequence for each in read_agents(store)} == {2}, "all have seen it")
    assert running(fleet) == [1] * 6
    assert {agent.status.state for agent in fleet} == {"serving"}
