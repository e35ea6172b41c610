"""Resets in both engines side by side: every field of every decision stays the same."""

from __future__ import annotations

import random

import pytest

pytest.importorskip("ratectl.engine.native.engine", exc_type=ImportError)

from engine.test_twins import SCOPES, Pair
from soak import scaled

LIMITS = (("l", False), ("m", False), ("n", False), ("bl", True), ("bm", True))
PERS = ((), ("tenant",), ("route",), ("tenant", "route"))


class ResetPair(Pair):
    """Two engines in which an operator resets keys. Their counts are not compared."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.operator = random.Random(f"operator {seed}")

    def usage(self) -> None:
        for engine in self.engines:
            engine.usage()

    def reset(self) -> None:
        pick = self.operator.choice
        scope, (name, budget) = pick(SCOPES), pick(LIMITS)
        values = {"tenant": pick((None, "x", "y")), "route": pick((None, "/v2"))}
        for per in PERS:
            key = {each: values[each] for each in per}
            done = [
                engine.reset(scope, name, key, budget=budget, now=self.now)
                for engine in self.engines
            ]
            assert (done[0] is None) == (done[1] is None)

    def step(self) -> None:
        if self.operator.random() < 0.05:
            self.reset()
        super().step()


@pytest.mark.parametrize("seed", range(scaled(15, 400)))
def test_both_engines_reset_alike(seed: int) -> None:
    pair = ResetPair(seed)
    pair.publish()
    for _ in range(400):
        pair.step()
    assert pair.reasons & {"limited", "never", "shadow"}
