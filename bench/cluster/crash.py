"""Requests that processes admit after an owner of their limit was killed.

Real processes with a SQLite store share a limit, and each has the same number of requests. After
four seconds, the process that owns the limit, or half of it, is killed. The others can then admit
their own shares of the limit, or all of their requests if that is less. All figures are parts of
this number.
"""

from __future__ import annotations

import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from bench.cluster.asking import ask_by_wallet
from bench.cluster.processes import Processes
from bench.cluster.requests import SECOND, Requests
from ratectl.cluster.pools import _pool_name
from ratectl.cluster.sharding import SHARD_NAMES, SHARDS, shard_of_pool
from ratectl.policy.validation.cluster_bursts import parts_in

if TYPE_CHECKING:
    from bench.cluster.processes import Answer

PROCESSES: Final = 6
KILLED_AFTER: Final = 4
SECONDS: Final = 10
_BINS: Final = 10
"""Admitted requests are counted in so many parts of each second."""


class Case(NamedTuple):
    """A row."""

    rate: int
    """Also the burst."""
    load: float
    """Requests of all processes, as a multiple of the rate."""


CASES: Final = (Case(1_000, 2), Case(1_000, 0.4), Case(600, 3), Case(600, 0.4))


def run() -> dict[str, object]:
    """Measure each case once."""
    figures = {}
    for case in CASES:
        figures[f"{case.rate}/s at {case.load:g}"] = row = _measured(case)
        print(
            f"  {case.rate}/s burst {case.rate}, {case.load:g} times the rate:  "
            f"first second {row['first_second']:.0%}   worst half second "
            f"{row['worst_half_second']:.0%}   all again after {row['again_after']:.1f} s   "
            f"stall {row['stall_ms']:.0f} ms",
            flush=True,
        )
    return figures


def _measured(case: Case) -> dict[str, float]:
    limit = {"rate": f"{case.rate}/s", "burst": case.rate, "across": "cluster"}
    requests = Requests(PROCESSES, case.rate, case.load, SECONDS, SECONDS, hot=1 / PROCESSES)
    pool = _pool_name(("/", "fleet", True, (), (), "requests"))
    shard = SHARD_NAMES[0 if parts_in(case.rate) > 1 else shard_of_pool(pool, SHARDS)]
    killed_at = 0

    def kill() -> None:
        nonlocal killed_at
        time.sleep(1 + KILLED_AFTER)
        processes.kill_owner(shard)
        killed_at = time.monotonic_ns()

    with tempfile.TemporaryDirectory() as folder:
        policy = {"budgets": {"fleet": limit}}
        ask = partial(ask_by_wallet, requests)
        processes = Processes(Path(folder), policy, ask, PROCESSES)
        answers, stall = processes.run(kill)
        processes.end()
    left = (PROCESSES - 1) / PROCESSES
    parts = _parts(answers, killed_at, left * min(case.load, 1) * case.rate / _BINS)
    half = _BINS // 2
    worst = min(sum(parts[n : n + half]) / half for n in range(2 * _BINS))
    fives = [sum(parts[n : n + half]) / half for n in range(len(parts) - half)]
    late = max((n for n, part in enumerate(fives) if part < 0.9), default=-1)
    return {
        "first_second": sum(parts[:_BINS]) / _BINS,
        "worst_half_second": worst,
        "again_after": (late + 1) / _BINS,
        "stall_ms": stall / 1e6,
    }


def _parts(answers: list[Answer], since: int, usual: float) -> list[float]:
    """Return what was admitted in each tenth of a second since an instant, as a part of usual."""
    parts = [0.0] * ((SECONDS - KILLED_AFTER - 1) * _BINS)
    for answer in answers:
        place = (answer.at - since) * _BINS // SECOND
        if answer.allowed and 0 <= place < len(parts):
            parts[place] += 1 / usual
    return parts
