"""Evaluation in shadow keeps no request alive: a request may release its decision when it ends."""

from __future__ import annotations

import gc
import time
from collections import UserDict
from typing import TYPE_CHECKING, Any, Final

import pytest

from engine.engines import ENGINES
from policy.trees import tree
from ratectl.agent.shadow import ShadowEvaluator
from ratectl.agent.wall_clock import WallClock
from ratectl.compiler.plans import compile_tree
from ratectl.records import Candidate

if TYPE_CHECKING:
    from ratectl.engine.api import Engine

DECLARED: Final = {
    "/": {"limits": {"slots": {"algorithm": "concurrency", "max": 5, "per": "tenant"}}}
}
CANDIDATE: Final = Candidate(generation=2, bundle="", rollout="r", percent=100, mode="shadow")


class PlainDict(dict[str, Any]):
    """A request that releases its decision when it is collected."""

    def __del__(self) -> None:
        self["decision"].release()


class OtherMapping(UserDict[str, Any]):
    """A request that is no dict, and releases its decision when it is collected."""

    def __del__(self) -> None:
        self.data["decision"].release()


class Releasing:
    """A value among plain attributes that releases a decision when it is collected."""

    def __init__(self, decision: Any) -> None:
        self.decision = decision

    def __del__(self) -> None:
        self.decision.release()


@pytest.fixture(params=ENGINES.values(), ids=ENGINES)
def engine(request: pytest.FixtureRequest) -> Engine:
    made: Engine = request.param(time.monotonic_ns)
    made.swap(compile_tree(tree(DECLARED), 1))
    evaluator = ShadowEvaluator(made, WallClock(), lambda: request.param(time.monotonic_ns))
    evaluator.begin(CANDIDATE, tree(DECLARED))
    return made


def held(engine: Engine) -> int:
    return 5 - (engine.check("/", {"tenant": "t"}, 0).remaining or 0)


@pytest.mark.parametrize("kind", [PlainDict, OtherMapping])
def test_a_request_that_keeps_its_decision_ends(engine: Engine, kind: Any) -> None:
    for _ in range(3):
        request = kind(tenant="t")
        request["decision"] = engine.check("/", request)
        request["itself"] = request
        assert request["decision"].allowed
        assert held(engine) == 1
        del request
        gc.collect()
        assert held(engine) == 0


def test_plain_attributes_that_keep_their_decision_end(engine: Engine) -> None:
    for _ in range(3):
        request: dict[str, Any] = {"tenant": "t"}
        request["decision"] = decision = engine.check("/", request)
        request["end"] = Releasing(decision)
        del request, decision
        gc.collect()
        assert held(engine) == 0
