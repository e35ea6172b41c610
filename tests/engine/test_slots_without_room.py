"""Slots of keys that the table has no room for, and slots that a gate takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.engines import each_engine
from engine.model import Limit
from engine.plans import by_scope, plan_set
from engine.rules import SECOND, Slots

if TYPE_CHECKING:
    from engine.engines import MakeEngine
    from ratectl.engine.api import Engine

HOLD = 60 * SECOND


class Clock:
    now = 10**15

    def __call__(self) -> int:
        return self.now


def publish(engine: Engine, most: int) -> None:
    engine.swap(plan_set(1, by_scope(Limit("/", "l", Slots(most, HOLD), ("tenant",)))))


@each_engine
def test_slots_without_room_are_shared_and_leave(make: MakeEngine) -> None:
    """Keys beyond the table's room share buckets; once those are free, idle buckets make room."""
    engine = make(Clock(), max_buckets=64)
    publish(engine, 10_000)
    held = [engine.check("/", {"tenant": f"{n}"}) for n in range(600)]
    assert all(held)
    usage = engine.usage()
    assert (usage.buckets, usage.overflowed) == (64, 536)
    for decision in held:
        decision.release()
    for n in range(300):
        decision = engine.check("/", {"tenant": f"new {n}"})
        assert decision.remaining == 9_999, n
        decision.release()
    assert engine.usage().overflowed == 536


@each_engine
def test_key_takes_its_slots_along_from_a_shared_bucket(make: MakeEngine) -> None:
    engine = make(Clock(), max_buckets=1)
    publish(engine, 5)
    first = engine.check("/", {"tenant": "first"})
    shared = [engine.check("/", {"tenant": "t"}) for _ in range(2)]
    assert [decision.remaining for decision in shared] == [4, 3]
    first.release()
    own = engine.check("/", {"tenant": "t"})
    assert own.remaining == 2, "there is room now: a bucket of its own begins as the shared one"
    shared[0].release()
    assert engine.check("/", {"tenant": "t"}, 0).remaining == 3
    own.release()
    shared[1].release()
    assert engine.check("/", {"tenant": "t"}, 0).remaining == 5


@each_engine
def test_gate_holds_slots_for_hold(make: MakeEngine) -> None:
    clock = Clock()
    engine = make(clock, max_buckets=10)
    publish(engine, 2)
    gate = engine.gate("/", "tenant")
    assert [gate("t"), gate("t"), gate("t")] == [True, True, False]
    clock.now += HOLD
    assert gate("t")
