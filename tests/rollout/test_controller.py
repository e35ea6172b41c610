"""The controller of a rollout, with a simulated clock and simulated reports of agents."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from flaky import Flaky
from fleet.reports import agent, beat
from ratectl.errors import Conflict, StoreUnavailable
from ratectl.records import AGENTS, BEATS, CONTROLLER, Controller, rollout_key
from ratectl.rollout import Controlling, Judge, Progress, Terms, abort, pause, read_rollout, resume
from ratectl.rollout._start import start
from ratectl.stores.base import Put
from support import ME, publish_policies, simple

if TYPE_CHECKING:
    from collections.abc import Callable

    from ratectl.records import RolloutRecord
    from ratectl.rollout import Verdict
    from ratectl.stores.base import Store

AUTHOR = "Ada"


class World:
    """One agent that takes part and one that does not, with a clock that ``sleep`` moves."""

    def __init__(self, store: Store, **terms: Any) -> None:
        publish_policies(store, simple("5/s"))
        said = {"bake_seconds": 60, "min_requests": 100, **terms}
        assert start(store, simple("9/s"), ME, Terms.of([0.01, 100.0], **said)) is not None
        self.store = store
        self.now = 0.0
        self.requests = 0
        self.rate = 10
        self.rates = {"new": 1.0, "old": 1.0}
        """Agents that report, with the share of requests that each decides."""
        self.down = False
        self.reports = True
        self.seen: list[Progress] = []
        self.at: dict[float, Callable[[], object]] = {}
        self.rollout = read_rollout(store).record

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        for when in [when for when in self.at if when <= self.now]:
            self.at.pop(when)()
        if self.reports and not self.down and not self.now % 1:
            self.report()

    def report(self) -> None:
        self.requests += self.rate
        id_, base = self.rollout.id, self.rollout.base
        for name, share in self.rates.items():
            joined = name == "new"
            generation = self.rollout.generation if joined else base
            record = agent(name, generation=generation, rollout=id_ if joined else None)
            counted = beat(name, self.now, int(self.requests * share), generation=generation)
            self.store.txn(
                (), [Put(AGENTS + name, record.encode()), Put(BEATS + name, counted.encode())]
            )

    def __getattr__(self, name: str) -> object:
        """Return an attribute of the store, while it answers."""
        if self.down:
            raise StoreUnavailable("etcd.example:2379", "connection refused")
        return getattr(self.store, name)

    def run(self, seconds: float | None = None, store: object = None) -> RolloutRecord:
        """Control the rollout, through ``store`` instead of the world's store if given."""
        self.report()
        self.control = Controlling(
            store or self,  # type: ignore[arg-type]
            self.rollout,
            tell=self.seen.append,
            clock=lambda: self.now,
            sleep=self.sleep,
        )
        return self.control.run(seconds)


@pytest.fixture
def world(store: Store, monkeypatch: pytest.MonkeyPatch) -> World:
    # The world decides which agents take part, not a hash.
    monkeypatch.setattr("ratectl.rollout.judge.included", lambda _, name, percent: name == "new")
    return World(store)


def test_each_stage_lasts_its_bake_time(world: World):
    assert world.run(600).state == "promoted"
    assert 120 <= world.now <= 125


def test_a_stage_waits_for_enough_requests(world: World):
    world.rate = 1
    assert world.run(600).state == "promoted"
    assert 200 <= world.now <= 205


def test_comparison_needs_enough_requests_of_other_agents(world: World):
    world.rates["old"] = 0.1
    assert world.run(90).stage == 0
    assert world.seen[-1].waiting == "waiting for enough requests on both sides to compare"
    assert world.run(1200).state == "promoted"
    assert world.now > 200


def test_last_stage_needs_a_comparison(world: World):
    del world.rates["old"]
    final = world.run(600)
    assert (final.state, final.stage) == ("running", 0)
    assert world.seen[-1].waiting == "waiting for other agents to compare with"


def test_empty_stage_does_not_lead_to_the_last_stage(world: World):
    del world.rates["new"]
    assert world.run(600).stage == 0
    assert world.seen[-1].waiting == "waiting for any agent to try it"


def test_comparison_of_an_earlier_controller_is_enough(world: World):
    assert world.run(90).stage == 1
    store = world.store
    store.delete(AGENTS + "old")
    store.delete(BEATS + "old")
    del world.rates["old"]
    assert world.run(600).state == "promoted"


@pytest.mark.parametrize("terms", [{"band": None}, {"min_requests": 0}])
def test_rollout_without_comparison_waits_for_no_other_agents(
    store: Store, monkeypatch: pytest.MonkeyPatch, terms: dict[str, Any]
):
    monkeypatch.setattr("ratectl.rollout.judge.included", lambda _, name, percent: name == "new")
    world = World(store, **terms)
    del world.rates["old"]
    assert world.run(600).state == "promoted"


def test_controller_out_of_time_leaves_the_rollout(world: World):
    assert world.run(90).state == "running"
    assert read_rollout(world.store).record.stage == 1
    assert world.store.get(CONTROLLER) is None


