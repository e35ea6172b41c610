"""New algorithm that is unknown to the engine: implementing the protocol is enough.

It has no packing, so the compiled core boxes its buckets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.engines import MakeEngine, each_engine
from ratectl.engine.algorithms.protocol import NEVER, Algorithm, Extent
from ratectl.engine.algorithms.token_bucket import TokenBucket
from ratectl.engine.api import PlanSet, ScopePlan
from ratectl.engine.limit_plan import LimitPlan

if TYPE_CHECKING:
    from ratectl.engine.api import Engine

SECOND = 10**9
ACME = {"tenant": "acme"}

FixedState = tuple[int, int]
"""Start of the window, and the cost admitted in it."""


class FixedWindow(Algorithm[FixedState]):
    """At most ``capacity`` in each window, which begins with its first request."""

    __slots__ = ("_key", "capacity", "window_ns")

    def __init__(self, capacity: int, window_ns: int) -> None:
        self.capacity, self.window_ns = capacity, window_ns
        self._key = (capacity, window_ns)

    def full(self, now: int) -> FixedState:
        return now, 0

    def spent(self, used: int, now: int) -> FixedState:
        return now, used

    def advance(self, state: FixedState, now: int) -> FixedState:
        start, _ = state
        return (now, 0) if now >= start + self.window_ns else state

    def attempt(self, state: FixedState, cost: int, now: int) -> tuple[int, FixedState, int, None]:
        start, used = state = self.advance(state, now)
        left = self.capacity - used - cost
        if cost > self.capacity:
            return NEVER, state, 0, None
        if left < 0:
            return start + self.window_ns - now, state, 0, None
        return 0, (start if used else now, used + cost), left, None

    def settle(self, state: FixedState, more: int, now: int, since: int, cost: int) -> FixedState:
        start, used = self.advance(state, now)
        return start, max(0, used + more) if more > 0 or since >= start else used

    def used(self, state: FixedState, now: int) -> int:
        _, used = self.advance(state, now)
        return used

    def remaining(self, state: FixedState, now: int) -> int:
        return max(0, self.capacity - self.used(state, now))

    def reset_after(self, state: FixedState, now: int) -> int:
        start, used = self.advance(state, now)
        return start + self.window_ns - now if used else 0

    def extent(self) -> Extent:
        return Extent(self.capacity, 0, self.window_ns)

    def at(self, state: FixedState, now: int) -> int:
        start, _ = state
        return max(now, start)

    def same(self, one: FixedState, other: FixedState, now: int) -> bool:
        one, other = self.advance(one, now), self.advance(other, now)
        return one == other or self.used(one, now) == self.used(other, now) == 0

    def stricter(self, one: FixedState, other: FixedState, now: int) -> FixedState:
        return max(one[0], other[0]), max(self.used(one, now), self.used(other, now))

    def continued(self, old: FixedWindow, state: FixedState, now: int) -> FixedState:
        return old.advance(state, now)


def publish(engine: Engine, algorithm: Algorithm[Any], at: int) -> None:
    plan = LimitPlan(scope="/", name="l", algorithm=algorithm, per=("tenant",), shadow=False)
    scopes = {"/": ScopePlan("/", (plan,), allow_on_error=True)}
    engine.swap(PlanSet(engine.generation + 1, scopes), now=at * SECOND)


def answers(engine: Engine, *at: int) -> list[tuple[str, int | None, float | None]]:
    checks = [engine.check("/", ACME, now=second * SECOND) for second in at]
    return [(each.reason, each.remaining, each.retry_after) for each in checks]


@each_engine
def test_new_algorithm_decides_and_reports(make: MakeEngine) -> None:
    engine = make(lambda: 0)
    publish(engine, FixedWindow(2, 60 * SECOND), at=0)
    assert answers(engine, 0, 1, 2, 60) == [
        ("ok", 1, 0.0), ("ok", 0, 0.0), ("limited", 0, 58.0), ("ok", 1, 0.0),
    ]  # fmt: skip
    assert engine.check("/", ACME, 3, now=61 * SECOND).reason == "never"
    assert engine.usage().limits[0].keys == 1


@each_engine
def test_charges_of_a_new_algorithm_are_settled(make: MakeEngine) -> None:
    engine = make(lambda: 0)
    publish(engine, FixedWindow(5, 60 * SECOND), at=0)
    decision = engine.check("/", ACME, 4, now=0)
    engine.settle(decision, 1, now=SECOND)
    assert answers(engine, 2) == [("ok", 3, 0.0)]


@each_engine
def test_charges_of_a_new_algorithm_survive_changes(make: MakeEngine) -> None:
    """Its parameters change, then the algorithm changes to another one and back."""
    engine = make(lambda: 0)
    publish(engine, FixedWindow(5, 60 * SECOND), at=0)
    assert answers(engine, 0, 0) == [("ok", 4, 0.0), ("ok", 3, 0.0)]
    publish(engine, FixedWindow(4, 60 * SECOND), at=1)
    assert answers(engine, 1) == [("ok", 1, 0.0)]
    publish(engine, TokenBucket(1, 60 * SECOND, 5), at=2)
    assert answers(engine, 2) == [("ok", 1, 0.0)]
    publish(engine, FixedWindow(5, 60 * SECOND), at=3)
    assert answers(engine, 3, 62, 63) == [("ok", 0, 0.0), ("limited", 0, 1.0), ("ok", 4, 0.0)]
