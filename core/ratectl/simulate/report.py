"""What a replay found."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ratectl.engine.api import EngineUsage, LimitUsage
    from ratectl.simulate.sources import Reading

__all__ = ["Change", "LimitCount", "Report", "ScopeCount", "Side", "Slice", "limit_counts"]


@dataclass(frozen=True, slots=True)
class ScopeCount:
    """Requests of one declared scope (the deepest that either of two sides declares); ``scope`` is
    None for those that no policy covers."""

    scope: str | None
    requests: int
    refused: int
    shadow: int
    """Admitted, though a shadow limit would have refused."""
    no_policy: int = 0
    """Admitted, because these policies do not cover the scope."""

    @classmethod
    def of(cls, scope: str | None, reasons: Counter[str]) -> ScopeCount:
        stopped, shadow, uncovered = refused(reasons), reasons["shadow"], reasons["no_policy"]
        return cls(scope, reasons.total(), stopped, shadow, uncovered)

    @property
    def admitted(self) -> int:
        return self.requests - self.refused


@dataclass(frozen=True, slots=True)
class LimitCount:
    """Requests that one limit decided, as its engine counts them; each is in the row of those
    overrides that selected its bucket."""

    scope: str
    limit: str
    shadow: bool
    admitted: int
    refused: int
    """By this limit; another one may have refused the same request as well."""
    never: int
    """Of ``refused``: those that no waiting would help."""
    shadow_refused: int
    top_refused: tuple[tuple[str, int], ...]
    """Approximate beyond a few dozen keys."""
    overrides: tuple[str, ...] = ()
    budget: bool = False

    @property
    def decided(self) -> int:
        return self.admitted + self.refused + self.shadow_refused


@dataclass(frozen=True, slots=True)
class Side:
    """One set of policies over the traffic."""

    name: str
    scopes: tuple[ScopeCount, ...]
    limits: tuple[LimitCount, ...]

    @property
    def refused(self) -> int:
        return sum(each.refused for each in self.scopes)

    @property
    def shadow(self) -> int:
        return sum(each.shadow for each in self.scopes)

    @property
    def no_policy(self) -> int:
        return sum(each.no_policy for each in self.scopes)


@dataclass(frozen=True, slots=True)
class Slice:
    """One bucket of the timeline: requests, and refused and shadow of each side."""

    requests: int
    refused: tuple[int, ...]
    shadow: tuple[int, ...]

    @classmethod
    def of(cls, reasons: Sequence[Counter[str]]) -> Slice:
        return cls(
            reasons[0].total(),
            tuple(refused(each) for each in reasons),
            tuple(each["shadow"] for each in reasons),
        )


@dataclass(frozen=True, slots=True)
class Change:
    """Requests of one declared scope that the two sides answer differently."""

    scope: str | None
    newly_refused: int
    newly_admitted: int


@dataclass(frozen=True, slots=True)
class Report:
    """A whole replay. ``sides`` holds the policies asked about, then those compared with."""

    reading: Reading
    requests: int
    first_ns: int | None
    last_ns: int | None
    sides: tuple[Side, ...]
    changes: tuple[Change, ...]
    start_ns: int
    """When the first bucket of the timeline begins."""
    width_ns: int
    timeline: tuple[Slice, ...]


def refused(reasons: Mapping[str, int]) -> int:
    """Decisions that did not let a request pass."""
    return reasons.get("limited", 0) + reasons.get("never", 0)


def limit_counts(usage: EngineUsage) -> tuple[LimitCount, ...]:
    """By scope, name and overrides: buckets that ended and began anew are counted together."""
    found: dict[tuple[str, str, bool, tuple[str, ...]], list[LimitUsage]] = {}
    for each in usage.limits:
        key = (each.scope, each.limit, each.budget, each.overrides)
        found.setdefault(key, []).append(each)
    return tuple(_limit_count(found[key]) for key in sorted(found))


def _limit_count(parts: Sequence[LimitUsage]) -> LimitCount:
    keys: Counter[str] = Counter()
    for part in parts:
        keys.update(dict(part.top_refused))
    never = sum(part.never for part in parts)
    return LimitCount(
        parts[0].scope,
        parts[0].limit,
        all(part.shadow for part in parts),
        sum(part.allowed for part in parts),
        sum(part.refused for part in parts) + never,
        never,
        sum(part.shadow_refused for part in parts),
        tuple(keys.most_common(10)),
        parts[0].overrides,
        parts[0].budget,
    )
