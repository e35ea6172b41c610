"""A hall of waiting requests: an engine and its line, in virtual time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from virtual import SECOND, Clock, run

from engine.engines import ENGINES
from policy.trees import tree
from ratectl.agent.line import Line
from ratectl.agent.waiting import pass_in_task
from ratectl.compiler.plans import compile_tree
from ratectl.engine.algorithms.quota import WallOffset

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping

    from engine.engines import MakeEngine
    from ratectl.engine.api import LimitCounts
    from ratectl.engine.cost import Cost
    from ratectl.engine.decision import Decision

__all__ = ["Hall", "each_hall", "one", "slots"]


class Hall:
    """An engine, its line, and short methods for tests."""

    def __init__(self, make: MakeEngine, policies: Mapping[str, Any]) -> None:
        self.clock = Clock()
        self.engine = make(self.clock)
        self.line = Line(self.engine, self.clock)
        self.generation = 0
        self.checks = 0
        self.write(policies)
        attempt = self.engine.attempt

        def counted(*request: Any) -> Decision:
            self.checks += 1
            return attempt(*request)

        self.engine.attempt = counted  # type: ignore[method-assign,assignment]

    def write(self, policies: Mapping[str, Any]) -> None:
        self.generation += 1
        self.engine.swap(compile_tree(tree(dict(policies)), self.generation, WallOffset()))

    async def acquire(
        self, cost: Cost = 1, scope: str = "/", wait: float | None = None, **attributes: str
    ) -> Decision:
        return await pass_in_task(self.line, scope, attributes, cost, wait)

    def run(self, main: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine in virtual time, and assert that nobody is left in the line."""
        result = run(self.clock, main)
        self.check_empty()
        return result

    def check_empty(self) -> None:
        queues: Any = self.line._queues
        assert (len(self.line), len(queues), queues._lines) == (0, 0, {})

    @property
    def seconds(self) -> float:
        """Virtual time since the start."""
        return self.clock.now / SECOND - 1

    def usage(self, limit: str = "l", scope: str = "/") -> LimitCounts:
        return next(
            of for of in self.engine.usage().limits if (of.scope, of.limit) == (scope, limit)
        )


each_hall = pytest.mark.parametrize("make", ENGINES.values(), ids=ENGINES)
"""Parameters of a test that takes ``make``."""


def one(**fields: Any) -> dict[str, Any]:
    """Return policies with one limit ``l``."""
    return {"/": {"limits": {"l": fields}}}


def slots(most: int, **fields: Any) -> dict[str, Any]:
    return one(algorithm="concurrency", max=most, **fields)
