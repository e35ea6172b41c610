"""Both engines side by side on concurrency limits: random slots taken, released, expired, reloaded.

The compiled engine has to decide nearly all of it itself. Idle buckets are evicted all the time,
since keys come and go. In some runs the clock steps back too.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest

from engine.plans import verdict
from policy.trees import tree
from ratectl.compiler.plans import compile_tree
from ratectl.engine.pure import PureEngine

fast = pytest.importorskip("ratectl.engine.native.engine", exc_type=ImportError)

if TYPE_CHECKING:
    from ratectl.engine.decision import Decision

SECOND = 10**9
STEPS = (0, 0, 0, 1, SECOND // 7, SECOND, 3 * SECOND, 20 * SECOND)
HOLDS = ("1s", "5s", "30s")


class Counting(fast.FastEngine):  # type: ignore[misc,name-defined]
    """The compiled engine, counting the requests and releases that its core leaves to Python."""

    left = 0
    """Requests."""
    releases = 0

    def _made(self, *request: Any) -> Decision:
        self.left += 1
        decision: Decision = super()._made(*request)
        return decision

    def release(self, decision: Decision) -> None:
        # Those decided in Python, or settled, are released there.
        self.releases += getattr(decision, "_notes", ()) is None
        super().release(decision)


class Twins:
    def __init__(self, seed: int, *, back: bool) -> None:
        self.chance = random.Random(seed)
        self.steps = (*STEPS, -1, -SECOND, -7 * SECOND) if back else STEPS
        self.now = 10**15
        self.engines: list[Any] = [PureEngine(lambda: self.now), Counting(lambda: self.now)]
        for engine in self.engines:
            engine._table.evicts = not back  # with such a clock, the order of evictions shows
        self.kept: list[list[Decision]] = []
        self.generation = 0
        self.first = self.limits()
        self.swap(self.first)

    def limit(self) -> dict[str, Any]:
        chance = self.chance
        return {
            "algorithm": "concurrency",
            "max": chance.choice((0, 1, 3, 6, 20)),
            "hold": chance.choice(HOLDS),
            **chance.choice(({}, {"per": ["key"]})),
            **chance.choice(({}, {}, {}, {"mode": "shadow"})),
        }

    def limits(self) -> dict[str, Any]:
        beside = {"rate": "4/s", "burst": 30, "per": ["key"]}
        return {"c": self.limit(), "d": self.limit(), "t": beside}

    def swap(self, limits: dict[str, Any], **below: dict[str, Any]) -> None:
        self.generation += 1
        documents = {"/": {"limits": limits}}
        documents |= {f"/{name}": {"limits": of} for name, of in below.items()}
        plans = compile_tree(tree(documents), self.generation)
        for engine in self.engines:
            engine.swap(plans, now=self.now)

    def request(self) -> tuple[str, dict[str, str], int]:
        chance = self.chance
        # A few keys that stay busy, and others that come once.
        key = chance.choice(("x", "x", "y", f"{chance.random()}"))
        return chance.choice(("/", "/a")), {"key": key}, chance.choice((1, 1, 1, 2, 3, 0, 21))

    def both(self, ask: Any) -> list[Any]:
        return [ask(engine) for engine in self.engines]

    def step(self) -> None:
        chance = self.chance
        kind = chance.choice(("check",) * 6 + ("many", "gate", "release", "release", "settle"))
        self.now = max(0, self.now + chance.choice(self.steps))
        if kind == "check":
            request = self.request()
            self.keep(self.both(lambda engine: engine.check(*request)))
        elif kind == "many":
            several = [self.request() for _ in range(3)]
            answers = self.both(lambda engine: engine.check_many(several))
            for pair in zip(*answers, strict=True):
                self.keep(list(pair))
        elif kind == "gate":
            scope, attributes, cost = self.request()
            one, other = self.both(
                lambda engine: engine.gate(scope, "key", cost=cost)(attributes["key"])
            )
            assert one == other
        elif self.kept:
            pair = self.kept[chance.randrange(len(self.kept))]
            for decision in pair:  # more than once, at times
                if kind == "release":
                    decision.release()
                else:
                    decision.settle(2)

    def keep(self, pair: list[Decision]) -> None:
        one, other = pair
        assert verdict(one) == verdict(other), self.now
        if one and self.chance.random() < 0.7:  # the others are dropped while they hold slots
            self.kept = [*self.kept[-11:], pair]


@pytest.mark.parametrize("back", [False, True])
@pytest.mark.parametrize("seed", range(8))
def test_slots_of_both_engines_are_alike(seed: int, back: bool) -> None:
    twins = Twins(seed, back=back)
    limits = twins.first
    for _ in range(20):
        for _ in range(40):
            twins.step()
        kind = twins.chance.choice(("max", "hold", "limits", "below", "algorithm", "same"))
        if kind == "max":
            limits["c"]["max"] = twins.chance.choice((1, 2, 7))
        elif kind == "hold":
            limits["c"]["hold"] = twins.chance.choice(HOLDS)
        elif kind == "limits":
            limits = twins.limits()
        elif kind == "algorithm":
            limits["d"] = twins.chance.choice((twins.limit(), {"rate": "3/s", "per": ["key"]}))
        twins.swap(limits, **({"a": twins.limits()} if kind == "below" else {}))


@pytest.mark.parametrize("seed", range(4))
def test_core_decides_slots_across_new_parameters(seed: int) -> None:
    """Changes of ``max``, ``hold`` and the mode while slots are held leave nothing to Python."""
    twins = Twins(seed, back=False)
    limits = twins.first
    engine = twins.engines[1]
    for _ in range(12):
        limits["c"] |= {
            "max": twins.chance.choice((3, 6, 20)),
            "hold": twins.chance.choice(HOLDS),
            "mode": twins.chance.choice(("enforce", "shadow")),
        }
        twins.swap(limits)
        for _ in range(40):
            twins.step()
    assert (engine.left, engine.releases) == (0, 0)
