"""Report of a replay."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ratectl.engine.api import EngineCounts, LimitCounts
    from ratectl.simulate.sources import Reading

__all__ = ["Change", "LimitCount", "Report", "ScopeCount", "Side", "Slice", "limit_counts"]


@dataclass(frozen=True, slots=True)
class ScopeCount:
    """Counts of one declared scope, the deepest that any side declares.

    ``scope`` is None for requests that no policy covers.
    """

    scope: str | None
    requests: int
    refused: int
    shadow: int
    """Admitted, although a shadow limit would have refused."""
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
    """Counts of one limit, from the engine; one row for each set of overrides."""

    scope: str
    limit: str
    shadow: bool
    admitted: int
    refused: int
    """Refused by this limit; another limit may have refused the same request too."""
    never: int
    """Part of ``refused`` for which waiting does not help."""
    shadow_refused: int
    top_refused: tuple[tuple[str, int], ...]
    """Keys with the most refusals; approximate beyond a few dozen keys."""
    overrides: tuple[str, ...] = ()
    budget: bool = False
    unit: str = "requests"
    """What it counts; the numbers here are requests."""
    absent: int = 0
    """Requests that lacked one of the attributes ``per`` which it counts."""
    per: tuple[str, ...] = ()
    skips: bool = False
    """True if it does not apply to these requests."""

    @property
    def decided(self) -> int:
        return self.admitted + self.refused + self.shadow_refused


@dataclass(frozen=True, slots=True)
class Side:
    """Counts of one set of policies."""

    name: str
    scopes: tuple[ScopeCount, ...]
    limits: tuple[LimitCount, ...]

    @property
    def refused(self) -> int:
        return sum(scope.refused for scope in self.scopes)

    @property
    def shadow(self) -> int:
        return sum(scope.shadow for scope in self.scopes)

    @property
    def no_policy(self) -> int:
        return sum(scope.no_policy for scope in self.scopes)


@dataclass(frozen=True, slots=True)
class Slice:
    """Bucket of the timeline: number of requests, and refused and shadow of each side."""

    requests: int
    refused: tuple[int, ...]
    shadow: tuple[int, ...]

    @classmethod
    def of(cls, reasons: Sequence[Counter[str]]) -> Slice:
        return cls(
            reasons[0].total(),
            tuple(refused(side) for side in reasons),
            tuple(side["shadow"] for side in reasons),
        )


@dataclass(frozen=True, slots=True)
class Change:
    """Counts of the requests of one declared scope that the two sides decide differently."""

    scope: str | None
    newly_refused: int
    newly_admitted: int


@dataclass(frozen=True, slots=True)
class Report:
    """Result of a replay. ``sides`` has the given policies, then those to compare with."""

    reading: Reading
    requests: int
    first_ns: int | None
    last_ns: int | None
    sides: tuple[Side, ...]
    changes: tuple[Change, ...]
    start_ns: int
    """Start of the first bucket of the timeline, in nanoseconds since 1970."""
    width_ns: int
    timeline: tuple[Slice, ...]


def refused(reasons: Mapping[str, int]) -> int:
    """Return the number of decisions that refused a request."""
    return reasons.get("limited", 0) + reasons.get("never", 0)


def limit_counts(usage: EngineCounts) -> tuple[LimitCount, ...]:
    """Return counts by scope, name and overrides; a limit that ended and restarted has one row."""
    rows: dict[tuple[str, str, bool, tuple[str, ...], str], list[LimitCounts]] = {}
    for part in usage.limits:
        key = (part.scope, part.limit, part.budget, part.overrides, part.unit)
        rows.setdefault(key, []).append(part)
    return tuple(_limit_count(rows[key]) for key in sorted(rows))


def _limit_count(parts: Sequence[LimitCounts]) -> LimitCount:
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
        parts[0].unit,
        sum(part.absent for part in parts),
        parts[0].per,
        parts[-1].skips,
    )
