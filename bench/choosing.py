"""Cost of choosing limits by attributes: decisions with and without overrides.

Pairs are measured in turn, in CPU time, through the engine's whole ``check`` on hot keys: with ten
attributes that nothing mentions beside none, with 2,000 overrides beside one, with 10,000 scopes
below beside 10, and with overrides beside none. Then the *first sight* of combinations: the first
decision under each, beside the same decision again and the making of its plan alone.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from bench.figures import show
from ratectl.compiler.plans import compile_tree
from ratectl.engine.conditional_limit import LimitChoice
from ratectl.engine.pure import PureEngine
from ratectl.policy.language.model import Policy, PolicyTree

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CHECKS = 20_000
TURNS = 30

Request = tuple[str, dict[str, str]]


def tree(scopes: int, overrides: int) -> PolicyTree:
    """Return a tree: a limit at the root, overrides for some tenants, and services that inherit."""
    root: dict[str, Any] = {
        "scope": "/",
        "limits": {"spike": {"rate": "1000000/s", "burst": 10**6, "per": "tenant"}},
    }
    if overrides:
        root["overrides"] = [
            {
                "name": f"tenant{n}",
                "match": {"tenant": f"t{n}", "tier": ["gold", "platinum"]},
                "limits": {"spike": {"rate": f"{1_000_001 + n}/s"}},
            }
            for n in range(overrides)
        ]
    said = [root, *({"scope": f"/service{n}"} for n in range(scopes - 1))]
    policies = [Policy.model_validate(each) for each in said]
    return PolicyTree({policy.scope: policy for policy in policies})


def engine(scopes: int, overrides: int) -> PureEngine:
    made = PureEngine(time.monotonic_ns)
    made.swap(compile_tree(tree(scopes, overrides), 1))
    return made


def _nanoseconds(on: PureEngine, requests: Sequence[Request]) -> float:
    check = on.check
    rounds = CHECKS // len(requests)
    started = time.process_time_ns()
    for _ in range(rounds):
        for scope, attributes in requests:
            check(scope, attributes)
    return (time.process_time_ns() - started) / (rounds * len(requests))


def run() -> dict[str, object]:
    gold = {"tenant": "t0", "tier": "gold"}
    asked = [(f"/service{n}", gold) for n in range(5)]
    many = {**gold, **{f"header{n}": "x" * 40 for n in range(10)}}
    plain, one, all_tenants = engine(10, 0), engine(10, 1), engine(10, 2_000)
    large = engine(10_000, 1)
    far = [(f"/service{9_000 + n}", gold) for n in range(5)]
    pairs = {
        "10 attributes that nothing mentions / none": (
            (plain, asked), (plain, [(scope, many) for scope, _ in asked]),
        ),
        "10,000 scopes / 10, an override": ((one, asked), (large, far)),
        "2,000 overrides / 1": ((one, asked), (all_tenants, asked)),
        "an override on two attributes / none": ((plain, asked), (one, asked)),
    }  # fmt: skip
    figures: dict[str, object] = {}
    for name, pair in pairs.items():
        taken: tuple[list[float], list[float]] = ([], [])
        for turn in range(TURNS):
            for side in (0, 1) if turn % 2 else (1, 0):
                taken[side].append(_nanoseconds(*pair[side]))
        figures[f"{name}: base"] = show("  check", taken[0], "ns")
        ratios = [b / a for a, b in zip(*taken, strict=True)]
        figures[name] = show(name, ratios, "x ")
    return {**figures, **first_sight()}


def first_sight() -> dict[str, object]:
    """Measure decisions of 2,000 combinations of overrides, each for the first time and again."""
    asked = [("/service0", {"tenant": f"t{n}", "tier": "gold"}) for n in range(2_000)]
    taken: dict[str, list[float]] = {"first sight": [], "again": [], "its plan alone": []}
    for _ in range(5):
        fresh = engine(10, len(asked))
        choice = compile_tree(tree(10, len(asked)), 1).scopes["/service0"].limits[0]
        assert isinstance(choice, LimitChoice)
        fresh.check("/service0", {"tenant": "another", "tier": "gold"})
        for name in ("first sight", "again"):
            taken[name] += _each(fresh.check, asked)
        taken["its plan alone"] += _each(choice.plan, [(1 << n,) for n in range(len(asked))])
    figures: dict[str, object] = {name: show(name, ns, "ns") for name, ns in taken.items()}
    first, again, plan = (sorted(ns)[len(ns) // 2] for ns in taken.values())
    figures["first sight: bound"] = round(first / (3 * again + plan), 2)
    print(f"  first sight takes {figures['first sight: bound']} of 3 decisions and a plan")
    return figures


def _each(call: Callable[..., object], arguments: Sequence[tuple[object, ...]]) -> list[float]:
    """Return the nanoseconds of a call with each of these arguments."""
    taken = []
    for some in arguments:
        started = time.process_time_ns()
        call(*some)
        taken.append(float(time.process_time_ns() - started))
    return taken
