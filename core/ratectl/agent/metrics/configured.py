"""The configured size of limits: what applies to requests that match no override."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ratectl.agent.metrics.series import Of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from ratectl.agent.agent import Agent

__all__ = ["Configured", "Size"]


class Size(NamedTuple):
    """Size of one limit."""

    capacity: int
    per_second: float | None
    """Cost per second in the long run; None for slots."""
    unit: str


class Configured:
    """Sizes of an agent's limits, computed once after each swap of its plans."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._swaps = 0
        self._known: dict[str, dict[Of, Size]] = {}

    def read(self, shown: Collection[Of]) -> Iterator[tuple[Of, Size]]:
        """Yield the sizes of limits."""
        swaps = self._agent._following.enforcement.swaps  # noqa: SLF001
        if swaps != self._swaps:
            self._swaps, self._known = swaps, {}
        for of in sorted(shown):
            if of.scope not in self._known:
                self._known[of.scope] = self._sizes(of.scope)
            size = self._known[of.scope].get(of)
            if size is not None:
                yield of, size

    def _sizes(self, scope: str) -> dict[Of, Size]:
        """Return the sizes of all limits and budgets that are counted at a scope."""
        found = {}
        for limit in self._agent.limits(scope) or ():
            if limit.scope == scope:
                of = Of.named(limit.scope, limit.name, budget=limit.budget)
                found[of] = Size(limit.capacity, limit.per_second, limit.unit)
        return found
