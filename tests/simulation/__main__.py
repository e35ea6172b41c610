"""Simulate many schedules: ``make simulate SEEDS=…``.

Without make: ``python -m simulation SEEDS [FIRST [windows]]``.
"""

from __future__ import annotations

import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from simulation.invariants import World
from simulation.schedule import DURATION, random_schedule, window_schedule
from simulation.shrinking import explained
from simulation.world import Violation


def run(seed: int, windows: bool = False) -> tuple[int, int, int, bool]:
    """Return the seed, the events, the tokens admitted, and whether it violates something."""
    world = World(window_schedule(seed) if windows else random_schedule(seed))
    try:
        world.run(DURATION)
    except Violation:
        return seed, world.events, world.admitted, True
    return seed, world.events, world.admitted, False


def main(count: int, first: int = 0, windows: bool = False) -> int:
    """Run seeds on all cores; print the failing ones, shrunk.

    :param windows: the limits are sliding windows.
    """
    began = time.monotonic()
    events = admitted = 0
    failing = []
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for seed, ran, passed, failed in pool.map(
            partial(run, windows=windows), range(first, first + count), chunksize=20
        ):
            events, admitted = events + ran, admitted + passed
            if failed:
                failing.append(seed)
    for seed in failing[:3]:
        print(explained(seed, windows=windows), end="\n\n")
    print(
        f"{count} seeds from {first} on: {len(failing)} violations {failing[:20]}, "
        f"{events:,} events, {admitted:,} tokens admitted, {time.monotonic() - began:.0f} s"
    )
    return 1 if failing else 0


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:3]), windows=sys.argv[3:] == ["windows"]))
