"""Replay of an access log: requests per second, compared with only reading its lines.

Generated traffic as a *combined* log, one token bucket per client, one process, the pure engine.
CPU time, not wall time, as other work on the machine disturbs it less. "Lines, alone" is
``ratectl.traffic`` parsing every line and doing nothing with it; "decisions, alone" is the engine
on requests that lie ready.
"""

from __future__ import annotations

import os
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from bench.figures import show
from ratectl.compiler.activation import activate_tree
from ratectl.engine import open_engine
from ratectl.policy.language.model import Policy, PolicyTree
from ratectl.simulate import Traffic, read_map, replay
from ratectl.traffic import AccessLog, Shape, generate, write_log

if TYPE_CHECKING:
    from collections.abc import Callable

LINES = 200_000
ROUNDS = 7

_HEAD = b"apiVersion: ratectl/v1\nkind: TrafficMap\nformat: combined\n"
_MAP = _HEAD + b"scope: /web\nattributes: {client: client}\n"
_RICH = _HEAD + (
    b"scope: {field: path, rules: [{match: /files/*, scope: /web/files}, "
    b"{match: '*', scope: /web}]}\n"
    b"attributes: {client: client, method: method, agent: agent, "
    b"route: {field: path, segments: 1}}\n"
)


def _tree() -> PolicyTree:
    limit = {"rate": "1/s", "burst": 5, "per": "client"}
    return PolicyTree({"/": Policy.model_validate({"scope": "/", "limits": {"spike": limit}})})


def _per_second(work: Callable[[], int]) -> float:
    started = time.process_time()
    count = work()
    return count / (time.process_time() - started)


def run() -> dict[str, object]:
    os.environ["RATECTL_ENGINE"] = "pure"
    tree = _tree()
    taken: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "access.log"
        with path.open("w", encoding="utf-8") as file:
            write_log(islice(generate(seed=7, shape=Shape(rate=20.0)), LINES), file)

        def play(made: bytes, trees: int = 1) -> int:
            with path.open("rb") as log:
                traffic = Traffic(log, read_map(made, "map"))
                return replay(traffic, [(str(n), tree) for n in range(trees)]).requests

        def read() -> int:
            with path.open("rb") as log:
                return sum(map(len, Traffic(log, read_map(_MAP, "map")).batches()))

        with path.open("rb") as log:
            calls = [
                call for some in Traffic(log, read_map(_MAP, "map")).batches() for call in some
            ]

        def decide() -> int:
            engine = open_engine(lambda: 0)
            engine.swap(activate_tree(tree, 1), calls[0][0])
            for at, scope, attributes, cost in calls:
                engine.check(scope, attributes, cost, at)
            return len(calls)

        works: dict[str, Callable[[], int]] = {
            "lines, alone": lambda: sum(1 for _ in AccessLog(path)),
            "read, mapped and put in order": read,
            "decisions, alone": decide,
            "simulate, one limit": lambda: play(_MAP),
            "simulate, four attributes": lambda: play(_RICH),
            "simulate, against another": lambda: play(_MAP, 2),
        }
        for _ in range(ROUNDS):
            for name, work in works.items():
                taken.setdefault(name, []).append(_per_second(work) / 1e3)
    figures: dict[str, object] = {name: show(name, k, "k/s") for name, k in taken.items()}
    pairs = zip(taken["simulate, one limit"], taken["lines, alone"], strict=True)
    figures["ratio"] = show("simulate, one limit / lines, alone", [a / b for a, b in pairs], "x  ")
    return figures
