"""Sliding windows beside an exact log: the share that is refused early, and bytes for each key.

Shapes of traffic, at several counts, in windows of a minute: Poisson and periodic arrivals at
multiples of the limit, costs of many sizes, bursts exactly a window apart, and a mixture.
"""

from __future__ import annotations

import random
from collections import deque
from typing import TYPE_CHECKING

from ratectl.compiler.plans import compile_tree
from ratectl.engine.algorithms.sliding_window import CELLS, SlidingWindow
from ratectl.engine.native.engine import FastEngine
from ratectl.policy.language.model import Policy, PolicyTree

if TYPE_CHECKING:
    from collections.abc import Iterator

LENGTH = 60 * 10**9
WINDOWS = 30
COUNTS = (17, 100, 1_000, 5_000)
KEYS = 20_000
FINE = 128

Arrival = tuple[int, int]
"""Instant in nanoseconds, and cost."""


def _poisson(most: int, load: float, costs: tuple[int, ...] = (1,)) -> Iterator[Arrival]:
    chance, now = random.Random(most), 0.0
    pace = most * load / LENGTH * len(costs) / sum(costs)
    while now < WINDOWS * LENGTH:
        now += chance.expovariate(pace)
        yield int(now), chance.choice(costs)


def _periodic(most: int, load: float) -> Iterator[Arrival]:
    return ((int(i * LENGTH / (most * load)), 1) for i in range(int(WINDOWS * most * load)))


def _bursts(most: int, gap: int) -> Iterator[Arrival]:
    return ((k * LENGTH + i * gap, 1) for k in range(WINDOWS) for i in range(most))


def _shapes(most: int) -> dict[str, Iterator[Arrival]]:
    """Return arrivals by the name of their shape."""
    loads = (1, 1.25, 1.5, 3)
    half = (*_periodic(most, 0.5), *_bursts(most // 2, 1_000))
    return {
        **{f"poisson {load}x": _poisson(most, load) for load in loads},
        "poisson, mixed costs": _poisson(most, 1.25, (1, 1, 1, 2, 5, max(1, most // 20))),
        **{f"periodic {load}x": _periodic(most, load) for load in loads},
        "burst at one instant": _bursts(most, 0),
        "burst, 1 us apart": _bursts(most, 1_000),
        "burst, 1 ms apart": _bursts(most, 10**6),
        "burst over half a window": _bursts(most, LENGTH // 2 // most),
        "half periodic, half burst": iter(sorted(half)),
    }


def _refused_early(most: int, arrivals: Iterator[Arrival], cells: int) -> float:
    """Return the share of what an exact log admits that a window does not."""
    window = SlidingWindow(most, LENGTH, cells=cells)
    state = window.full(0)
    log: deque[Arrival] = deque()
    counted = exact = admitted = 0
    for now, cost in arrivals:
        wait, state, _, _ = window.attempt(state, cost, now)
        admitted += 0 if wait else cost
        while log and log[0][0] + LENGTH <= now:
            counted -= log.popleft()[1]
        if counted + cost <= most:
            log.append((now, cost))
            counted += cost
            exact += cost
    return 1 - admitted / exact


def _bytes(rate: str, instants: int, cells: int = CELLS) -> float:
    """Return the bytes of a key that was charged at so many instants."""
    engine = FastEngine(lambda: 0)
    limit = {"algorithm": "sliding-window", "rate": rate, "per": "tenant", "precision": cells}
    policy = Policy.model_validate({"scope": "/", "limits": {"l": limit}})
    engine.swap(compile_tree(PolicyTree({"/": policy}), 1))
    keys = [{"tenant": str(number)} for number in range(KEYS)]
    for now in range(instants):
        for key in keys:
            engine.check("/", key, now=now)
    return engine.bytes / KEYS


def run() -> dict[str, object]:
    """Return shares in percent, and bytes."""
    figures: dict[str, object] = {}
    for most in COUNTS:
        for cells, precision in ((CELLS, ""), (FINE, f", precision {FINE}")):
            for name, arrivals in _shapes(most).items():
                early = round(100 * _refused_early(most, arrivals, cells), 2)
                figures[f"{name}, {most}/min{precision}: refused early, %"] = early
    for rate in ("100/min", "1500/min", "20_000/h", "1000/day"):
        for instants in (1, 4, 16, 40):
            figures[f"bytes of a key, {rate}, {instants} instants"] = round(
                _bytes(rate, instants), 1
            )
    for rate in ("1500/min", "1000/day"):
        figures[f"bytes of a key, {rate}, precision {FINE}, 200 instants"] = round(
            _bytes(rate, 200, FINE), 1
        )
    for label, value in figures.items():
        print(f"  {label:<60} {value}")
    return figures
