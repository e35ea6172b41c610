"""Shadow evaluation: a candidate sees the requests and decides none of them."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from agent.reset_support import obeyed, order
from etcd_server import wait_for
from ratectl.agent import shadow
from ratectl.fleet.usage import read_agents, read_usage
from ratectl.history.generations import read_live
from ratectl.records import HEAD
from ratectl.rollout import Differences, Terms, abort, promote, read_rollout
from ratectl.rollout._start import start
from support import ME, POISON, policies, publish_policies, simple

if TYPE_CHECKING:
    from collections.abc import Callable

    import ratectl
    from ratectl.policy.language.model import PolicyTree
    from ratectl.records import BesideReport
    from ratectl.stores.base import Store

    Make = Callable[..., ratectl.Agent]

ACME = {"tenant": "acme"}
TERMS = Terms.of([100.0])
SLOTS = {"algorithm": "concurrency", "max": 1}


def begun(store: Store, agent: ratectl.Agent, tree: PolicyTree) -> None:
    """Make an agent evaluate a candidate in shadow."""
    assert start(store, tree, ME, TERMS, mode="shadow") is not None
    wait_for(lambda: agent._following.shadow.rollout, "it evaluates the candidate")


def report(agent: ratectl.Agent) -> BesideReport:
    found = agent._following.shadow.report()
    assert found is not None
    return found


@pytest.fixture
def agent(store: Store, store_url: str, make_agent: Make) -> ratectl.Agent:
    publish_policies(store, simple("1/day", burst=5))
    return make_agent(store_url)


def test_request_that_only_the_candidate_refuses_passes_and_is_counted(
    store: Store, agent: ratectl.Agent
):
    begun(store, agent, simple("1/day", burst=3))
    assert [agent.check("/a", ACME).allowed for _ in range(6)] == [True] * 5 + [False]
    found = report(agent)
    assert (found.requests, found.newly_refused, found.newly_allowed) == (6, 2, 0)
    assert found.limits == [("/", "spike", 2, 0)]


def test_request_that_only_the_candidate_allows_is_refused_and_counted(
    store: Store, agent: ratectl.Agent
):
    begun(store, agent, simple("1/day", burst=7))
    gate = agent.gate("/", "tenant")
    assert [gate("acme") for _ in range(8)] == [True] * 5 + [False] * 3
    assert [each.allowed for each in agent.check_many([("/", ACME)])] == [False]
    found = report(agent)
    assert (found.requests, found.newly_refused, found.newly_allowed) == (9, 0, 2)
    assert found.limits == [("/", "spike", 0, 2)]


def test_differences_of_all_agents_are_added_up(
    store: Store, store_url: str, agent: ratectl.Agent, make_agent: Make
):
    other = make_agent(store_url, id="other")
    begun(store, agent, simple("1/day", burst=3))
    wait_for(lambda: other._following.shadow.rollout, "the other evaluates it too")
    for each in (agent, other):
        for _ in range(5):
            each.check("/", ACME)
    record = read_rollout(store).record

    def added() -> Differences:
        return Differences.of(record, read_usage(store))

    wait_for(lambda: added().requests == 10, "both have reported")
    assert added() == (2, 10, 4, 0, [(("/", "spike"), (4, 0))])
    assert {each.generation for each in read_agents(store)} == {1}


def test_a_charge_reaches_the_candidate(store: Store, agent: ratectl.Agent):
    begun(store, agent, simple("1/day", burst=3))
    agent.charge("/a", ACME, 4)
    assert agent.check("/a", ACME, 0).remaining == 1
    found = report(agent)
    assert (found.requests, found.newly_refused) == (1, 1), "the candidate is below empty"


@pytest.mark.parametrize("end", ["abort", "promote"])
def test_end_of_the_rollout_ends_the_evaluation(store: Store, agent: ratectl.Agent, end: str):
    begun(store, agent, simple("1/day", burst=3))
    if end == "abort":
        abort(store, read_rollout(store), "Ada", "")
    else:
        promote(store, read_rollout(store), "Ada")
        assert agent.wait_for_generation(2, 5)
    wait_for(lambda: agent._following.shadow.rollout is None, "it is over")
    assert agent._following.shadow.report() is None
    assert agent.check("/", ACME).capacity == (5 if end == "abort" else 3)


def test_release_frees_the_candidates_slots_too(store: Store, agent: ratectl.Agent):
    """Even if the policies in force have no concurrency limit."""
    begun(store, agent, policies(**{"/": {"limits": {"slots": SLOTS}}}))
    for _ in range(3):
        with agent.check("/", ACME) as decision:
            assert decision
    held = agent.check("/", ACME)
    assert agent.check("/", ACME)
    held.release()
    assert (report(agent).requests, report(agent).newly_refused) == (5, 1)


def test_settle_corrects_the_candidates_buckets_too(store: Store, agent: ratectl.Agent):
    begun(store, agent, simple("1/day", burst=3))
    decision = agent.check("/", ACME, 2)
    decision.settle(1)
    assert agent.check("/", ACME, 2)
    assert report(agent).newly_refused == 0
    decision.settle(2)
    assert agent.check("/", ACME, 1)
    assert report(agent).newly_refused == 1


def test_reset_fills_the_candidates_buckets_too(store: Store, agent: ratectl.Agent):
    begun(store, agent, simple("1/day", burst=3))
    for _ in range(5):
        agent.check("/", ACME)
    reset = order(store)
    obeyed(agent, reset)
    before = report(agent).newly_refused
    assert [agent.check("/", ACME).allowed for _ in range(3)] == [True] * 3
    assert (before, report(agent).newly_refused) == (2, 2)


def test_candidate_that_cannot_be_evaluated_is_rejected(store: Store, agent: ratectl.Agent):
    assert start(store, POISON, ME, TERMS, mode="shadow") is not None
    wait_for(lambda: agent.status.rejected == 2, "it is rejected")
    assert "has no rate" in (agent.status.error or "")
    assert agent.check("/", ACME).generation == 1
    assert agent._following.shadow.rollout is None


def test_failing_evaluation_does_not_affect_decisions(
    store: Store, agent: ratectl.Agent, monkeypatch: pytest.MonkeyPatch
):
    begun(store, agent, simple("1/day", burst=3))

    def broken(*_: Any) -> None:
        raise ZeroDivisionError

    trial = agent._following.shadow._trial
    assert trial is not None
    monkeypatch.setattr(trial._engine, "check", broken)
    assert [agent.check("/", ACME).allowed for _ in range(6)] == [True] * 5 + [False]
    assert report(agent).requests == 0


def test_restarted_agent_evaluates_the_candidate_again(
    store: Store, store_url: str, agent: ratectl.Agent, make_agent: Make
):
    begun(store, agent, simple("1/day", burst=3))
    agent.close()
    assert agent._following.shadow.rollout is None
    again = make_agent(store_url)
    wait_for(lambda: again._following.shadow.rollout, "it evaluates the candidate")


def test_candidates_slots_of_scopes_without_live_policy_are_freed(
    store: Store, store_url: str, make_agent: Make
):
    publish_policies(store, policies(**{"/a": {"limits": {"spike": {"rate": "5/s"}}}}))
    agent = make_agent(store_url)
    begun(store, agent, policies(**{"/": {"limits": {"slots": SLOTS}}}))
    for _ in range(3):
        with agent.check("/elsewhere", ACME) as decision:
            assert decision.reason == "no_policy"
    assert (report(agent).requests, report(agent).newly_refused) == (3, 0)


def test_refused_request_holds_no_slot_of_the_candidate(
    store: Store, store_url: str, make_agent: Make
):
    limits = {"spike": {"rate": "0/s"}, "slots": SLOTS}
    publish_policies(store, policies(**{"/": {"limits": limits}}))
    agent = make_agent(store_url)
    begun(store, agent, policies(**{"/": {"limits": {"slots": SLOTS}}}))
    assert [agent.check("/", ACME).allowed for _ in range(3)] == [False] * 3
    assert report(agent).newly_allowed == 3


def test_number_of_remembered_decisions_is_bounded(
    store: Store, agent: ratectl.Agent, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(shadow, "_OUTSTANDING", 2)
    begun(store, agent, policies(**{"/": {"limits": {"slots": {**SLOTS, "max": 9}}}}))
    held = [agent.check("/", {"tenant": str(number)}) for number in range(4)]
    trial = agent._following.shadow._trial
    assert trial is not None
    assert len(trial._outstanding) == 2
    assert set(trial._outstanding) == {id(each) for each in held[2:]}


def test_candidate_whose_exception_cannot_begin_is_no_longer_evaluated(
    store: Store, agent: ratectl.Agent, monkeypatch: pytest.MonkeyPatch
):
    begun(store, agent, simple("1/day", burst=3))
    trial = agent._following.shadow._trial
    assert trial is not None

    def broken() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(trial.enforcement, "keep_time", broken)
    wait_for(lambda: agent._following.shadow.rollout is None, "it is over")
    assert agent.check("/", ACME)
    advance_head(store)
    wait_for(lambda: agent.status.rejected == 2, "it is rejected when it is looked at again")
    wait_for(lambda: read_usage(store), "reports go on")


def advance_head(store: Store) -> None:
    """Make agents read the head again."""
    head = read_live(store).head
    assert head is not None
    store.put(HEAD, replace(head, sequence=head.sequence + 1).encode())


def test_forked_child_evaluates_the_candidate_itself(
    store: Store, store_url: str, agent: ratectl.Agent
):
    begun(store, agent, simple("1/day", burst=3))
    child = os.fork()
    if child == 0:
        agent.check("/", ACME)
        deadline = time.monotonic() + 10
        while agent._following.shadow.rollout is None and time.monotonic() < deadline:
            time.sleep(0.05)
        agent.check("/", ACME)
        found = agent._following.shadow.report()
        os._exit(found.requests if found else 99)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 1
    assert report(agent).requests == 0


def test_reused_object_id_does_not_confuse_decisions(store: Store, agent: ratectl.Agent):
    """Python reuses ``id()``: a refused request must not release an earlier slot."""
    begun(store, agent, policies(**{"/": {"limits": {"slots": SLOTS}}}))
    trial = agent._following.shadow._trial
    assert trial is not None
    held = agent.check("/", ACME)
    assert id(held) in trial._outstanding
    assert not trial.decided("/", ACME, 1, time.monotonic_ns(), held), "its one slot is taken"
    assert id(held) not in trial._outstanding
