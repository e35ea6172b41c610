"""``Agent.explain`` and ``Decision.explain``: why a request is refused."""

from __future__ import annotations

import copy
import json
import pickle
from typing import TYPE_CHECKING, Any

import pytest

from agent.explain_support import ACME, REFUSED, TEXT, by_name, refused
from ratectl import Agent, Explanation, LimitExplanation, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Make = Callable[..., Agent]

pytestmark = pytest.mark.usefixtures("both_engines")


# What it says -----------------------------------------------------------------------------------


def test_text_of_a_refusal(agent: Agent) -> None:
    decision = refused(agent)
    assert str(agent.explain("/payments/checkout", ACME)) == REFUSED
    assert str(decision.explain()) == REFUSED


def test_each_limit_with_what_it_has_left(agent: Agent) -> None:
    refused(agent)
    told = agent.explain("/payments/checkout", {**ACME, "tier": "gold"}, {"tokens": 99})
    assert (told.allowed, told.reason, told.limit, told.unit) == (False, "never", "llm", "tokens")
    assert (told.as_of, told.notes, told.waived) == ("now", (), None)
    assert told.cost == {"requests": 1, "tokens": 99}
    limits = by_name(told)
    assert list(limits) == ["spike", "steady", "llm", "fleet", "slots"]
    assert limits["spike"] == LimitExplanation(
        name="spike", kind="limit", scope="/payments", algorithm="token-bucket", unit="requests",
        key="tenant=acme", capacity=2, remaining=2, retry_after=0.0, never=False, refuses=False,
        decides=False, consulted=True, shadow=False, overrides=("gold@/payments",),
        declared="limits.spike.rate of gold@/payments", origin="<policies>:14:28",
    )  # fmt: skip
    llm = limits["llm"]
    assert (llm.never, llm.refuses, llm.decides, llm.retry_after) == (True, True, True, None)
    assert (llm.key, llm.declared) == ("(all)", "limits.llm.burst of /payments")
    assert limits["fleet"].kind == "budget"
    assert limits["slots"].algorithm == "concurrency"


def test_nothing_is_charged_or_counted(agent: Agent) -> None:
    for _ in range(20):
        agent.explain("/payments", ACME, 2)
        agent.explain("/payments", ACME, 3)
        agent.explain("/nowhere", ACME)
    usage = agent._engine.usage()
    assert (usage.limits, usage.no_policy, usage.buckets) == ((), 0, 0)
    assert [agent.check("/payments", ACME).allowed for _ in range(3)] == [True, True, False]


def test_data_is_json(agent: Agent) -> None:
    told = refused(agent).explain()
    data = json.loads(json.dumps(told.as_dict(), allow_nan=False))
    assert data["limits"][0]["key"] == "tenant=acme"
    assert data["limits"][0]["overrides"] == []
    assert set(data) == set(Explanation.__slots__)
    assert set(data["limits"][0]) == set(LimitExplanation.__slots__)
    assert pickle.loads(pickle.dumps(told)) == told


def test_control_characters_are_escaped(agent: Agent) -> None:
    hostile = {"tenant": "a\n\x1b[31m\u202e", "route": "\udcff" + "x" * 300}
    told = agent.explain("/payments/\x1b]0;\n", hostile)
    lines = str(told).splitlines()
    assert len(lines) == 6
    assert all(line.isprintable() for line in lines)
    assert "tenant=a\\n\\x1b[31m\\u202e, route=(long: " in lines[2]
    json.dumps(told.as_dict(), ensure_ascii=False).encode()


def test_kill_switch(agent: Agent) -> None:
    refused(agent)
    agent._engine.waive({"/payments": "open"})
    told = agent.explain("/payments", ACME)
    assert (told.allowed, told.reason, told.waived, told.limits) == (True, "ok", "open", ())
    assert "a kill switch is on: no limit is evaluated here" in str(told)
    agent._engine.waive({"/": "shadow"})
    told = agent.explain("/payments", ACME)
    assert (told.allowed, told.reason, told.waived) == (True, "shadow", "shadow")
    assert by_name(told)["spike"].refuses
    assert by_name(told)["spike"].shadow


