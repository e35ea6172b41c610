"""The configured size of limits: what applies to requests that match no override."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from ratectl.agent.in_force import limits_in_force
from ratectl.agent.metrics.series import Of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from ratectl.agent.agent import Agent

__all__ = ["Configured", "Size"]

_NOTHING: Final[Mapping[str, str]] = {}


class Size(NamedTuple):
    """Size of one limit."""

    capacity: int
    per_second: float | None
    """Cost per second in the long run; None for slots."""
    unit: str


class Configured:
    """Sizes of an agent's limits, computed once for each generation."""

    def __init__(self, agent: Agent) -> None:
        self._engine = agent._engine  # noqa: SLF001
        self._plans: object = None
        self._known: dict[str, dict[Of, Size]] = {}

    def read(self, shown: Collection[Of]) -> Iterator[tuple[Of, Size]]:
        """Yield the sizes of limits."""
        plans = self._engine.plan("/")
        generation = (self._engine.generation, plans)
        if generation != self._plans:
            self._plans, self._known = generation, {}
        for of in sorted(shown):
            if of.scope not in self._known:
                self._known[of.scope] = self._sizes(of.scope)
            size = self._known[of.scope].get(of)
            if size is not None:
                yield of, size

    def _sizes(self, scope: str) -> dict[Of, Size]:
        """Return the sizes of all limits and budgets that are counted at a scope."""
        found = {}
        for limit in limits_in_force(self._engine, scope, _NOTHING) or ():
            if limit.scope == scope:
                per_second = None
                if not limit.slots:
                    per_second = limit.capacity / limit.window if limit.window else 0.0
                of = Of(limit.scope, limit.name, "budget" if limit.budget else "limit")
                found[of] = Size(limit.capacity, per_second, limit.unit)
        return found
