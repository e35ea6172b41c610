"""Cost of a tree of 10,000 policies: parse, compile, activate, reload; validate, explain.

``usual``: each service sets the rate and burst of one inherited limit and has one of its own.
``heavy``: it overrides two, has one of its own, and caps that. Each round is a fresh process, as an
agent is: it holds the bytes and nothing else. The floor is ``json.loads`` of each line of
the same bytes.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.figures import show
from ratectl.policy.bundle import encode_policies
from ratectl.policy.language.model import Policy, PolicyTree

SCOPES = 10_000
ROUNDS = 9

_ROUND = """
import json, sys, time
from pathlib import Path
from ratectl.compiler.activation import activate
from ratectl.runtime.gc_pause import paused_collector
from ratectl.compiler.plans import compile_tree
from ratectl.engine.pure import PureEngine
from ratectl.policy.bundle import decode_policies, digest, encode_policies
from ratectl.policy.validation.tree import check_tree
from ratectl.policy.resolution.resolver import resolve

data = Path(sys.argv[1]).read_bytes()
taken = {}

def timed(name, work):
    started = time.perf_counter()
    result = work()
    taken[name] = (time.perf_counter() - started) * 1e3
    return result

with paused_collector():
    timed("json.loads (floor)", lambda: [json.loads(line) for line in data.splitlines()])
tree = timed("parse, strictly", lambda: decode_policies(data))
plans = timed("compile", lambda: compile_tree(tree, 1))
engine = PureEngine(time.monotonic_ns)
timed("swap into an engine", lambda: engine.swap(plans))
timed("resolve one scope", lambda: resolve(tree, "/team42/service42/deeper"))
timed("encode", lambda: encode_policies(tree))
timed("semantic rules", lambda: check_tree(tree))
sha256 = digest(data)
del tree, plans, engine
timed("activate: hash, parse, compile, check", lambda: activate(data, sha256, 2))
taken["parse and compile"] = taken["parse, strictly"] + taken["compile"]
print(json.dumps(taken))
"""


def tree(scopes: int = SCOPES, *, heavy: bool = False) -> PolicyTree:
    """Return a tree of two levels below a root, as in a large company."""
    said: list[dict[str, object]] = [
        {
            "scope": "/",
            "limits": {
                "spike": {"rate": "50/s", "per": ["tenant"]},
                "steady": {"algorithm": "sliding-window", "rate": "1500/min", "per": ["tenant"]},
            },
            "caps": {"spike": {"rate": "1000/s", "burst": 2000}},
        }
    ]
    for n in range(scopes - 1):
        limits: dict[str, object] = {
            "spike": {"rate": f"{n % 500 + 1}/s", "burst": 200},
            "writes": {"rate": "3/s", "per": ["tenant", "route"]},
        }
        service: dict[str, object] = {
            "scope": f"/team{n // 100}/service{n % 100}",
            "owner": f"team-{n // 100}",
            "limits": limits,
        }
        if heavy:
            limits["steady"] = {"rate": f"{1500 + n % 700}/min"}
            service["caps"] = {"writes": {"rate": "400/s"}}
        said.append(service)
    policies = [Policy.model_validate(one) for one in said]
    return PolicyTree({policy.scope: policy for policy in policies})


def measure(data: bytes) -> dict[str, list[float]]:
    """Return the milliseconds of each step, in fresh processes."""
    taken: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bundle"
        path.write_bytes(data)
        for _ in range(ROUNDS):
            command = [sys.executable, "-c", _ROUND, str(path)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            for name, ms in json.loads(done.stdout).items():
                taken.setdefault(name, []).append(ms)
    return taken


def run() -> dict[str, object]:
    figures: dict[str, object] = {}
    for name, heavy in (("usual", False), ("heavy", True)):
        data = encode_policies(tree(heavy=heavy))
        print(f"  {name}: {SCOPES} policies, {len(data)} bytes")
        taken = measure(data)
        shown = {step: show(step, ms) for step, ms in taken.items()}
        pairs = zip(taken["parse and compile"], taken["json.loads (floor)"], strict=True)
        shown["ratio"] = show("parse and compile / json.loads", [a / b for a, b in pairs], "x ")
        figures[name] = shown
    return figures
