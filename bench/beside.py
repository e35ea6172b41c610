"""Shadow evaluation: cost of a check with a candidate in shadow.

CPU time of one engine on the same hot keys, with and without a candidate, in turn.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from bench.figures import show
from ratectl.agent.shadow import ShadowEvaluator
from ratectl.agent.wall_clock import WallClock
from ratectl.compiler.plans import compile_tree
from ratectl.engine import open_engine
from ratectl.policy.language.model import Policy, PolicyTree
from ratectl.records import Candidate

if TYPE_CHECKING:
    from ratectl.engine.api import Engine

CHECKS = 20_000
TURNS = 30
KEYS = [{"tenant": f"t{number}"} for number in range(16)]


def tree(rate: str) -> PolicyTree:
    """Return a tree with one limit per tenant, which refuses nothing here."""
    said = {"scope": "/", "limits": {"spike": {"rate": rate, "burst": 10**9, "per": "tenant"}}}
    return PolicyTree({"/": Policy.model_validate(said)})


def _nanoseconds(engine: Engine) -> float:
    check = engine.check
    started = time.process_time_ns()
    for _ in range(CHECKS // len(KEYS)):
        for attributes in KEYS:
            check("/", attributes)
    return (time.process_time_ns() - started) / CHECKS


def run() -> dict[str, object]:
    engine = open_engine(time.monotonic_ns)
    engine.swap(compile_tree(tree("1000000/s"), 1))
    beside = ShadowEvaluator(engine, WallClock(), lambda: open_engine(time.monotonic_ns))
    candidate = Candidate(generation=2, bundle="", rollout="r", percent=100, mode="shadow")
    alone: list[float] = []
    both: list[float] = []
    for _ in range(TURNS):
        alone.append(_nanoseconds(engine))
        beside.begin(candidate, tree("2000000/s"))
        both.append(_nanoseconds(engine))
        beside.end()
    print(f"  engine: {engine.name}")
    figures: dict[str, object] = {
        "check": show("check", alone, "ns"),
        "check, a candidate in shadow": show("check, a candidate in shadow", both, "ns"),
    }
    ratio = sorted(two / one for one, two in zip(alone, both, strict=True))[TURNS // 2]
    print(f"  {'ratio':<44} {ratio:.1f}")
    return {**figures, "ratio": round(ratio, 2)}
