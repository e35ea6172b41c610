"""Counts of limits by scope and name: a bounded number of series, which never fall."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from ratectl.agent.usage.counts import Counts, gained
from ratectl.runtime.cooperative import paced

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ratectl.agent.usage.summary import AgentUsage, LimitUsage

__all__ = ["LimitSeries", "LimitTotal", "Of"]

_OTHER: Final = "(other)"

_OUTCOMES: Final = ("allowed", "refused", "never", "shadow_refused")


class Of(NamedTuple):
    """Labels of one limit."""

    scope: str
    limit: str
    kind: str
    """``limit`` or ``budget``."""

    @classmethod
    def named(cls, scope: str, limit: str, *, budget: bool) -> Of:
        """Return the labels of a limit or budget."""
        return cls(scope, limit, "budget" if budget else "limit")


_REST: Final = Of(_OTHER, _OTHER, "limit")


@dataclass(slots=True)
class LimitTotal:
    """Counts of one limit with all its overrides, or of all limits without series of their own."""

    allowed: int = 0
    refused: int = 0
    never: int = 0
    shadow_refused: int = 0
    absent: int = 0
    waited: int = 0
    keys: int = 0
    by_use: tuple[int, ...] = (0,) * 5
    """Keys by their use; see ``LimitUsage.keys_by_use``."""
    per: bool = False
    """True if it is counted per attributes, which a request may lack."""
    shadow: bool = False

    def outcomes(self) -> Iterator[tuple[str, int]]:
        """Yield each outcome, and its number of requests."""
        for outcome in _OUTCOMES:
            if outcome != "shadow_refused" or self.shadow or self.shadow_refused:
                yield outcome, getattr(self, outcome)


class LimitSeries:
    """Totals by labels. The first limits that are seen have series of their own.

    A series stays with its limit while that is in force, so that no series falls meanwhile.
    """

    def __init__(self, most: int) -> None:
        """``most``: largest number of limits with series of their own."""
        self._most = most
        self._totals: dict[Of, LimitTotal] = {}
        self._before: dict[tuple[Of, tuple[str, ...], str], Counts] = {}
        self.shown: set[Of] = set()
        """Limits of the last reading that have series of their own."""
        self.without = 0
        """Limits of the last reading that have none."""

    def read(self, usage: AgentUsage) -> list[tuple[Of, LimitTotal]]:
        """Add what was counted since the last reading. Return the totals of limits in force."""
        before, self._before = self._before, {}
        self.shown, others = set[Of](), set[Of]()
        fresh: set[Of] = set()
        # Limits with requests come first: they get the series.
        order = sorted(usage.limits, key=lambda limit: not (limit.allowed or limit.refused))
        for limit in paced(order):
            named = Of.named(limit.scope, limit.limit, budget=limit.budget)
            of = self._series_of(named)
            (self.shown if of is named else others).add(named)
            identity = (named, limit.overrides, limit.unit)
            self._before[identity] = Counts.of(limit)
            total = self._totals[of]
            if of not in fresh:
                fresh.add(of)
                total.keys, total.by_use, total.per, total.shadow = 0, (0,) * 5, False, False
            _add(total, limit, gained(self._before[identity], before.get(identity, Counts())))
        self._totals = {of: total for of, total in self._totals.items() if of in fresh | {_REST}}
        self.without = len(others)
        return [(of, self._totals[of]) for of in sorted(fresh)]

    def _series_of(self, named: Of) -> Of:
        """Return the labels under which a limit is counted, and make its total."""
        own = len(self._totals) - (_REST in self._totals)
        of = named if named in self._totals or own < self._most else _REST
        self._totals.setdefault(of, LimitTotal())
        return of


def _add(total: LimitTotal, limit: LimitUsage, more: Counts) -> None:
    for name, count in more._asdict().items():
        setattr(total, name, getattr(total, name) + count)
    # Of a limit across the cluster, its owner alone counts keys: processes are added up.
    total.keys += sum(limit.keys_by_use) if limit.pool else limit.keys or 0
    total.by_use = tuple(map(sum, zip(total.by_use, limit.keys_by_use, strict=True)))
    total.per = total.per or bool(limit.per)
    total.shadow = total.shadow or limit.shadow
