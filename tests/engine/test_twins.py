"""Both engines side by side, each the other's oracle, on the whole policy language.

Every kind of limit, overrides, exceptions, budgets, costs settled and slots released later, swaps
while requests are between two pieces of them: every field of every decision must be the same, to
the nanosecond. In half of the runs the clock steps back as well: engines evict in different orders,
which must stay invisible.
"""

from __future__ import annotations

import random
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import pytest

from engine.plans import verdict
from policy.trees import tree
from ratectl.compiler.plans import compile_tree
from ratectl.engine.algorithms.quota import WallOffset
from ratectl.engine.pure import PureEngine
from soak import scaled

fast = pytest.importorskip("ratectl.engine.native.engine", exc_type=ImportError)

if TYPE_CHECKING:
    from ratectl.engine.decision import Decision

SECOND = 10**9
STEPS = (0, 0, 1, 999, 10**6, 7 * 10**6, 10**8, SECOND, 20 * SECOND, 70 * SECOND, 5_000 * SECOND)
BACK = (-1, -999, -(10**6), -SECOND, -20 * SECOND, -5_000 * SECOND, -90_000 * SECOND)
KEYS = ("", "tenant", "route", "tenant, route")
LIMITS: list[dict[str, Any]] = [
    {"rate": "10/s", "burst": 4},
    {"rate": "7/s"},
    {"rate": "3/11s", "burst": 9},
    {"rate": "1/min", "burst": 3},
    {"rate": "0.5/s", "burst": 6},
    {"rate": "0/s", "burst": 2},
    {"rate": "1/1000000week", "burst": 900},
    {"algorithm": "sliding-window", "rate": "6/s"},
    {"algorithm": "sliding-window", "rate": "9/2s"},
    {"algorithm": "sliding-window", "rate": "70000/min"},
    {"algorithm": "sliding-window", "rate": "5000000000/h"},
    {"algorithm": "sliding-window", "rate": "0/min"},
    {"algorithm": "quota", "rate": "7/min"},
    {"algorithm": "quota", "rate": "20/h"},
    {"algorithm": "quota", "rate": "30/day", "resets": "00:30 Europe/Berlin"},
    {"algorithm": "concurrency", "max": 3, "hold": "5s"},
    {"algorithm": "concurrency", "max": 2, "hold": "90s"},
]
MATCHES: list[dict[str, Any]] = [
    {"tier": "gold"},
    {"tier": ["gold", "silver"]},
    {"route": "/v1/*"},
    {"tier": {"not": "gold"}, "route": {"exists": True}},
]
SCOPES = ("/", "/a", "/a/b", "/c")


