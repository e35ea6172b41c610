"""A tree of 10,000 scopes: validate, explain and compile it, and find plans in it.

The tree is generated (seeded): a company's teams with a few services each, endpoints below these,
inherited limits that are overridden, caps and budgets. Commands are whole processes, on a file for
each scope and on a file for each team, in turn: wall time, and CPU time beside it, which other work
on the machine disturbs less. Finding a plan is CPU time in this process, in trees of 10 and of
10,000 scopes in turn: on the same number of scopes, so that both use the same memory, and then
over all 10,000, where the larger tree costs cache misses.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.figures import show
from bench.loading import measure
from ratectl.compiler.plans import compile_tree
from ratectl.policy.bundle import encode_policies
from ratectl.policy.language.model import Policy, PolicyTree

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ratectl.engine.api import PlanSet

SCOPES = 10_000
SMALL = 10
SEED = 20_261_124
ROUNDS = 7
ASKED = 10
FINDS = 100_000

_MAIN = "from ratectl_cli.app import main; main()"

Said = dict[str, dict[str, Any]]


def documents(scopes: int = SCOPES, seed: int = SEED) -> Said:
    """Return the documents of a tree of that many scopes, parents first."""
    chance = random.Random(seed)
    said: Said = {
        "/": {
            "description": "What everybody gets",
            "limits": {
                "spike": {"rate": "50/s", "burst": 100, "per": "tenant"},
                "steady": {"algorithm": "sliding-window", "rate": "1500/min", "per": "tenant"},
            },
            "caps": {"spike": {"rate": "1000/s", "burst": 5000}},
        }
    }
    team = 0
    while len(said) < scopes:
        team += 1
        said[f"/team{team}"] = {
            "owner": f"team-{team}",
            "budgets": {"all": {"rate": f"{chance.randint(20, 90) * 1000}/s"}},
        }
        for number in range(chance.randint(2, 12)):
            service = f"/team{team}/service{number}"
            said[service] = _service(chance)
            for endpoint in range(chance.randint(0, 20)):
                said[f"{service}/endpoint{endpoint}"] = _endpoint(chance)
    return dict(list(said.items())[:scopes])


def _service(chance: random.Random) -> dict[str, Any]:
    rate = chance.randint(10, 400)
    said: dict[str, Any] = {
        "description": "A service of the team",
        "limits": {"spike": {"rate": f"{rate}/s", "burst": 2 * rate}},
    }
    if chance.random() < 0.3:
        said["limits"]["daily"] = {
            "algorithm": "quota", "rate": f"{chance.randint(1, 9) * 100_000}/day", "per": "tenant",
        }  # fmt: skip
    if chance.random() < 0.1:
        said["on_error"] = "deny"
    return said


def _endpoint(chance: random.Random) -> dict[str, Any]:
    name = chance.choice(("spike", "spike", "writes", "search"))
    said: dict[str, Any] = {"rate": f"{chance.randint(1, 9)}/s"}
    if name != "spike":
        said["per"] = ["tenant", "route"]
    return {"limits": {name: said}}


def tree(said: Said) -> PolicyTree:
    return PolicyTree(
        {scope: Policy.model_validate({"scope": scope, **of}) for scope, of in said.items()}
    )


def write(said: Said, folder: Path, depth: int) -> int:
    """Write a file for each scope of ``depth`` segments, with its subtree; return their number."""
    texts: dict[str, list[str]] = {}
    for scope, of in said.items():
        name = "/".join(scope.split("/")[1 : depth + 1]) or "global"
        texts.setdefault(name, []).append(_yaml(scope, of))
    for name, parts in texts.items():
        path = folder / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("---\n".join(parts), "utf-8")
    return len(texts)


def _yaml(scope: str, said: dict[str, Any]) -> str:
    lines = ["apiVersion: ratectl/v1", f"scope: {scope}"]
    for field, value in said.items():
        if isinstance(value, dict):
            lines.append(f"{field}:")
            lines += [f"  {name}: {_flow(of)}" for name, of in value.items()]
        else:
            lines.append(f"{field}: {value}")
    return "\n".join(lines) + "\n"


def _flow(value: dict[str, Any]) -> str:
    fields = (f"{k}: [{', '.join(v)}]" if isinstance(v, list) else f"{k}: {v}"
              for k, v in value.items())  # fmt: skip
    return f"{{{', '.join(fields)}}}"


def commands(said: Said) -> dict[str, list[float]]:
    """Measure the wall time of whole processes, in turn."""
    asked = [scope for scope in said if scope.count("/") == 3][-1]
    taken: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as place:
        folders = {"scope": (Path(place) / "scopes", 9), "team": (Path(place) / "teams", 1)}
        for name, (folder, depth) in folders.items():
            print(f"  a file for each {name}: {write(said, folder, depth)} files")
        works = {"an interpreter that does nothing": [sys.executable, "-c", "pass"]}
        for name, (folder, _) in folders.items():
            run = [sys.executable, "-c", _MAIN]
            works[f"validate, a file for each {name}"] = [*run, "validate", str(folder)]
            explain = ["explain", asked, "--policies", str(folder)]
            works[f"explain, a file for each {name}"] = [*run, *explain]
        for _ in range(ROUNDS):
            for name, command in works.items():
                wall, cpu = _milliseconds(command)
                taken.setdefault(name, []).append(wall)
                taken.setdefault(f"{name}, CPU", []).append(cpu)
    return taken


def _milliseconds(command: Sequence[str]) -> tuple[float, float]:
    """Return wall and CPU time of a process, in milliseconds."""
    before = os.times()
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    wall, after = time.perf_counter() - started, os.times()
    cpu = sum(after[2:4]) - sum(before[2:4])
    return wall * 1e3, cpu * 1e3


def _nanoseconds(plans: PlanSet, asked: Sequence[str], finds: int = FINDS) -> float:
    """Return the nanoseconds per find, over these scopes again and again."""
    find = plans.find
    rounds = finds // len(asked)
    started = time.process_time_ns()
    for _ in range(rounds):
        for scope in asked:
            find(scope)
    return (time.process_time_ns() - started) / (rounds * len(asked))


def finding(said: Said) -> dict[str, dict[str, float]]:
    """Measure the finding of plans in a small and a large tree, in turn, on as many scopes each."""
    chance = random.Random(SEED)
    small, large = (
        compile_tree(tree(dict(list(said.items())[:SMALL])), 1),
        compile_tree(tree(said), 1),
    )
    kinds: dict[str, Callable[[str], str]] = {
        "declared": _copy,
        "undeclared, two below": lambda scope: f"{scope.rstrip('/')}/no/where",
    }
    figures: dict[str, dict[str, float]] = {}
    for kind, below in kinds.items():
        few = [below(scope) for scope in small.scopes]
        # Scopes as deep as in the small tree: each segment of an undeclared scope costs a look-up.
        many = _as_deep(list(large.scopes), list(small.scopes), chance)
        asked = [below(scope) for scope in many]
        taken: dict[str, list[float]] = {"small": [], "large": []}
        for turn in range(4 * ROUNDS):
            pair = (("small", small, few), ("large", large, asked))
            for name, plans, scopes in pair if turn % 2 else reversed(pair):
                taken[name].append(_nanoseconds(plans, scopes))
        for name, count in (("small", SMALL), ("large", len(said))):
            title = f"find, {kind}, {count} scopes"
            figures[title] = show(title, taken[name], "ns")
        ratios = [b / a for a, b in zip(taken["small"], taken["large"], strict=True)]
        figures[f"ratio, {kind}"] = show(f"ratio, {kind}", ratios, "x ")
        every = [below(scope) for scope in large.scopes]
        chance.shuffle(every)
        title = f"find, {kind}, all of {len(said)} in turn"
        figures[title] = show(title, [_nanoseconds(large, every) for _ in range(ROUNDS)], "ns")
    return figures


def _copy(text: str) -> str:
    """Return an equal string that is another object, as a request has it."""
    return text.encode().decode()


def _as_deep(scopes: Sequence[str], like: Sequence[str], chance: random.Random) -> list[str]:
    """Return one of the scopes with as many segments, for each of ``like``."""
    by_depth: dict[int, list[str]] = {}
    for scope in scopes:
        by_depth.setdefault(scope.count("/") - (scope == "/"), []).append(scope)
    return [chance.choice(by_depth[one.count("/") - (one == "/")]) for one in like]


def run() -> dict[str, object]:
    said = documents()
    figures: dict[str, object] = {n: show(n, ms) for n, ms in commands(said).items()}
    data = encode_policies(tree(said))
    steps = measure(data)
    for step in ("parse and compile", "parse, strictly", "compile"):
        figures[f"agent: {step}"] = show(f"agent: {step}", steps[step])
    figures |= finding(said)
    return figures
