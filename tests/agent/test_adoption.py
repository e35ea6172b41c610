"""Adoption of generations: stale reads, damaged heads, last-good and the previous one."""

from __future__ import annotations

import contextlib
import json
import os
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import pytest

from etcd_server import wait_for
from ratectl.agent import last_good
from ratectl.agent.last_good import LastGood, Slot, take_slot
from ratectl.agent.state import AgentState
from ratectl.fleet.membership import included
from ratectl.fleet.usage import read_agents
from ratectl.policy.bundle import digest
from ratectl.records import CONTROLLER, HEAD, Candidate, Controller, Head
from ratectl.rollout import Terms, _start, abort, promote, read_rollout
from ratectl.rollout._start import start
from ratectl.stores.base import Delete, Item
from support import ME, POISON, ROLLOUT, publish_policies, simple

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import ratectl
    from ratectl.agent.state import AgentStatus
    from ratectl.policy.language.model import PolicyTree
    from ratectl.stores.base import Store

    Make = Callable[..., ratectl.Agent]

ACME = {"tenant": "acme"}


def controlled_by(rollout: str) -> bytes:
    return Controller(rollout=rollout, host="here", pid=1, since="now", nonce="n").encode()


def test_stale_head_read_is_ignored(store: Store, store_url: str, make_agent: Make):
    publish_policies(store, simple("5/s"))
    stale = store.get(HEAD)
    agent = make_agent(store_url)
    publish_policies(store, simple("6/s"))
    assert agent.wait_for_generation(2, 5)
    agent._following.adoption.see(store, {HEAD: stale})
    assert (agent.generation, agent.status.rejected) == (2, None)


def test_head_of_a_restored_store_is_followed(store: Store, store_url: str, make_agent: Make):
    """Its revisions are lower: after a new list they count from there."""
    publish_policies(store, simple("5/s"))
    old = store.get(HEAD)
    assert old is not None
    agent = make_agent(store_url)
    publish_policies(store, simple("6/s"))
    assert agent.wait_for_generation(2, 5)
    agent._following.adoption.forget_store()
    agent._following.adoption.see(store, {HEAD: old})
    assert agent.generation == 1


@pytest.mark.parametrize(
    "head",
    [
        b'{"format":1,"sequence":1e999,"live":{"generation":2,"bundle":"b"}}',
        b"[" * 100_000,
        b'{"format":1,"sequence":2,"live":{"generation":2,"bundle":"b"},"candidate":{"percent":1}}',
        b"",
    ],
    ids=["infinite", "deep", "half a candidate", "empty"],
)
def test_unreadable_head_is_rejected_not_taken_for_an_outage(
    store: Store, store_url: str, make_agent: Make, head: bytes
):
    publish_policies(store, simple("5/s"))
    agent = make_agent(store_url)
    store.put(HEAD, head)
    wait_for(lambda: agent.status.state == "rejected", "it is rejected")
    assert agent.status.connected
    assert agent.generation == 1


def test_controller_of_another_rollout_does_not_count(
    store: Store, store_url: str, make_agent: Make
):
    publish_policies(store, simple("5/s"))
    agent = make_agent(store_url)
    store.put(CONTROLLER, controlled_by("another"))
    assert start(store, simple("6/s"), ME, Terms.of([100.0])) is not None
    wait_for(lambda: agent.status.sequence == 2, "it has seen the candidate")
    assert agent.generation == 1
    store.put(CONTROLLER, controlled_by(read_rollout(store).record.id))
    assert agent.wait_for_generation(2, 5)


