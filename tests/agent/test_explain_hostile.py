"""Explanations of hostile requests: foreign code, cycles, threads, and thousands of limits."""

from __future__ import annotations

import gc
import pickle
import sys
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any

import pytest

import ratectl
from agent.explain_support import ACME, REFUSED, TEXT, by_name, refused
from ratectl import Agent, Explanation, FakeClock

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Make = Callable[..., Agent]

pytestmark = pytest.mark.usefixtures("both_engines")


def test_attributes_that_were_changed_after_the_decision(agent: Agent) -> None:
    attributes = dict(ACME)
    decision = refused(agent, attributes)
    attributes["tenant"] = "globex"
    told = decision.explain()
    assert (told.limit, told.remaining, [of.name for of in told.limits]) == ("spike", 0, ["spike"])
    (note,) = told.notes
    assert note.startswith("the attributes were changed after the decision")
    attributes.clear()
    assert decision.explain().notes == told.notes
    attributes.update(ACME)
    assert str(decision.explain()) == REFUSED


class Text:
    """A value whose text runs code of the caller."""

    def __init__(self, code: Callable[[], object]) -> None:
        self.code = code

    def __str__(self) -> str:
        self.code()
        return "acme"


def test_values_that_run_code(agent: Agent) -> None:
    nested: list[object] = []
    value: Any = Text(lambda: nested.append(agent.explain("/payments", ACME)))
    told = agent.explain("/payments", {"tenant": value})
    assert by_name(told)["spike"].key == "tenant=acme"
    assert nested
    deciding: Any = {"tenant": Text(lambda: agent.check("/payments", ACME))}
    assert agent.explain("/payments", deciding).allowed
    decision = agent.check("/payments", deciding)
    assert not decision
    assert decision.explain().limit == "spike"

    def failing() -> None:
        raise ValueError("no text")

    failed: Any = {"tenant": Text(failing)}
    assert agent.explain("/payments", failed).reason == "error"


def test_values_that_fail_later(agent: Agent) -> None:
    calls: list[int] = []

    def once() -> None:
        calls.append(1)
        if len(calls) > 3:
            raise ValueError("no text any more")

    attributes: Any = {"tenant": Text(once)}
    decision = refused(agent, attributes)
    told = decision.explain()
    assert (told.limit, told.allowed) == ("spike", False)


def test_decisions_and_their_attributes_are_collected(agent: Agent) -> None:
    class Value(str):
        """A text that can be in a cycle."""

        __slots__ = ("__weakref__", "decision")
        decision: object

    agent.check("/payments", ACME)
    gone = []
    for scope in ("/payments", "/x"):
        for _ in range(3):
            value = Value("acme")
            attributes: dict[str, str] = {"tenant": value}
            decision = agent.check(scope, attributes)
            decision.explain()
            value.decision = decision
            gone.append(weakref.ref(value))
            del value, attributes, decision
    gc.collect()
    assert [ref() for ref in gone] == [None] * 6


def test_explaining_leaks_nothing(agent: Agent) -> None:
    attributes = dict(ACME)
    decision = refused(agent, attributes)

    def count() -> int:
        return sys.getrefcount(attributes) + sys.getrefcount(decision)

    before = count()
    for _ in range(200):
        decision.explain()
        agent.explain("/payments", attributes)
        agent.explain("/payments", {"tenant": "new"})
        pickle.dumps(decision)
    assert count() == before
    gc.collect()
    objects = len(gc.get_objects())
    for number in range(300):
        agent.explain("/payments", {"tenant": f"{number}"})
        agent.explain(f"/payments/{number}", ACME)
    gc.collect()
    assert len(gc.get_objects()) < objects + 200


def test_finalizers_explain(agent: Agent) -> None:
    told: list[Explanation] = []

    class Last:
        def __init__(self) -> None:
            self.me = self
            self.decision = refused(agent)

        def __del__(self) -> None:
            told.append(self.decision.explain())
            told.append(agent.explain("/payments", ACME))

    for number in range(20):
        agent.clock.advance(600)
        Last()
        agent.check("/payments", {"tenant": f"{number}"})
        if number % 5 == 4:
            gc.collect()
    gc.collect()
    assert len(told) == 40
    assert {each.limit for each in told} == {"spike"}


def test_threads_explain_during_reloads(payments: Path, both_engines: str) -> None:
    trees = []
    for number in range(4):
        text = TEXT.replace("1/min, burst: 2", f"{1 + number}/min, burst: {2 + number}")
        if number % 2:
            text = text.replace("token-bucket", "quota").replace("steady", f"steady{number}")
        (payments / "team.yaml").write_text(text)
        trees.append(ratectl.load_valid([payments]).tree)
    with Agent.from_policies(trees[0]) as agent:
        assert agent._engine.name == both_engines
        stop, problems = threading.Event(), []

        def explain() -> None:
            number = 0
            while not stop.is_set():
                number += 1
                attributes = {"tenant": f"t{number % 7}", "tier": ("gold", "free")[number % 2]}
                decision = agent.check("/payments/checkout", attributes)
                told = decision.explain()
                live = agent.explain("/payments/checkout", attributes, 1 + number % 3)
                if live.reason == "error" or told.allowed != decision.allowed:
                    problems.append((told, live))
                if told.limit != decision.limit or told.generation != decision.generation:
                    problems.append((told, decision))
                str(told), str(live)

        threads = [threading.Thread(target=explain) for _ in range(3)]
        for thread in threads:
            thread.start()
        for generation in range(2, 60):
            agent._following.enforcement.enforce(trees[generation % 4], generation)
        stop.set()
        for thread in threads:
            thread.join()
        assert problems == []


def test_ten_thousand_limits() -> None:
    limits = {f"l{number}": {"rate": "5/min", "per": "tenant"} for number in range(2_500)}
    path = ("/", "/a", "/a/b", "/a/b/c")
    documents = [
        {
            "apiVersion": "ratectl/v1",
            "scope": scope,
            "limits": {f"{name}-{number}": of for name, of in limits.items()},
        }
        for number, scope in enumerate(path)
    ]
    with Agent.from_policies(documents, clock=FakeClock()) as agent:
        before = time.process_time()
        told = agent.explain(path[-1], ACME)
        assert time.process_time() - before < 5
        assert len(told.limits) == 10_000
        assert all(of.origin for of in told.limits)
        decision = agent.check(path[-1], ACME, 9)
        assert (decision.allowed, decision.explain().limit) == (False, "l0-0")
        assert len(str(told).splitlines()) == 10_001
