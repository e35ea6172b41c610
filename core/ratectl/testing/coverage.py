"""Which scopes, limits and overrides of a tree the tests have met."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from ratectl.engine.api import EngineUsage, LimitUsage, PlanSet
    from ratectl.engine.limit_plan import Identity

__all__ = ["Coverage", "Item", "Meter", "Share"]


class Item(NamedTuple):
    """Something that a test can meet: a scope, or a limit, budget or override at a scope."""

    scope: str
    name: str | None = None
    budget: bool = False

    def __str__(self) -> str:
        kind = "budget " if self.budget else ""
        return f"{kind}{self.name} @ {self.scope}" if self.name else self.scope


@dataclass(frozen=True, slots=True)
class Share:
    """How many of which things were met, and which were not."""

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
    """What was met of a tree."""

    scopes: Share
    """Declared scopes that a step asked about, by themselves or for a scope below."""
    limits: Share
    """Limits and budgets that decided a request, or whose values were compared."""
    refused: Share
    """Limits and budgets that refused a request, or would have in shadow."""
    overrides: Share
    """Overrides that a request matched."""

    @property
    def percent(self) -> Fraction:
        """Covered scopes, limits and overrides of all, in per cent; what was only met counts."""
        parts = (self.scopes, self.limits, self.overrides)
        total = sum(part.total for part in parts)
        return Fraction(100 * sum(part.covered for part in parts), total) if total else Fraction(0)


class Meter:
    """Gathers what tests meet."""

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
        """Everything that could be met under these plans."""
        if any(plans is each for each in self._plans):  # tests share them
            return
        self._plans.append(plans)
        self._scopes.update(Item(scope) for scope in plans.scopes)
        self._limits.update(
            _item(limit.identity) for plan in plans.scopes.values() for limit in plan.limits
        )

    def overrides(self, every: frozenset[tuple[str, str]]) -> None:
        """All overrides there are."""
        self._overrides.update(Item(*each) for each in every)

    def asked(self, scope: str | None, applied: frozenset[tuple[str, str]]) -> None:
        """A step at a declared scope, and the overrides that apply to it."""
        if scope is not None:
            self._reached.add(Item(scope))
        self._applied.update(Item(*each) for each in applied)

    def compared(self, scope: str, name: str, *, budget: bool) -> None:
        """A limit whose values a step compared."""
        self._met.add(Item(scope, name, budget))

    def used(self, usage: EngineUsage) -> None:
        """What an engine has decided."""
        for each in usage.limits:
            item = Item(each.scope, each.limit, each.budget)
            if each.allowed or _refusals(each):
                self._met.add(item)
            if _refusals(each):
                self._refused.add(item)

    def coverage(self) -> Coverage:
        """What was met so far."""
        return Coverage(
            Share.of(self._scopes, self._reached),
            Share.of(self._limits, self._met),
            Share.of(self._limits, self._refused),
            Share.of(self._overrides, self._applied),
        )


def _order(item: Item) -> tuple[str, str, bool]:
    return item.scope, item.name or "", item.budget


def _item(identity: Identity) -> Item:
    """By scope and name alone: one limit may have buckets for each set of overrides."""
    scope, name, budget = identity[:3]
    return Item(scope, name, budget)


def _refusals(usage: LimitUsage) -> int:
    return usage.refused + usage.never + usage.shadow_refused
