"""Coverage: the scopes, limits and overrides of a tree that its tests reach."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from ratectl.engine.api import EngineCounts, LimitCounts, PlanSet
    from ratectl.engine.limit_plan import Identity

__all__ = ["Coverage", "Item", "Meter", "Share"]


class Item(NamedTuple):
    """Item that a test can reach: a scope, or a limit, budget or override at a scope."""

    scope: str
    name: str | None = None
    budget: bool = False

    def __str__(self) -> str:
        kind = "budget " if self.budget else ""
        return f"{kind}{self.name} @ {self.scope}" if self.name else self.scope


@dataclass(frozen=True, slots=True)
class Share:
    """Total number of items, and the items that no test reached."""

    total: int
    missed: tuple[Item, ...]

    @classmethod
    def of(cls, every: set[Item], met: set[Item]) -> Share:
        return cls(len(every), tuple(sorted(every - met, key=_order)))

    @property
    def covered(self) -> int:
        return self.total - len(self.missed)


@dataclass(frozen=True, slots=True)
class Coverage:
    """Covered items of a tree."""

    scopes: Share
    """Declared scopes of requests in steps."""
    limits: Share
    """Limits and budgets that evaluated a request, or whose values were compared."""
    refused: Share
    """Limits and budgets that refused a request, in shadow or not."""
    overrides: Share
    """Overrides that a request matched."""

    @property
    def percent(self) -> Fraction:
        """Per cent of scopes, limits and overrides that are covered; a refusal is not needed."""
        parts = (self.scopes, self.limits, self.overrides)
        total = sum(part.total for part in parts)
        return Fraction(100 * sum(part.covered for part in parts), total) if total else Fraction(0)


class Meter:
    """Collector of the items that tests reach."""

    def __init__(self) -> None:
        self._plans: list[PlanSet] = []
        self._limits: set[Item] = set()
        self._met: set[Item] = set()
        self._refused: set[Item] = set()
        self._scopes: set[Item] = set()
        self._reached: set[Item] = set()
        self._overrides: set[Item] = set()
        self._applied: set[Item] = set()

    def plans(self, plans: PlanSet) -> None:
        """Add all scopes and limits of these plans as items to reach."""
        if any(plans is known for known in self._plans):  # tests share plans
            return
        self._plans.append(plans)
        self._scopes.update(Item(scope) for scope in plans.scopes)
        self._limits.update(
            _item(limit.identity) for plan in plans.scopes.values() for limit in plan.limits
        )

    def overrides(self, every: frozenset[tuple[str, str]]) -> None:
        """Add overrides as items to reach, by scope and name."""
        self._overrides.update(Item(*override) for override in every)

    def asked(self, scope: str | None, applied: frozenset[tuple[str, str]]) -> None:
        """Record the declared scope of a step, and the overrides that apply to it."""
        if scope is not None:
            self._reached.add(Item(scope))
        self._applied.update(Item(*override) for override in applied)

    def compared(self, scope: str, name: str, *, budget: bool) -> None:
        """Record a limit whose values a step compared."""
        self._met.add(Item(scope, name, budget))

    def used(self, usage: EngineCounts) -> None:
        """Record the decisions of an engine."""
        for limit in usage.limits:
            item = Item(limit.scope, limit.limit, limit.budget)
            if limit.allowed or _refusals(limit):
                self._met.add(item)
            if _refusals(limit):
                self._refused.add(item)

    def coverage(self) -> Coverage:
        """Return the coverage up to now."""
        return Coverage(
            Share.of(self._scopes, self._reached),
            Share.of(self._limits, self._met),
            Share.of(self._limits, self._refused),
            Share.of(self._overrides, self._applied),
        )


def _order(item: Item) -> tuple[str, str, bool]:
    return item.scope, item.name or "", item.budget


def _item(identity: Identity) -> Item:
    """Return the item of a bucket identity: its scope and name, without its overrides."""
    scope, name, budget = identity[:3]
    return Item(scope, name, budget)


def _refusals(usage: LimitCounts) -> int:
    return usage.refused + usage.never + usage.shadow_refused