def test_controller_change_costs_other_agents_no_reads(
    store: Store, store_url: str, make_agent: Make
):
    """Most of ten thousand agents: all would read the head, and report, at the same moment."""
    publish_policies(store, simple("5/s"))
    start(store, simple("6/s"), ME, Terms.of([1.0]))
    rollout = read_rollout(store).record.id
    out = next(each for each in map(str, range(100)) if not included(rollout, each, 1))
    agent = make_agent(store_url, id=out)
    assert agent.wait_for_generation(1, 5)
    wait_for(lambda: agent.status.sequence == 2, "it has seen the candidate")
    seen, revision = agent.status, store.get(HEAD).mod_revision  # type: ignore[union-attr]
    unreadable: Any = object()
    comes = Item(CONTROLLER, controlled_by(rollout), revision + 1)
    for item in (comes, None):
        agent._following.adoption.see(unreadable, {CONTROLLER: item})
        assert agent.status is seen


def test_rejection_is_dropped_when_the_rollout_has_no_controller(
    store: Store, store_url: str, make_agent: Make
):
    publish_policies(store, simple("5/s"))
    agent = make_agent(store_url)
    assert start(store, POISON, ME, Terms.of([100.0])) is not None
    store.put(CONTROLLER, controlled_by(read_rollout(store).record.id))
    wait_for(lambda: agent.status.rejected == 2, "it is rejected")
    store.txn((), [Delete(CONTROLLER)])
    wait_for(lambda: agent.status.state == "serving", "it would not try it now")
    assert agent.status.error is None


@pytest.mark.parametrize(
    ("tree", "rejected"),
    [(simple("6/s"), None), (POISON, 2)],
    ids=["of others", "that it rejects"],
)
def test_candidate_changes_the_status_once(
    store: Store,
    store_url: str,
    make_agent: Make,
    monkeypatch: pytest.MonkeyPatch,
    tree: PolicyTree,
    rejected: int | None,
):
    """The status must not change between reading the head and rejecting the candidate."""
    publish_policies(store, simple("5/s"))
    store.put(CONTROLLER, controlled_by(ROLLOUT))
    assert not included(ROLLOUT, "me", 0.01)
    agent = make_agent(store_url, id="me")
    assert agent.wait_for_generation(1, 5)
    wait_for(lambda: agent.status.sequence == 1 and agent.status.applied, "it is settled")
    told: list[tuple[int, int | None]] = []
    set_status = AgentState._set

    def spying(self: AgentState, status: AgentStatus) -> None:
        told.append((status.sequence, status.rejected))
        set_status(self, status)

    monkeypatch.setattr(AgentState, "_set", spying)
    monkeypatch.setattr(_start, "_fresh_id", lambda: ROLLOUT)
    shares = [100.0 if rejected else 0.01]
    assert start(store, tree, ME, Terms.of(shares)) is not None
    wait_for(lambda: agent.status.sequence == 2, "it has seen the candidate")
    assert told == [(2, rejected)]


def test_unexpected_failure_rejects_a_generation_and_is_reported(
    store: Store, store_url: str, make_agent: Make, monkeypatch: pytest.MonkeyPatch
):
    publish_policies(store, simple("5/s"))
    agent = make_agent(store_url)

    def broken(*_: Any) -> None:
        raise ZeroDivisionError("what nobody thought of")

    monkeypatch.setattr(agent._following.enforcement, "enforce", broken)
    publish_policies(store, simple("6/s"))
    wait_for(lambda: agent.status.rejected == 2, "it is rejected")
    assert "ZeroDivisionError: what nobody thought of" in (agent.status.error or "")
    assert agent.status.connected
    assert noted(agent)["generation"] == 1


# Files ------------------------------------------------------------------------------------------


def good(number: int, *, candidate: bool = False) -> LastGood:
    data = f"bytes of bundle {number}".encode()
    sha256 = digest(data)
    live = Head(sequence=number, generation=number, bundle=sha256)
    if candidate:
        tried = Candidate(generation=number, bundle=sha256, rollout="r", percent=50)
        live = Head(sequence=number, generation=number - 1, bundle="b" * 64, candidate=tried)
    return LastGood(number, "environment", sha256, live, data)


@pytest.fixture
def slot(tmp_path: Path) -> Slot:
    return take_slot(tmp_path, "store", "me")


