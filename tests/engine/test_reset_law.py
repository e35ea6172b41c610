"""Law of resets: afterwards a key behaves as a new one, and every other key as without the reset.

Three engines get the same requests. In the second, the key has another name until the reset; in the
third, there is no reset.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.engines import each_engine
from engine.plans import verdict
from policy.trees import tree
from ratectl.compiler.plans import compile_tree
from ratectl.engine.algorithms.quota import WallOffset

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.engines import MakeEngine
    from ratectl.engine.decision import Decision

SECOND: Final = 10**9
PERS: Final = (("tenant",), ("tenant", "route"))
ROUTES: Final = (None, "/v1")
LIMITS: Final[list[dict[str, Any]]] = [
    {"algorithm": "token-bucket", "rate": "1/s", "burst": 4},
    {"algorithm": "token-bucket", "rate": "3/11s", "burst": 9},
    {"algorithm": "token-bucket", "rate": "1/h", "burst": 3},
    {"algorithm": "sliding-window", "rate": "5/min"},
    {"algorithm": "sliding-window", "rate": "3/2s"},
    {"algorithm": "quota", "rate": "7/h"},
    {"algorithm": "quota", "rate": "4/min"},
    {"algorithm": "concurrency", "max": 2, "hold": "90s"},
    {"algorithm": "concurrency", "max": 3, "hold": "5s"},
]


class Policies(NamedTuple):
    """Policies of one generation."""

    limit: int
    below: int | None
    """Limit that ``/a`` declares; None if the scope is not declared."""
    gold: int | None
    """Limit of an override."""
    budget: int

    def documents(self, per: Sequence[str]) -> dict[str, dict[str, Any]]:
        said: dict[str, dict[str, Any]] = {
            "/": {
                "limits": {"l": {**LIMITS[self.limit], "per": list(per)}},
                "budgets": {"b": {**LIMITS[self.budget], "per": list(per)}},
            }
        }
        if self.gold is not None:
            limits = {"l": LIMITS[self.gold]}
            said["/"]["overrides"] = [{"name": "g", "match": {"tier": "gold"}, "limits": limits}]
        if self.below is not None:
            said["/a"] = {"limits": {"l": {**LIMITS[self.below], "per": list(per)}}}
        return said


numbers = st.integers(0, len(LIMITS) - 1)
perhaps = st.none() | numbers
policies = st.builds(Policies, numbers, perhaps, perhaps, st.integers(0, 6))


class Ask(NamedTuple):
    """A request of ``x`` or ``y``."""

    scope: str
    tenant: str
    gold: bool
    route: str | None
    cost: int

    def attributes(self, tenant: str) -> dict[str, str]:
        values = {"tenant": tenant, "tier": "gold" if self.gold else None, "route": self.route}
        return {name: value for name, value in values.items() if value is not None}


asks = st.builds(
    Ask,
    st.sampled_from(("/", "/a", "/a/b")),
    st.sampled_from("xxxy"),
    st.booleans(),
    st.sampled_from(ROUTES),
    st.sampled_from((1, 1, 1, 2, 0, 3)),
)
waits = st.sampled_from((1, 999, SECOND // 3, SECOND, 7 * SECOND, 61 * SECOND, 4_000 * SECOND))
ends = st.tuples(st.integers(0, 40), st.sampled_from((None, 0)))
"""Decision that is released (None), or refunded."""
steps = st.lists(asks | asks | asks | waits | ends | policies, max_size=30)


class Worlds:
    """The three engines."""

    def __init__(self, make: MakeEngine, per: Sequence[str]) -> None:
        self.now = 1_700_000_000 * SECOND
        self.per = per
        self.offset = WallOffset(3 * SECOND)
        self.engines = [make(lambda: self.now) for _ in range(3)]
        self.generation = 0
        self.names = ("x", "older", "x")
        self.kept: list[list[Decision]] = []
        self.scopes: set[str] = set()
        self.fresh = False

    def publish(self, said: Policies) -> None:
        documents = said.documents(self.per)
        self.scopes = set(documents)
        self.generation += 1
        for engine in self.engines:
            engine.swap(compile_tree(tree(documents), self.generation, self.offset))

    def ask(self, ask: Ask) -> None:
        names = self.names if ask.tenant == "x" else ("y",) * 3
        decisions = [
            engine.check(ask.scope, ask.attributes(name), ask.cost)
            for engine, name in zip(self.engines, names, strict=True)
        ]
        mine, new, without = map(verdict, decisions)
        if ask.tenant == "y":
            assert mine == without, "another key behaves as without the reset"
        elif self.fresh:
            assert mine == new, "the key behaves as a new one"
        else:
            assert mine == without
        self.kept.append(decisions)

    def end(self, pick: int, actual: int | None) -> None:
        for decision in self.kept[-1 - pick % len(self.kept)] if self.kept else ():
            if actual is None:
                decision.release()
            elif decision.allowed:
                decision.settle(actual)

    def reset(self) -> None:
        """Reset every bucket of ``x``, a moment after all charges so far."""
        self.now += 1
        for scope in self.scopes:
            for name, budget in (("l", False), ("b", True)):
                for route in ROUTES:
                    key = {"tenant": "x", "route": route}
                    given = {each: key[each] for each in self.per}
                    done = self.engines[0].reset(scope, name, given, budget=budget)
                    assert (done is None) == (budget and scope != "/")
        self.names, self.fresh = ("x", "x", "x"), True

    def play(self, script: Sequence[Any]) -> None:
        for step in script:
            if isinstance(step, Policies):
                self.publish(step)
            elif isinstance(step, Ask):
                self.ask(step)
            elif isinstance(step, int):
                self.now += step
            else:
                self.end(*step)


@each_engine
@settings(max_examples=400, deadline=None)
@given(first=policies, per=st.sampled_from(PERS), before=steps, after=steps)
def test_a_reset_makes_one_key_new_and_changes_no_other(
    make: MakeEngine, first: Policies, per: Sequence[str], before: list[Any], after: list[Any]
) -> None:
    worlds = Worlds(make, per)
    worlds.publish(first)
    worlds.play(before)
    worlds.reset()
    worlds.play(after)
