"""Overrides that are added, removed and changed under traffic: each decision matches an oracle.

The oracle shares no code with ratectl: it merges dictionaries, enumerates every set of overrides
for every limit, and keeps all buckets for ever (see ``oracle.py``).
"""

from __future__ import annotations

import itertools
import random
from typing import TYPE_CHECKING, Any

import pytest

from engine.engines import each_engine
from oracle import Answer, Oracle
from ratectl.compiler.plans import compile_tree
from ratectl.policy.language.model import Policy, PolicyTree
from ratectl.policy.validation.tree import check_tree
from soak import scaled

if TYPE_CHECKING:
    from engine.engines import MakeEngine
    from ratectl.engine.decision import Decision

SEEDS = scaled(40, 3_000)
STEPS = (1, 999, 10**6, 7 * 10**6, 3, 20 * 10**6, 10**9)
MATCHES: list[dict[str, Any]] = [
    {"tier": "gold"},
    {"tier": ["gold", "silver"]},
    {"route": "/v1/*"},
    {"tier": {"not": "gold"}},
    {"route": {"exists": "true"}, "tier": "silver"},
    {"ip": {"cidr": "10.0.0.0/8"}},
]
SAID: list[dict[str, Any]] = [
    {"rate": "100/s", "burst": "40"},
    {"rate": "1000/min", "burst": "40"},
    {"rate": "7/s"},
    {"burst": "3"},
    {"rate": "900/s", "burst": "200"},
    {"mode": "shadow"},
    {"mode": "off"},
    {"rate": "50/s"},
]
# At most 16 requests: up to there, windows are exact, as the oracle is.
WINDOWS: list[dict[str, Any]] = [
    {"algorithm": "sliding-window", "rate": "16/s"},
    {"algorithm": "sliding-window", "rate": "15/2s"},
]


class Documents:
    """Trees that are edited at random, one edit for each generation."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.names = itertools.count()
        self.tree: dict[str, dict[str, Any]] = {
            "/": {"scope": "/", "limits": {"l": {"rate": "100/s", "burst": "40", "per": "tenant"}}}
        }

    def edit(self) -> None:
        """Change something, in a way that leaves every combination of overrides usable."""
        chance, tree = self.chance, {scope: dict(each) for scope, each in self.tree.items()}
        document = tree[chance.choice(list(tree))]
        kind = chance.random()
        overrides = list(document.get("overrides", []))
        if kind < 0.15:
            tree["/a"] = tree.get("/a", {"scope": "/a"}) if chance.random() < 0.7 else {}
            if not tree["/a"]:
                del tree["/a"]
        elif kind < 0.35:
            limits = dict(document.get("limits", {}))
            base = {"rate": "100/s", "per": "tenant"} if document["scope"] == "/" else {}
            limits["l"] = {**base, **chance.choice([*SAID[:5], SAID[7]])}
            if document["scope"] == "/" and chance.random() < 0.3:
                limits["m"] = chance.choice(WINDOWS)
            document["limits"] = limits
        elif kind < 0.7 and len(overrides) < 3:
            overrides.insert(chance.randrange(len(overrides) + 1), self.override())
        elif kind < 0.8 and overrides:
            overrides.pop(chance.randrange(len(overrides)))
        elif overrides:
            at = chance.randrange(len(overrides))
            fresh = self.override()
            part = chance.choice(["limits", "match"])
            overrides[at] = {**overrides[at], part: fresh[part]}
        document["overrides"] = overrides
        if self.usable(tree):
            self.tree = tree

    def override(self) -> dict[str, Any]:
        limits: dict[str, Any] = {"l": self.chance.choice(SAID)}
        if self.chance.random() < 0.2:
            limits["l"] = {**limits["l"], "per": self.chance.choice([["tenant"], [], ["tier"]])}
        if self.chance.random() < 0.2:
            limits = {"n": {"rate": "20/s", "burst": "5", "per": ["tier"]}}
        match = self.chance.choice(MATCHES)
        return {"name": f"o{next(self.names)}", "match": match, "limits": limits}

    def usable(self, tree: dict[str, dict[str, Any]]) -> bool:
        checked = check_tree(PolicyTree(policies(tree)))
        return all(found.severity != "error" for found in checked)


def policies(tree: dict[str, dict[str, Any]]) -> dict[str, Policy]:
    return {scope: Policy.model_validate(typed(document)) for scope, document in tree.items()}


def typed(document: Any, key: str = "") -> Any:
    """Return the documents for the oracle, which reads every scalar as its text."""
    if isinstance(document, dict):
        return {name: typed(value, name) for name, value in document.items()}
    if isinstance(document, list):
        return [typed(each) for each in document]
    return {"burst": int, "exists": bool}.get(key, str)(document)


def answer(decision: Decision) -> Answer:
    return Answer(*[getattr(decision, field) for field in Answer._fields])


@pytest.mark.parametrize("seed", range(SEEDS))
@each_engine
def test_decisions_across_edits_match_the_oracle(make: MakeEngine, seed: int) -> None:
    chance = random.Random(seed)
    documents = Documents(chance)
    engine, oracle = make(lambda: 0), Oracle()
    now = 10**15
    generation = 0
    for step in range(200):
        if not step or chance.random() < 1 / 8:
            documents.edit()
            generation += 1
            engine.swap(compile_tree(PolicyTree(policies(documents.tree)), generation), now)
            oracle.reload(documents.tree, now)
        now += chance.choice(STEPS)
        scope = chance.choice(["/", "/a", "/a/b"])
        attributes = {
            name: value
            for name, value in {
                "tenant": chance.choice("xy"),
                "tier": chance.choice(["gold", "silver", "free", None]),
                "route": chance.choice(["/v1/x", "/v2/x", None]),
                "ip": chance.choice(["10.1.2.3", "192.168.0.1", None]),
            }.items()
            if value is not None
        }
        cost = chance.choice([0, 1, 1, 2, 4, 30])
        actual = answer(engine.check(scope, attributes, cost, now))
        assert actual == oracle.check(scope, attributes, cost, now), (step, documents.tree)