def before(slot: Slot) -> int | None:
    assert slot.folder is not None
    path = slot.folder / "last-good.before"
    return last_good._read(path).generation if path.exists() else None


def test_previous_generation_is_kept(slot: Slot):
    for number in (1, 2, 3):
        slot.save(good(number))
    assert (slot.load(), before(slot)) == (good(3), 2)
    slot.save(replace(good(3), head=replace(good(3).head, sequence=9)))
    assert before(slot) == 2, "equal bytes are not another generation"


def test_unproven_generation_does_not_replace_a_served_one(slot: Slot):
    for number in (1, 2, 3):
        slot.save(good(number), lambda bundle: bundle == good(1).bundle)
    assert before(slot) == 1


def test_candidate_is_never_kept_as_previous_generation(slot: Slot):
    slot.save(good(1))
    slot.save(good(2, candidate=True))
    assert before(slot) == 1
    slot.save(good(3))
    assert before(slot) == 1, "it may have been aborted"


def test_previous_generation_is_loaded_if_the_newest_is_refused(slot: Slot):
    slot.save(good(1))
    slot.save(good(2))
    assert slot.load(lambda each: each.generation != 2) == good(1)
    assert slot.load(lambda each: False) is None


def test_previous_generation_is_loaded_if_the_newest_is_damaged(slot: Slot):
    slot.save(good(1))
    slot.save(good(2))
    assert slot.folder is not None
    own = slot.folder / "last-good"
    own.write_bytes(own.read_bytes()[:-3])
    assert slot.load() == good(1)
    assert "truncated or changed" in str(slot.trouble)


def test_file_with_another_generations_head_is_damaged(slot: Slot):
    slot.save(replace(good(1), head=good(2).head))
    with pytest.raises(Exception, match="truncated or changed"):
        slot.load()


@pytest.mark.parametrize("step", ["link", "replace"])
def test_last_good_exists_at_every_moment_of_a_save(
    slot: Slot, monkeypatch: pytest.MonkeyPatch, step: str
):
    slot.save(good(1))

    def dies(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    if step == "link":
        monkeypatch.setattr(os, "link", dies)
    else:
        monkeypatch.setattr("pathlib.Path.replace", dies)
    with pytest.raises(KeyboardInterrupt):
        slot.save(good(2))
    monkeypatch.undo()
    assert slot.load() == good(1)


def test_promoted_candidate_is_persisted_after_the_disk_was_full(
    store: Store, store_url: str, make_agent: Make, monkeypatch: pytest.MonkeyPatch
):
    publish_policies(store, simple("5/s"))
    agent = make_agent(store_url)
    save = Slot.save

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Slot, "save", full)
    assert start(store, simple("6/s"), ME, Terms.of([100.0])) is not None
    store.put(CONTROLLER, controlled_by(read_rollout(store).record.id))
    assert agent.wait_for_generation(2, 5)
    wait_for(lambda: "No space" in (agent.status.error or ""), "that is reported")
    monkeypatch.setattr(Slot, "save", save)
    promote(store, read_rollout(store), "Ada")
    wait_for(lambda: {each.rollout for each in read_agents(store)} == {None}, "it is promoted")
    wait_for(lambda: agent.status.error is None, "all is well")
    persisted = agent._following.slot.load()
    assert persisted is not None
    assert (persisted.generation, persisted.rollout) == (2, None)


def test_agent_does_not_start_with_an_aborted_candidate(
    store: Store, store_url: str, make_agent: Make
):
    publish_policies(store, simple("5/s"))
    agent = make_agent(store_url, id="me")
    assert start(store, simple("6/s"), ME, Terms.of([100.0])) is not None
    store.put(CONTROLLER, controlled_by(read_rollout(store).record.id))
    assert agent.wait_for_generation(2, 5)
    head = Head.decode(store.get(HEAD).value)  # type: ignore[union-attr]
    store.put(HEAD, replace(head, sequence=9, candidate=None).encode())
    wait_for(lambda: agent.generation == 1, "it is back")
    wait_for(lambda: agent._following.slot.load().generation == 1, "on disk as well")
    assert before(agent._following.slot) in (None, 1)