def test_wrong_cost_is_a_usage_error(agent: Agent) -> None:
    with pytest.raises(UsageError):
        agent.explain("/payments", ACME, -1)


# Decisions --------------------------------------------------------------------------------------


def test_a_decision_keeps_its_own_answer(agent: Agent) -> None:
    decision = refused(agent)
    agent.clock.advance(30)
    agent.check("/payments/checkout", {"tenant": "globex"})
    told = decision.explain()
    spike = by_name(told)["spike"]
    assert told.retry_after == spike.retry_after == decision.retry_after == 60
    assert (spike.remaining, spike.decides, spike.refuses) == (0, True, True)
    assert by_name(told)["fleet"].remaining == 9_999  # now
    assert agent.explain("/payments/checkout", ACME).retry_after == 30


def test_an_allowed_decision(agent: Agent) -> None:
    decision = agent.check("/payments", ACME)
    told = decision.explain()
    assert (told.allowed, told.limit, told.remaining) == (True, "spike", 1)
    assert by_name(told)["spike"].decides
    decision.settle(0)
    decision.release()
    assert decision.explain().remaining == 1
    assert by_name(decision.explain())["slots"].remaining == 5


def test_a_copy_knows_only_its_answer(agent: Agent) -> None:
    for kept in (copy.copy(refused(agent)), pickle.loads(pickle.dumps(refused(agent)))):
        told = kept.explain()
        assert (told.scope, told.limit, told.as_of) == (None, "spike", "decision")
        assert [of.name for of in told.limits] == ["spike"]
        assert told.notes == (
            "only the answer of this decision is known: what other limits had left is not",
        )
        assert str(told).startswith("refused, generation 1\n  spike @ /payments  0 of 2 requests")


def test_no_policy(agent: Agent) -> None:
    for told in (agent.explain("/x"), agent.check("/x").explain()):
        assert (told.reason, told.scope, told.limits) == ("no_policy", "/x", ())
        assert str(told) == "allowed, because no policy covers the scope: /x, generation 1"


def test_a_publication_in_between(payments: Path, make_agent: Make) -> None:
    agent = make_agent(str(payments))
    decision = refused(agent)
    (payments / "team.yaml").write_text(TEXT.replace("spike:", "burst:"))
    assert agent.wait_for_generation(2, 10)
    told = decision.explain()
    assert (told.generation, told.limit, told.limits[0].name) == (1, "spike", "spike")
    assert (told.limits[0].kind, told.limits[0].remaining) == (None, 0)
    assert "burst" in by_name(told)
    assert told.notes == ("generation 2 is in force now: the other limits are those of it",)


def test_a_closed_agent(agent: Agent) -> None:
    agent.close()
    assert refused(agent).explain().limit == "spike"
    assert agent.explain("/payments", ACME).limit == "spike"


def test_before_the_first_generation(tmp_path: Path, make_agent: Make) -> None:
    agent = make_agent(f"sqlite:///{tmp_path}/none.db", ready_timeout=0, on_error="deny")
    failures = agent._failures.count
    told = agent.explain("/payments", ACME)
    assert agent._failures.count == failures
    assert (told.allowed, told.reason, told.generation) == (False, "error", 0)
    assert str(told) == (
        "refused by on_error: /payments, generation 0\n"
        "  note: no policies were in force: on_error answered"
    )
    decision = agent.check("/payments", ACME)
    assert decision.explain().reason == "error"
    assert decision.explain().allowed == decision.allowed


class Raising:
    """Attributes that raise an error."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def get(self, name: str) -> str:
        raise self.error


def test_a_failing_limiter(agent: Agent) -> None:
    attributes: Any = Raising(ValueError("no\x1btenant"))
    failures = agent._failures.count
    told = agent.explain("/payments", attributes)
    assert agent._failures.count == failures
    decision = agent.check("/payments", attributes)
    assert (decision.allowed, decision.reason) == (False, "error")
    for each in (told, decision.explain()):
        assert (each.allowed, each.reason, each.scope) == (False, "error", "/payments")
        assert "on_error answered: ValueError: no\\x1btenant" in str(each)
    scope: Any = 7
    assert agent.explain(scope).reason == agent.check(scope).reason == "error"
    assert agent.check(scope).explain().scope is None