def test_silent_agent_aborts_the_rollout_within_ten_seconds(world: World):
    world.at[30] = lambda: setattr(world, "reports", False)
    final = world.run(600)
    assert (final.state, final.by) == ("aborted", "the controller")
    assert "new took the candidate, and has not reported" in final.reason
    assert world.now <= 40


def test_controller_waits_for_an_unreachable_store(world: World):
    world.at[30] = lambda: setattr(world, "down", True)
    world.at[70] = lambda: setattr(world, "down", False)
    final = world.run(600)
    assert final.state == "promoted"
    assert any("is not reachable" in each.waiting for each in world.seen)


def test_lost_store_leaves_the_rollout_unchanged(world: World):
    world.at[30] = lambda: setattr(world, "down", True)
    assert world.run(90).state == "running"


def test_controller_ends_when_another_process_ends_the_rollout(world: World):
    world.at[30] = lambda: abort(world.store, read_rollout(world.store), AUTHOR, "enough")
    final = world.run(600)
    assert (final.state, final.by, final.reason) == ("aborted", AUTHOR, "enough")
    assert world.now < 32


def test_stage_starts_again_after_a_pause(world: World):
    world.at[50] = lambda: pause(world.store, read_rollout(world.store), AUTHOR, "lunch")
    world.at[80] = lambda: resume(world.store, read_rollout(world.store), AUTHOR)
    assert world.run(600).state == "promoted"
    assert 198 <= world.now <= 205
    assert any(each.waiting == "paused: lunch" for each in world.seen)


def test_deposed_controller_names_the_new_one(world: World):
    def depose() -> None:
        assert world.control._presence._lease is not None
        world.control._presence._lease.revoke()
        other = Controller(rollout="r", host="elsewhere", pid=7, since="noon")
        world.store.put(CONTROLLER, other.encode())

    world.at[30] = depose
    with pytest.raises(
        Conflict, match="process 7 on elsewhere has controlled a rollout since noon"
    ):
        world.run(600)
    assert world.now < 45
    assert world.store.get(CONTROLLER) is not None, (
        "the deposed controller does not end the rollout"
    )


def test_agents_are_judged_during_a_pause_too(world: World):
    world.at[10] = lambda: pause(world.store, read_rollout(world.store), AUTHOR, "lunch")
    world.at[30] = lambda: setattr(world, "reports", False)
    final = world.run(600)
    assert final.state == "aborted"
    assert world.now <= 40


def test_stage_begins_when_all_its_agents_have_joined(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    late = {"new", "slow"}
    monkeypatch.setattr("ratectl.rollout.judge.included", lambda _, name, percent: name in late)
    slow = agent("slow", generation=1)
    world.store.put(AGENTS + "slow", slow.encode())
    world.at[40] = lambda: late.discard("slow")
    assert world.run(600).state == "promoted"
    assert 159 <= world.now <= 165


def test_controller_waits_for_an_unreachable_store_at_start(world: World):
    world.report()
    world.down = True
    world.at[5] = lambda: setattr(world, "down", False)
    assert world.run(600).state == "promoted"


def test_deleted_controller_key_is_written_again(world: World):
    world.at[30] = lambda: world.store.delete(CONTROLLER)
    there: list[bool] = []
    world.at[40] = lambda: there.append(world.store.get(CONTROLLER) is not None)
    assert world.run(600).state == "promoted"
    assert there == [True]


def test_controller_key_outlives_its_first_lease(world: World):
    there: list[bool] = []
    world.at[50] = lambda: there.append(world.store.get(CONTROLLER) is not None)
    world.run(60)
    assert there == [True]


@pytest.mark.parametrize("record", [b"{}", b"\xff", b'{"format":2}', b'{"format":1,"id":"x"}'])
def test_unreadable_agent_records_are_ignored(world: World, record: bytes):
    world.store.txn((), [Put(AGENTS + "strange", record), Put(BEATS + "strange", record)])
    assert world.run(600).state == "promoted"


def test_changed_terms_end_the_controller(world: World):
    def change() -> None:
        record = replace(read_rollout(world.store).record, stages=[0.01])
        world.store.put(rollout_key(record.generation), record.encode())

    world.at[30] = change
    with pytest.raises(Conflict, match="terms of the rollout"):
        world.run(600)


def test_lost_reply_does_not_stop_the_controller(world: World):
    flaky = Flaky(world.store, applied=True)
    assert world.run(600, flaky).state == "promoted"
    assert flaky.lost == 1


def test_suspended_controller_looks_again_before_it_advances(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    """Between its look and its step a minute passes, and an agent dies."""
    look = Judge.look

    def suspended(*args: Any) -> Verdict:
        verdict = look(*args)
        if world.now >= 60 and world.reports:
            world.reports = False
            world.now += 60
        return verdict

    monkeypatch.setattr(Judge, "look", suspended)
    final = world.run(600)
    assert (final.state, final.stage) == ("aborted", 0)


def test_controller_key_with_a_lost_reply_is_its_own(world: World):
    """The key has no renewed lease: it is written again, and not taken for another controller's."""
    flaky = Flaky(world.store, applied=True, key=CONTROLLER)
    assert world.run(600, flaky).state == "promoted"
    assert flaky.lost == 1
    assert world.now < 130
