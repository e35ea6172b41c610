"""Flood of keys: ten million unique keys within one memory limit.

A key that was refused before must stay refused, the process must stay within the limit, and no
insertion may wait for the table to grow. Insertions and look-ups take turns, a thousand at a time,
so that other work on the machine disturbs both alike; their long calls are counted side by side.
One difference remains: only insertions touch memory for the first time, which the system allocates.
So the first touch of as much memory, without the engine, is measured as well.
"""

from __future__ import annotations

import mmap
import os
import time
from pathlib import Path
from typing import Any

from ratectl.compiler.plans import compile_tree
from ratectl.engine.buckets.table import DEFAULT_MAX_BYTES
from ratectl.engine.native.engine import FastEngine
from ratectl.policy.language.model import Policy, PolicyTree

KEYS = 10_000_000
GROWN = 1_000_000
"""Number of tracked keys at which the longest insertion is reported."""

LONG_NS = 200_000
TURN = 1_000

LIMITS: dict[str, dict[str, Any]] = {
    "token bucket": {"rate": "10/day", "burst": 10, "per": "tenant"},
    "sliding window": {"algorithm": "sliding-window", "rate": "10/day", "per": "tenant"},
}


def _resident() -> int:
    statm = Path("/proc/self/statm").read_text(encoding="ascii")
    return int(statm.split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _engine(limit: dict[str, Any]) -> FastEngine:
    made = FastEngine(time.monotonic_ns)
    policy = Policy.model_validate({"scope": "/", "limits": {"l": limit}})
    made.swap(compile_tree(PolicyTree({"/": policy}), 1))
    return made


def _long_calls(gate: Any, keys: range) -> tuple[int, int]:
    """Return the number of calls above LONG_NS, and the longest, in CPU time of this thread."""
    clock, count, longest = time.thread_time_ns, 0, 0
    for number in keys:
        key = str(number)
        started = clock()
        gate(key)
        taken = clock() - started
        count += taken > LONG_NS
        longest = max(longest, taken)
    return count, longest


def _grow(gate: Any) -> dict[str, object]:
    """Insert a million keys, and look each up once, in turns."""
    inserted, looked_up = [0, 0], [0, 0]
    for first in range(0, GROWN, TURN):
        keys = range(first, first + TURN)
        for tally in (inserted, looked_up):
            count, longest = _long_calls(gate, keys)
            tally[0] += count
            tally[1] = max(tally[1], longest)
    return {
        "insertions above 0.2 ms": inserted[0],
        "look-ups above 0.2 ms": looked_up[0],
        "longest insertion, ms": round(inserted[1] / 1e6, 3),
        "longest look-up, ms": round(looked_up[1] / 1e6, 3),
    }


def _touch(size: int) -> dict[str, object]:
    """Touch that many bytes of new memory, a page at a time; CPU time of this thread."""
    clock, count, longest = time.thread_time_ns, 0, 0
    with mmap.mmap(-1, size) as memory:
        for at in range(0, size, mmap.PAGESIZE):
            started = clock()
            memory[at] = 1
            taken = clock() - started
            count += taken > LONG_NS
            longest = max(longest, taken)
    return {
        "first touches above 0.2 ms": count,
        "longest first touch, ms": round(longest / 1e6, 3),
    }


def _flood(limit: dict[str, Any]) -> dict[str, object]:
    before = _resident()
    made = _engine(limit)
    gate = made.gate("/", "tenant")
    victim = [gate("victim") for _ in range(11)]
    assert victim == [True] * 10 + [False]
    figures = _grow(gate)
    figures |= _touch(made.bytes)
    figures["bytes for each key"] = round(made.bytes / GROWN, 1)
    for number in range(GROWN, KEYS):
        gate(str(number))
    usage = made.usage()
    return {
        **figures,
        "victim still refused": not gate("victim"),
        "keys with a bucket of their own": usage.buckets,
        "admitted from shared buckets": usage.overflowed,
        "resident MB, of 256": round((_resident() - before) / 2**20, 1),
        "within the budget": made.bytes <= DEFAULT_MAX_BYTES,
    }


def run() -> dict[str, object]:
    figures: dict[str, object] = {}
    for name, limit in LIMITS.items():
        print(f"  {name}")
        figures[name] = told = _flood(limit)
        for label, value in told.items():
            print(f"    {label:<34} {value}")
    return figures
