"""Share of central buckets' admissions that processes use of a limit of each key, and excess.

Real processes with a SQLite store ask for 100,000 keys, the n-th as often as 1/n. Each key has a
limit of its own (`per`, `across: cluster`). What was admitted is compared with one central bucket
for each key on the same arrivals: of all keys, and of those whose limit has refused something.
Excess is the number of tokens beyond burst + rate · window in the worst window of any key, by the
readings of the clock that the decisions used.
"""

from __future__ import annotations

import bisect
import itertools
import random
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.cluster.figures import Bucket
from bench.cluster.processes import Answer, Processes
from bench.cluster.requests import SECOND

if TYPE_CHECKING:
    from ratectl import Agent

PROCESSES: Final = 20
KEYS: Final = 100_000
RATE: Final = 20
BURST: Final = 60
EACH: Final = 100
"""Requests of each process in a second."""
SECONDS: Final = 60
"""A process's own part of a key takes up to 50 seconds for a token."""
WARM: Final = 6


def _ask(agent: Agent, number: int, start: int) -> list[Answer]:
    rnd = random.Random(number)
    weights = list(itertools.accumulate(1 / n for n in range(1, KEYS + 1)))
    check = agent._engine.check
    answers: list[Answer] = []
    now = start
    while (now := now + int(rnd.expovariate(EACH) * SECOND)) <= start + SECONDS * SECOND:
        key = bisect.bisect(weights, rnd.random() * weights[-1])
        wait = now - time.monotonic_ns()
        if wait > 0:
            time.sleep(wait / 1e9)
        at = time.monotonic_ns()
        allowed = check("/", {"tenant": str(key)}, 1, at).allowed
        answers.append(Answer(at, key, allowed))
    return answers


def run() -> dict[str, object]:
    """Measure once."""
    limit = {"rate": f"{RATE}/s", "burst": BURST, "per": "tenant", "across": "cluster"}
    with tempfile.TemporaryDirectory() as folder:
        processes = Processes(Path(folder), {"limits": {"each": limit}}, _ask, PROCESSES)
        asked, stall = processes.run()
        processes.end()
    row = _measured(asked)
    print(
        f"  {PROCESSES} processes, {row['keys']:,.0f} keys   used {row['used']:.1%}   "
        f"limited keys {row['limited']:.1%} ({row['limited_keys']:.0f} keys)   "
        f"rarer keys {row['rare']:.2%}   excess {row['excess']:.1f}   stall {stall / 1e6:.0f} ms",
        flush=True,
    )
    return {**row, "stall_ms": stall / 1e6}


def _measured(asked: list[Answer]) -> dict[str, float]:
    start, worst = asked[0].at, 0.0
    ideal: dict[int, Bucket] = {}
    rulers: dict[int, Bucket] = {}
    here: Counter[int] = Counter()
    there: Counter[int] = Counter()
    limited = set()
    for at, key, allowed, _ in asked:
        best = ideal.setdefault(key, Bucket(RATE, BURST, start)).admits(at)
        if allowed:
            worst = min(worst, rulers.setdefault(key, Bucket(RATE, BURST, start)).charge(at))
        if not best:
            limited.add(key)
        if at - start >= WARM * SECOND:
            here[key] += allowed
            there[key] += best
    return {
        "keys": len(ideal),
        "used": here.total() / there.total(),
        "limited_keys": len(limited),
        "limited": _part(here, there, limited),
        "rare": _part(here, there, ideal.keys() - limited),
        "excess": max(0.0, -worst),
    }


def _part(here: Counter[int], there: Counter[int], keys: set[int]) -> float:
    return sum(here[key] for key in keys) / max(1, sum(there[key] for key in keys))
