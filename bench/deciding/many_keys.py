"""A million keys: each candidate alone in a fresh process, one after the other.

``python -m bench.deciding.many_keys <candidate> <file of draws> <keys> <slice> <rounds>``

The process reads its resident memory, makes one decision for every key, and reads it
again: the difference gives bytes per key, with the keys' texts if a store keeps them. Then it
decides for keys drawn by Zipf's law, the same draws for each candidate; their texts are new
objects every time, as in requests. Both empty calls run over such texts in the same rounds.
"""

from __future__ import annotations

import bisect
import gc
import json
import random
import resource
import subprocess
import sys
from array import array
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.deciding import ours
from bench.deciding.candidate import Setting, in_threads, spent
from bench.deciding.floors import C_CALL, FLOORS, PYTHON_CALL
from bench.deciding.hot import THREADS
from bench.deciding.peers import PEERS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from bench.deciding.candidate import Builder, Candidate

__all__ = ["draw", "measure"]

_SEED = 20_261_124
_EXPONENT = 1.1
_THREADED_ROUNDS = 3
_PAGE = resource.getpagesize()


def draw(path: Path, keys: int, count: int) -> None:
    """Write ``count`` draws from ``keys`` keys: the k-th most frequent as often as 1/k^1.1.

    The frequency of a key is independent of its first occurrence.
    """
    chance = random.Random(_SEED)
    weights = list(accumulate(rank**-_EXPONENT for rank in range(1, keys + 1)))
    order = list(range(keys))
    chance.shuffle(order)
    ranks = (bisect.bisect(weights, chance.random() * weights[-1], 0, keys - 1)
             for _ in range(count))  # fmt: skip
    with path.open("wb") as file:
        array("I", (order[rank] for rank in ranks)).tofile(file)


def measure(name: str, draws: Path, keys: int, each: int, rounds: int) -> dict[str, Any] | None:
    """Return the figures of one candidate, from its own process; None if it cannot be built."""
    given = [name, str(draws), *map(str, (keys, each, rounds))]
    done = subprocess.run(
        [sys.executable, "-m", "bench.deciding.many_keys", *given],
        cwd=Path(__file__).resolve().parent.parent.parent,
        stdout=subprocess.PIPE,
        check=True,
    )
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def _text(key: int) -> str:
    return f"client-{key:07d}"


def _resident() -> int:
    """Return the resident bytes now; the maximum so far if the system has only that."""
    gc.collect()
    try:
        return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * _PAGE
    except OSError:
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024


def _filled(candidate: Candidate, keys: int) -> dict[str, float]:
    """Make one decision for every key."""
    loop = candidate.over_keys()
    loop(map(_text, range(min(keys, 100))))
    candidate.rest()
    before = _resident()
    took = spent(loop, map(_text, range(keys)))
    candidate.rest()
    return {"bytes_per_key": (_resident() - before) / keys, "first_ns": took / keys}


class _Draws:
    """The drawn keys, slice by slice, over and over."""

    def __init__(self, path: Path, each: int) -> None:
        self._keys = array("I")
        with path.open("rb") as file:
            self._keys.fromfile(file, path.stat().st_size // self._keys.itemsize)
        self._each = each
        self._at = 0

    def texts(self) -> list[str]:
        if self._at + self._each > len(self._keys):
            self._at = 0
        found = self._keys[self._at : self._at + self._each]
        self._at += self._each
        return list(map(_text, found))


def _rounds(candidate: Candidate, draws: _Draws, rounds: int) -> dict[str, list[float]]:
    """Measure in turn: both empty calls, the candidate, and the candidate in four threads."""
    loop = candidate.over_keys()
    floors = {name: FLOORS[name](Setting()).over_keys() for name in (C_CALL, PYTHON_CALL)}
    taken: dict[str, list[float]] = {name: [] for name in (*floors, "zipf_ns", "zipf_threads_ns")}

    def each(name: str, run: Callable[[Iterable[str]], Any]) -> None:
        texts = draws.texts()
        taken[name].append(spent(run, texts) / len(texts))

    for _ in range(rounds):
        for name, floor in floors.items():
            each(name, floor)
        candidate.rest()
        each("zipf_ns", loop)
        candidate.rest()
        if not candidate.asynchronous and len(taken["zipf_threads_ns"]) < _THREADED_ROUNDS:
            parts = [draws.texts()[::THREADS] for _ in range(THREADS)]
            taken["zipf_threads_ns"].append(in_threads(loop, parts) / sum(map(len, parts)))
    return taken


def _main(name: str, draws: str, keys: str, each: str, rounds: str) -> dict[str, Any] | None:
    builders: dict[str, Builder] = dict(PEERS)
    for engine in ours.engines():
        builders |= ours.of(engine)
    try:
        candidate = builders[name](Setting.many(int(keys)))
    except ImportError:
        return None
    figures: dict[str, Any] = dict(_filled(candidate, int(keys)))
    return figures | _rounds(candidate, _Draws(Path(draws), int(each)), int(rounds))


if __name__ == "__main__":
    print(json.dumps(_main(*sys.argv[1:])))
