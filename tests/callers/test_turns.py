"""Requests between the parts of a decision, or in the middle of a change of the engine."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from callers.house import BURST, KINDS, House, guarded
from engine.engines import MakeEngine, each_engine
from policy.trees import tree
from ratectl.compiler.plans import compile_tree

if TYPE_CHECKING:
    from collections.abc import Callable

    from ratectl.engine.api import Engine

SECOND = "region"
"""The attribute that is read after the first bucket."""


class Between:
    """A mapping that calls a function when its second attribute is read."""

    def __init__(self, act: Callable[[], Any]) -> None:
        self._act = act

    def get(self, name: str) -> str:
        if name == SECOND:
            self._act()
        return "same"


def counted_twice(make: MakeEngine, kind: str) -> Engine:
    """Return an engine with two limits for each request, which count by different attributes.

    Only the first one is ever exhausted.
    """
    engine = make(time.monotonic_ns)
    guarded(engine)
    limits = {"a": {**KINDS[kind], "per": "tenant"}, "b": {"rate": "1000000/s", "per": SECOND}}
    engine.swap(compile_tree(tree({"/a": {"limits": limits}}), 1))
    engine.check("/a", {"tenant": "same", SECOND: "same"}, 0).release()
    return engine


@each_engine
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "several"])
def test_a_request_between_two_buckets_of_another_one_is_counted(
    make: MakeEngine, kind: str
) -> None:
    engine, decisions = counted_twice(make, kind), []

    def ask() -> None:
        decisions.append(engine.check("/a", {"tenant": "same", SECOND: "same"}))

    for _ in range(BURST):
        decisions.append(engine.check("/a", Between(ask)))
    assert len(decisions) == 2 * BURST
    assert sum(decision.allowed for decision in decisions) == BURST


@each_engine
@pytest.mark.parametrize("cost", [BURST + 1, 1])
def test_a_refusal_between_two_buckets_changes_nothing(make: MakeEngine, cost: int) -> None:
    engine = counted_twice(make, "window")
    refused = [engine.check("/a", Between(lambda: None), BURST + 1) for _ in range(3)]
    assert not any(refused)
    assert engine.check("/a", Between(lambda: engine.check("/a", {}, cost)), BURST).allowed


def test_request_in_the_middle_of_a_change_takes_effect_after_it(house: House) -> None:
    held, spent = (
        house.engine.check("/a", {"tenant": "t"}),
        house.engine.check("/a", {"tenant": "u"}),
    )
    house.reload()

    def change() -> None:
        assert house.engine.check("/a", {"tenant": "t"}).reason == "error"
        held.release()
        spent.settle(0)

    house.engine._alone(change)
    assert len(house.failures) == 1
    assert house.left() == BURST - (not house.holds)
    assert house.left("u") == BURST - (house.kind in ("slots", "several")), "slots are not spent"
    spent.release()
    house.check_all_is_well(failures=1)
