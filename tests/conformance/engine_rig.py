"""Rig for tests that run on every engine."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

from engine.engines import ENGINES
from engine.plans import by_scope, plan_set, verdict
from policy.trees import tree
from ratectl.compiler.plans import compile_tree
from ratectl.engine.algorithms.quota import WallOffset

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from engine.engines import MakeEngine
    from engine.model import Limit, Verdict
    from ratectl.engine.api import Engine, LimitCounts


class Rig:
    """An engine with a clock that stands still, and short methods for tests."""

    def __init__(self, make: MakeEngine) -> None:
        self.now = 0
        self.generation = 0
        self.offset = WallOffset()
        self.make = make
        self.engine: Engine = self.another()

    def another(self, max_buckets: int = 100_000) -> Engine:
        """Return a rig with a new engine on the same clock."""
        return self.make(lambda: self.now, max_buckets=max_buckets)

    def bound(self, max_buckets: int) -> None:
        self.engine = self.another(max_buckets)

    def publish(self, *limits: Limit, at: int | None = None, bare: Iterable[str] = ()) -> None:
        self.generation += 1
        self.engine.swap(plan_set(self.generation, by_scope(*limits, bare=bare)), now=at)

    def write(self, policies: Mapping[str, Mapping[str, Any]], at: int | None = None) -> None:
        """Publish policies given as YAML; ``offset``: wall clock of quotas minus the clock."""
        self.generation += 1
        self.engine.swap(compile_tree(tree(policies), self.generation, self.offset), now=at)

    def ask(
        self, cost: int = 1, at: int | None = None, scope: str = "/", **attributes: object
    ) -> Verdict:
        return verdict(self.engine.check(scope, attributes, cost, now=at))  # type: ignore[arg-type]

    def left(self, at: int | None = None, scope: str = "/", **attributes: object) -> int | None:
        """Peek with a request, and return what is left."""
        return self.ask(0, at, scope, **attributes).remaining

    def usage(self, name: str = "l", scope: str = "/", *, budget: bool = False) -> LimitCounts:
        return next(
            of
            for of in self.engine.usage().limits
            if (of.scope, of.limit, of.budget) == (scope, name, budget)
        )


@pytest.fixture(params=sorted(ENGINES))
def rig(request: pytest.FixtureRequest) -> Rig:
    return Rig(ENGINES[request.param])


@pytest.fixture
def engine(rig: Rig) -> Engine:
    return rig.engine


@pytest.fixture
def eager_threads() -> Iterator[None]:
    """Make threads switch as often as the interpreter allows."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)
