"""Cost of stable keys: the compiled engine's decisions with and without a shared secret.

One hot bucket, through ``gate`` and ``check``, in turn, in CPU time. *Same object*: every request
has the same string object, whose hash Python remembers. *New objects*: a string per request, as
from a network; Python has to hash it as well. The pure engine keeps texts in either case.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from bench.figures import show
from ratectl.compiler.plans import compile_tree
from ratectl.engine import why_not_compiled
from ratectl.engine.stable_keys import StableKeys
from ratectl.policy.language.model import Policy, PolicyTree

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ratectl.engine.api import Engine

REQUESTS = 20_000
TURNS = 31
LENGTHS = (8, 36, 256)
"""Characters of a key: a short name, a UUID, and a long token."""


def engines() -> tuple[Engine, Engine]:
    """Return an engine without and one with stable keys."""
    from ratectl.engine.native.engine import FastEngine

    limit = {"rate": "1000000000/s", "burst": 10**9, "per": "tenant"}
    policy = Policy.model_validate({"scope": "/", "limits": {"spike": limit}})
    plans = compile_tree(PolicyTree({"/": policy}), 1)
    plain, stable = (
        FastEngine(time.monotonic_ns),
        FastEngine(time.monotonic_ns, stable_keys=StableKeys(bytes(range(16)))),
    )
    for engine in (plain, stable):
        engine.swap(plans)
    return plain, stable


def _gating(engine: Engine, keys: Sequence[str]) -> float:
    admits = engine.gate("/", "tenant")
    return _nanoseconds(admits, keys)


def _checking(engine: Engine, keys: Sequence[str]) -> float:
    check = engine.check
    requests = [{"tenant": key} for key in keys]
    started = time.process_time_ns()
    for attributes in requests:
        check("/", attributes)
    return (time.process_time_ns() - started) / len(requests)


def _nanoseconds(admits: Callable[[str], bool], keys: Sequence[str]) -> float:
    started = time.process_time_ns()
    for key in keys:
        admits(key)
    return (time.process_time_ns() - started) / len(keys)


def _keys(length: int, *, new: bool) -> list[str]:
    """Return equal keys: one object again and again, or an object for each request."""
    key = "k" * length
    return [key[:-1] + key[-1:] for _ in range(REQUESTS)] if new else [key] * REQUESTS


def run() -> dict[str, object]:
    problem = why_not_compiled()
    if problem:
        print(f"  nothing to measure: {problem}")
        return {}
    plain, stable = engines()
    figures: dict[str, object] = {}
    for length in LENGTHS:
        for new in (False, True):
            for name, measure in (("gate", _gating), ("check", _checking)):
                title = f"{name}, {length} chars, {'new objects' if new else 'same object'}"
                taken: tuple[list[float], list[float]] = ([], [])
                for turn in range(TURNS):
                    for side in (0, 1) if turn % 2 else (1, 0):
                        keys = _keys(length, new=new)
                        taken[side].append(measure((plain, stable)[side], keys))
                figures[f"{title}: default"] = show(f"{title}: default", taken[0], "ns")
                figures[f"{title}: stable"] = show(f"{title}: stable", taken[1], "ns")
    return figures
