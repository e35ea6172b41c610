"""Mirror of an engine: it is called for every decision, by every way to decide."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import pytest

from conformance.engine_rig import ENGINES
from policy.trees import tree
from ratectl.compiler.plans import compile_tree

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ratectl.engine.api import Engine
    from ratectl.engine.decision import Decision

ACME = {"tenant": "acme"}
DECLARED: dict[str, dict[str, Any]] = {
    "/": {"limits": {"spike": {"rate": "1/h", "burst": 3, "per": "tenant"}}},
    "/slots": {"limits": {"slots": {"algorithm": "concurrency", "max": 2}}},
    "/choice": {
        "overrides": [
            {"name": "gold", "match": {"tier": "gold"}, "limits": {"spike": {"burst": 9}}}
        ]
    },
}


class RecordingMirror:
    """Mirror that records its calls."""

    def __init__(self, *, holds: bool = False) -> None:
        self.holds = holds
        self.seen: list[tuple[str, dict[str, str], int, bool]] = []
        self.released_ones: list[Decision] = []
        self.settled_ones: list[tuple[Decision, int]] = []

    def decided(
        self, scope: str, attributes: Mapping[str, str], cost: int, now: int, decision: Decision
    ) -> bool:
        assert abs(now - time.monotonic_ns()) < 10**10
        self.seen.append((scope, dict(attributes), cost, decision.allowed))
        return self.holds

    def released(self, decision: Decision) -> None:
        self.released_ones.append(decision)

    def settled(self, decision: Decision, actual: int, now: int) -> None:
        self.settled_ones.append((decision, actual))


@pytest.fixture(params=ENGINES.values(), ids=ENGINES)
def engine(request: pytest.FixtureRequest) -> Engine:
    made: Engine = request.param(time.monotonic_ns)
    made.swap(compile_tree(tree(DECLARED), 1))
    return made


def test_mirror_is_called_for_every_way_to_decide(engine: Engine):
    gate = engine.gate("/", "tenant")
    assert gate("before")
    mirror = RecordingMirror()
    engine.mirror(mirror)
    engine.check("/", ACME)
    engine.check("/choice", {"tier": "gold"}, 2)
    engine.check_many([("/",), ("/", ACME), ("/", ACME, 0)])
    gate("acme")
    gate(None)
    engine.check("/", ACME)
    assert mirror.seen == [
        ("/", ACME, 1, True),
        ("/choice", {"tier": "gold"}, 2, True),
        ("/", {}, 1, True),
        ("/", ACME, 1, True),
        ("/", ACME, 0, True),
        ("/", ACME, 1, True),
        ("/", {}, 1, True),
        ("/", ACME, 1, False),
    ]


def test_mirror_is_told_the_time_of_requests_without_a_policy(engine: Engine):
    engine.swap(compile_tree(tree({"/a": {}}), 2))
    mirror = RecordingMirror()  # it compares the time with the clock
    engine.mirror(mirror)
    for _ in range(3):
        assert engine.check("/b", ACME).reason == "no_policy"
    assert len(mirror.seen) == 3


def test_mirror_does_not_change_decisions(engine: Engine):
    engine.mirror(RecordingMirror())
    decisions = [engine.check("/", ACME) for _ in range(4)]
    assert [(decision.allowed, decision.remaining) for decision in decisions] == [
        (True, 2),
        (True, 1),
        (True, 0),
        (False, 0),
    ]
    engine.mirror(None)
    assert not engine.check("/", ACME)
    assert engine.usage().limits[0].allowed == 3


def test_removed_mirror_is_not_called(engine: Engine):
    mirror = RecordingMirror()
    engine.mirror(mirror)
    engine.mirror(None)
    engine.check("/", ACME)
    engine.gate("/", "tenant")("acme")
    engine.check_many([("/", ACME)])
    assert mirror.seen == []


def test_mirror_is_called_for_releases_and_settles(engine: Engine):
    mirror = RecordingMirror()
    engine.mirror(mirror)
    slot, other = engine.check("/slots", ACME), engine.check("/", ACME, 1)
    slot.release()
    other.settle(2)
    assert mirror.released_ones == [slot]
    assert mirror.settled_ones == [(other, 2)]


@pytest.mark.parametrize("holds", [True, False])
def test_mirror_with_slots_is_called_for_releases_without_slots(engine: Engine, holds: bool):
    mirror = RecordingMirror(holds=holds)
    engine.mirror(mirror)
    decision = engine.check("/", {"tenant": "zeta"})
    decision.release()
    if holds:
        assert mirror.released_ones == [decision]
    assert engine.check("/", {"tenant": "zeta"}).remaining == 1


def test_mirror_stays_after_a_swap(engine: Engine):
    mirror = RecordingMirror()
    engine.mirror(mirror)
    engine.swap(compile_tree(tree(DECLARED), 2))
    engine.check("/", ACME)
    assert len(mirror.seen) == 1


def test_forked_child_has_no_mirror(engine: Engine):
    mirror = RecordingMirror()
    engine.mirror(mirror)
    held = engine.standstill()
    next(held)
    child = os.fork()
    held.close()
    if child == 0:
        engine.after_fork_in_child()
        engine.check("/", ACME)
        os._exit(len(mirror.seen))
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    engine.check("/", ACME)
    assert len(mirror.seen) == 1