class Pair:
    """Two engines with the same requests and the same trees."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.now = 1_700_000_000 * SECOND
        self.latest = self.now
        self.back = BACK if seed % 2 else (0,)
        self.offset = WallOffset(3 * SECOND)
        bound = self.chance.choice((60_000, None))
        self.engines: list[Any] = [
            PureEngine(lambda: self.now, max_buckets=bound),
            fast.FastEngine(lambda: self.now, max_buckets=bound),
        ]
        self.generation = 0
        self.names = 0
        self.tree: dict[str, dict[str, Any]] = {}
        self.kept: list[tuple[Decision, Decision]] = []
        self.reasons: set[str] = set()
        self.edit(5)

    # Policies

    def limit(self) -> dict[str, Any]:
        made = dict(self.chance.choice(LIMITS))
        per = self.chance.choice(KEYS)
        if per:
            made["per"] = per.split(", ")
        if self.chance.random() < 0.15:
            made["mode"] = "shadow"
        return made

    def edit(self, count: int = 1) -> None:
        for _ in range(count):
            scope = self.chance.choice(SCOPES)
            document = self.tree.setdefault(scope, {})
            kind = self.chance.choice(("limit", "limit", "limit", "budget", "override", "drop"))
            name = self.chance.choice("lmn")
            if kind == "limit":
                document.setdefault("limits", {})[name] = self.limit()
            elif kind == "budget" and "concurrency" not in str(made := self.limit()):
                document.setdefault("budgets", {})[f"b{name}"] = made
            elif kind == "override":
                self.override(document, name)
            elif self.chance.random() < 0.5:
                self.tree.pop(scope)
            else:
                document.get("limits", {}).pop(name, None)
                document.pop("overrides", None)

    def override(self, document: dict[str, Any], name: str) -> None:
        fields: dict[str, Any] = self.chance.choice(
            ({"rate": "20/s"}, {"burst": 2}, {"mode": "shadow"}, {"mode": "off"}, self.limit())
        )
        self.names += 1
        of = {
            "name": f"o{self.chance.choice((1, 2, self.names))}",
            "match": self.chance.choice(MATCHES),
            "limits": {name: fields},
        }
        others = [each for each in document.get("overrides", []) if each["name"] != of["name"]]
        document["overrides"] = [*others[-2:], of]

    def publish(self) -> None:
        """Publish a valid tree; checks go on while it is swapped in."""
        before = deepcopy(self.tree)
        while True:
            self.edit(self.chance.choice((1, 1, 2, 4)))
            try:
                plans = compile_tree(tree(self.tree), self.generation + 1, self.offset)
                for engine_type in (PureEngine, fast.FastEngine):
                    self.try_out(engine_type, plans)
                break
            except Exception:  # noqa: BLE001 - a declared limit is not always usable
                self.tree = deepcopy(before)
        self.generation += 1
        asked: list[list[Any]] = [[], []]
        for engine, answers in zip(self.engines, asked, strict=True):
            between = random.Random(self.generation)

            def ask(
                engine: Any = engine, answers: list[Any] = answers, chance: random.Random = between
            ) -> None:
                if engine.generation == self.generation and len(answers) < 3:
                    request = self.request(chance)
                    answers.append(verdict(engine.check(*request, now=self.now)))

            engine.swap(plans, now=self.now, pause=ask)
            while len(answers) < 3:
                ask()
        assert asked[0] == asked[1]

    def try_out(self, engine_type: Any, plans: Any) -> None:
        scratch = engine_type(lambda: 0)
        scratch.swap(plans)
        for scope in SCOPES:
            for tier in ("gold", "silver", None):
                scratch.check(scope, {"tier": tier, "route": "/v1/x"} if tier else {}, 0)

    # Requests

    def request(self, chance: random.Random) -> tuple[str, dict[str, str], int]:
        values = {
            "tenant": chance.choice((None, "", "x", "y", f"{self.now % 97}")),
            "route": chance.choice((None, "/v1/pay", "/v2")),
            "tier": chance.choice((None, "gold", "silver")),
        }
        attributes = {name: value for name, value in values.items() if value is not None}
        cost = chance.choice((0, 1, 1, 1, 2, 3, 5, 1_000, 80_000))
        return chance.choice((*SCOPES, "/a/b/c", "/z")), attributes, cost

    def check(self) -> None:
        request = self.request(self.chance)
        one, other = (engine.check(*request, now=self.now) for engine in self.engines)
        assert verdict(one) == verdict(other)
        self.reasons.add(one.reason)
        if one and self.chance.random() < 0.5:
            self.kept.append((one, other))

    def look_back(self) -> None:
        """Release or settle an earlier decision."""
        if self.kept:
            pair = self.kept.pop(self.chance.randrange(len(self.kept)))
            actual = self.chance.choice((None, 0, 1, 2, 9, 70_000, 10**13))
            for engine, decision in zip(self.engines, pair, strict=True):
                if actual is None:
                    decision.release()
                else:
                    engine.settle(decision, actual, now=self.now)
            if actual is not None and self.chance.random() < 0.3:
                self.kept.append(pair)

    def usage(self) -> None:
        told = []
        for engine in self.engines:
            usage = engine.usage()
            told.append(
                {
                    (of.scope, of.limit, of.overrides, of.budget): (
                        of.shadow, of.allowed, of.refused, of.never, of.shadow_refused, of.most,
                        of.lowest, sorted(of.top_refused) if len(of.top_refused) < 10 else (),
                    )
                    for of in usage.limits
                }
            )  # fmt: skip
            assert usage.overflowed == 0
            assert usage.buckets == sum(of.keys for of in usage.limits)
        differ = {key: [of.get(key) for of in told] for key in told[0] | told[1]}
        assert [(key, *two) for key, two in differ.items() if two[0] != two[1]] == []

    def waive(self) -> None:
        scopes = self.chance.sample((*SCOPES, "/a/b/c", "/z"), self.chance.choice((0, 0, 0, 1, 2)))
        waived = {scope: self.chance.choice(("open", "shadow")) for scope in scopes}
        for engine in self.engines:
            engine.waive(waived)

    def step(self) -> None:
        self.now += self.chance.choice(STEPS)
        if self.chance.random() < 0.2:
            self.now += self.chance.choice(self.back)
        self.latest = max(self.latest, self.now)
        what = self.chance.random()
        if what < 0.05:
            self.publish()
        elif what < 0.07:
            steps = (1, 60, 3_600, 90_000, *(step // SECOND for step in self.back))
            ns = self.offset.ns + self.chance.choice(steps) * SECOND
            self.offset.move(ns, self.latest)
        elif what < 0.09:
            self.usage()
        elif what < 0.12:
            self.waive()
        elif what < 0.25:
            self.look_back()
        else:
            self.check()


@pytest.mark.parametrize("seed", range(scaled(20, 600)))
def test_both_engines_decide_alike(seed: int) -> None:
    pair = Pair(seed)
    pair.publish()
    for _ in range(400):
        pair.step()
    pair.usage()
    assert pair.reasons & {"limited", "never", "shadow"}