# Probation in a running agent --------------------------------------------------------------------


def noted(agent: ratectl.Agent) -> dict[str, Any]:
    """Return the trial that is noted in the agent's slot."""
    assert agent._following.slot.folder is not None
    with contextlib.suppress(FileNotFoundError):
        trial: dict[str, Any] = json.loads((agent._following.slot.folder / "trying").read_bytes())
        return trial
    return {}


def later(agent: ratectl.Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the clock behind the probation, and wait until the agent has checked it twice."""
    checks: list[int] = []
    end_probation_if_due = agent._following.adoption.end_probation_if_due

    def counted() -> None:
        end_probation_if_due()
        checks.append(1)

    monkeypatch.setattr(
        agent._following.adoption._quarantine, "_clock", lambda: time.monotonic() + 11
    )
    monkeypatch.setattr(agent._following.adoption, "end_probation_if_due", counted)
    wait_for(lambda: len(checks) > 1, "the agent has checked twice")


def test_live_generation_is_on_probation_until_it_has_served(
    store: Store, store_url: str, make_agent: Make, monkeypatch: pytest.MonkeyPatch
):
    publish_policies(store, simple("5/s"))
    agent = make_agent(store_url)
    assert noted(agent)["generation"] == 1
    later(agent, monkeypatch)
    assert noted(agent) == {}


@pytest.mark.parametrize("mode", ["enforce", "shadow"])
def test_candidate_is_on_probation_until_the_rollout_ends(
    store: Store,
    store_url: str,
    make_agent: Make,
    monkeypatch: pytest.MonkeyPatch,
    mode: Literal["enforce", "shadow"],
):
    publish_policies(store, simple("5/s"))
    agent = make_agent(store_url)
    assert start(store, simple("6/s"), ME, Terms.of([100.0]), mode=mode) is not None
    store.put(CONTROLLER, controlled_by(read_rollout(store).record.id))
    wait_for(
        lambda: agent.generation == 2 or agent._following.shadow.rollout, "it has the candidate"
    )
    later(agent, monkeypatch)
    assert noted(agent)["generation"] == 2


@pytest.mark.parametrize("mode", ["enforce", "shadow"])
def test_ended_candidate_is_no_longer_on_probation(
    store: Store, store_url: str, make_agent: Make, mode: Literal["enforce", "shadow"]
):
    publish_policies(store, simple("5/s"))
    agent = make_agent(store_url)
    assert start(store, simple("6/s"), ME, Terms.of([100.0]), mode=mode) is not None
    store.put(CONTROLLER, controlled_by(read_rollout(store).record.id))
    wait_for(lambda: noted(agent)["generation"] == 2, "it has the candidate")
    abort(store, read_rollout(store), "Ada", "no more")
    wait_for(lambda: noted(agent)["generation"] == 1, "it has what is live")


def test_promoted_candidate_is_noted_as_live(store: Store, store_url: str, make_agent: Make):
    publish_policies(store, simple("5/s"))
    agent = make_agent(store_url)
    assert start(store, simple("6/s"), ME, Terms.of([100.0])) is not None
    store.put(CONTROLLER, controlled_by(read_rollout(store).record.id))
    assert agent.wait_for_generation(2, 5)
    promote(store, read_rollout(store), "Ada")
    wait_for(lambda: agent.status.rollout is None, "it has heard of it")
    wait_for(lambda: noted(agent)["candidate"] is False, "it is noted")


def test_rejected_generation_is_not_on_probation(store: Store, store_url: str, make_agent: Make):
    publish_policies(store, simple("5/s"))
    agent = make_agent(store_url)
    publish_policies(store, POISON)
    wait_for(lambda: agent.status.rejected == 2, "it is rejected")
    assert noted(agent)["generation"] == 1, "the generation in force stays on probation"
