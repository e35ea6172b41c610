"""What a tree of 10,000 policies costs: encode, parse, compile, resolve one scope, reload.

Three limits per policy, two of them inherited and overridden, caps at two levels. The ratio is to
plain ``json.loads`` of the same bytes, measured in turn.
"""

from __future__ import annotations

import gc
import json
import time
from typing import TYPE_CHECKING

from bench.figures import show
from ratectl.activation import activate
from ratectl.compile import compile_tree
from ratectl.engine.pure import PureEngine
from ratectl.policy.bundle import decode_policies, digest, encode_policies
from ratectl.policy.check import check_tree
from ratectl.policy.model import Policy, PolicyTree
from ratectl.policy.resolve import resolve

if TYPE_CHECKING:
    from collections.abc import Callable

SCOPES = 10_000
ROUNDS = 7


def tree(scopes: int = SCOPES) -> PolicyTree:
    """A tree of two levels below a root, as a large company might have."""
    said = [
        {
            "scope": "/",
            "limits": {
                "spike": {"rate": "50/s", "per": ["tenant"]},
                "steady": {"algorithm": "sliding-window", "rate": "1500/min", "per": ["tenant"]},
            },
            "caps": {"spike": {"rate": "1000/s", "burst": 2000}},
        }
    ]
    said += [
        {
            "scope": f"/team{n // 100}/service{n % 100}",
            "owner": f"team-{n // 100}",
            "limits": {
                "spike": {"rate": f"{n % 500 + 1}/s", "burst": 200},
                "steady": {"rate": f"{1500 + n % 700}/min"},
                "writes": {"rate": "3/s", "per": ["tenant", "route"]},
            },
            "caps": {"writes": {"rate": "400/s"}},
        }
        for n in range(scopes - 1)
    ]
    policies = [Policy.model_validate(one) for one in said]
    return PolicyTree({policy.scope: policy for policy in policies})


def _timed(work: Callable[[], object]) -> float:
    gc.collect()
    started = time.process_time()
    work()
    return (time.process_time() - started) * 1e3


def run() -> dict[str, object]:
    big = tree()
    data = encode_policies(big)
    sha256 = digest(data)
    decoded = decode_policies(data)
    plans = compile_tree(decoded, 1)
    engine = PureEngine(time.monotonic_ns)
    print(f"  {SCOPES} policies, {len(data)} bytes")
    steps: dict[str, Callable[[], object]] = {
        "json.loads (floor)": lambda: json.loads(data),
        "parse, strictly": lambda: decode_policies(data),
        "compile": lambda: compile_tree(decoded, 1),
        "activate (hash, parse, compile, check)": lambda: activate(data, sha256, 1),
        "swap in a live engine": lambda: engine.swap(plans),
        "encode": lambda: encode_policies(big),
        "semantic rules (validate)": lambda: check_tree(big),
        "resolve one scope": lambda: resolve(big, "/team42/service42/deeper"),
    }
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(ROUNDS):
        for name, work in steps.items():
            taken[name].append(_timed(work))
    figures: dict[str, object] = {name: show(name, ms) for name, ms in taken.items()}
    both = [a + b for a, b in zip(taken["parse, strictly"], taken["compile"], strict=True)]
    figures["parse and compile"] = show("parse and compile", both)
    return figures
