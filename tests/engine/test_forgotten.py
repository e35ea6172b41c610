"""Buckets without further requests are forgotten, whatever was published since."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from engine.drawn import OFFSET, WALL, set_wall
from engine.engines import each_engine
from engine.model import Limit
from engine.plans import by_scope, plan_set, rate, window
from engine.rules import SECOND, Quota, Slots
from ratectl.engine import control
from ratectl.engine.buckets.resets import PastResets

if TYPE_CHECKING:
    from engine.engines import MakeEngine
    from engine.rules import Rule

T = ("tenant",)
AGES = 10**15
"""Time above the refill time of every bucket here."""

CHANGES: dict[str, tuple[Rule, Rule, tuple[int, ...]]] = {
    "a rate": (rate(10, 60), rate(20, 60), (3,)),
    "a rate of a finer cut": (rate(10, 60), rate(7, 13), (3,)),
    "tokens to a window": (rate(10, 60), window(10, 60), (3,)),
    "a quota's unit": (Quota(10, "h", WALL), Quota(10, "day", WALL), (3,)),
    "a window's count": (window(10, 60), window(20, 60), (3,)),
    "a window's length": (window(10, 60), window(10, 3_600), (3,)),
    "a window's length, counted far": (window(10**9, 60), window(10**9, 3_600), (70_000,)),
    "a window's length, counted together": (
        window(10**9, 60), window(10**9, 3_600), (40_000, 40_000),
    ),
}  # fmt: skip


def publish(engine: object, generation: int, rule: Rule) -> None:
    limits = by_scope(Limit("/", "l", rule, T))
    engine.swap(plan_set(generation, limits, OFFSET))  # type: ignore[attr-defined]


class Clock:
    """A clock in nanoseconds that the test sets."""

    def __init__(self) -> None:
        self.now = 10**15
        set_wall(0)

    def __call__(self) -> int:
        return self.now


def come_and_go(engine: object, clock: Clock, each: int = 50) -> int:
    """Send requests of many other keys, six times with ages between; return the bucket count."""
    for number in range(6 * each):
        engine.check("/", {"tenant": f"late{number}"})  # type: ignore[attr-defined]
        if number % each == 0:
            clock.now += AGES
            engine.usage()  # type: ignore[attr-defined]
    return engine.usage().buckets  # type: ignore[attr-defined,no-any-return]


@each_engine
@pytest.mark.parametrize("change", CHANGES)
def test_buckets_are_forgotten_after_a_change_of(make: MakeEngine, change: str) -> None:
    before, after, costs = CHANGES[change]
    clock = Clock()
    engine = make(clock, max_buckets=10_000)
    publish(engine, 1, before)
    for cost in costs:
        for number in range(400):
            engine.check("/", {"tenant": str(number)}, cost)
        clock.now += 5 * SECOND
    publish(engine, 2, after)
    clock.now += AGES
    engine.usage()
    assert come_and_go(engine, clock) <= 100


@each_engine
def test_buckets_are_forgotten_if_untouched_ones_began_far_from_full(make: MakeEngine) -> None:
    """A first request then gets a bucket that is kept only as long as usual."""
    clock = Clock()
    engine = make(clock, max_buckets=10_000)
    publish(engine, 1, rate(100, 3_600, burst=100))
    publish(engine, 2, rate(10**6, 3_600, burst=10**6))
    first = engine.check("/", {"tenant": "first"})
    assert first.remaining == 99, "growth gave no tokens"
    publish(engine, 3, window(10**6, 3_600))
    clock.now += AGES
    for number in range(3_000):
        assert engine.check("/", {"tenant": str(number)}).remaining == 10**6 - 1
    if engine.name == "c":
        assert engine.bytes < 100 * 3_000  # type: ignore[attr-defined]
    assert come_and_go(engine, clock, each=500) <= 1_000


@each_engine
def test_buckets_are_forgotten_after_requests_of_very_many_scopes(
    make: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "_MAX_ALIASES", 10)
    clock = Clock()
    engine = make(clock, max_buckets=10_000)
    publish(engine, 1, rate(10, 60))
    for number in range(400):
        engine.check(f"/{number}", {"tenant": str(number)})
    clock.now += AGES
    for number in range(400):
        engine.check("/", {"tenant": f"late{number}"})
    assert len(engine._table) <= 401  # type: ignore[attr-defined]


@each_engine
def test_engine_without_eviction_follows_every_change(make: MakeEngine) -> None:
    """As in tests whose clock steps back; also without requests of the bucket meanwhile."""
    left = []
    for looks in (False, True):
        clock = Clock()
        engine = make(clock, max_buckets=10_000)
        engine._table.evicts = False  # type: ignore[attr-defined]
        publish(engine, 1, rate(1, 10**6, burst=100))
        engine.check("/", {"tenant": "t"}, 90)
        for generation in range(2, 80):
            clock.now += SECOND
            burst = (
                5 if generation == 3 else 100 + generation
            )  # the level that must not be forgotten
            publish(engine, generation, rate(1, 10**6, burst=burst))
            engine.usage()
            if looks:
                engine.check("/", {"tenant": "t"}, 0)
        publish(engine, 80, rate(1, 10**6, burst=100))
        left.append(engine.check("/", {"tenant": "t"}, 0).remaining)
    assert left == [5, 5]


@each_engine
def test_slots_end_in_order_at_times_beyond_61_bits(make: MakeEngine) -> None:
    clock = Clock()
    engine = make(clock, max_buckets=10)
    publish(engine, 1, Slots(7, 1))
    for cost in (1, 0, 1):  # the compiled core packs released slots
        engine.check("/", {"tenant": "t"}, cost).release()
    clock.now = 4 * 10**18
    assert engine.check("/", {"tenant": "t"}).remaining == 6
    clock.now -= 60 * SECOND
    assert engine.check("/", {"tenant": "t"}).remaining == 5
    clock.now += 1
    assert engine.check("/", {"tenant": "t"}, 0).remaining == 5, "the first slot is still held"


def test_resets_of_one_key_between_two_publications_take_no_more_memory() -> None:
    resets = PastResets()
    for _ in range(1_000):
        resets.add(("/", "l", False), {"tenant": "acme"}, 7)
    assert [len(seqs) for seqs in resets._seqs.values()] == [1]
    assert resets.within(("/", "l", False, (), T, "requests"), 7, None, {"tenant": "acme"})
