"""A usage meter that reads given counts at given times."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from ratectl.agent.usage.meter import UsageMeter
from ratectl.agent.usage.record import usage_record
from ratectl.cluster.owned import OwnedLimit
from ratectl.engine.api import EngineCounts, LimitCounts

if TYPE_CHECKING:
    from ratectl.agent.usage.summary import AgentUsage
    from ratectl.engine.limit_plan import GroupName
    from ratectl.records import UsageRecord

__all__ = ["GivenMeter", "GivenShared", "counted", "owned"]


def counted(limit: str, overrides: tuple[str, ...] = (), **changes: Any) -> LimitCounts:
    values: dict[str, Any] = {
        "scope": "/a", "limit": limit, "overrides": overrides, "budget": False, "shadow": False,
        "per": (), "skips": False, "unit": "requests", "absent": 0,
        "allowed": 10, "refused": 0, "never": 0, "shadow_refused": 0, "waited": 0, "most": 100,
        "lowest": 50, "keys": 1, "top_refused": (),
    }  # fmt: skip
    return LimitCounts(**{**values, **changes})


def owned(**changes: Any) -> OwnedLimit:
    """Return what an owner has of a limit: 60 % of 100 tokens are used."""
    row = OwnedLimit("pool-x", "0.o1", 100, 25, 15, 3, 1, (0, 1, 0, 0, 0), 0.6, is_one=False)
    return row._replace(**changes)


class GivenShared:
    """Limits of one process that are shared, and what it owns of them."""

    def __init__(self, name: GroupName, *rows: OwnedLimit) -> None:
        self.name, self.rows = name, rows

    def names(self) -> dict[GroupName, str]:
        return {self.name: "pool-x"}

    def owned(self) -> tuple[OwnedLimit, ...]:
        return self.rows

    def owners(self) -> tuple[()]:
        """Return nothing: no other process owns a limit."""
        return ()


class GivenMeter(UsageMeter):
    """A meter whose tests choose the time (seconds) and the counts of each read."""

    def __init__(
        self, name: str = "edge", forked_at: tuple[LimitCounts, ...] | None = None
    ) -> None:
        """``forked_at``: counts of the parent at the fork, for the meter of a child."""
        self.name, self.at = name, 0.0
        self.counts = EngineCounts(3, (), 0, 0, 0)
        engine: Any = SimpleNamespace(usage=lambda fill: self.counts)
        failures: Any = SimpleNamespace(allowed=0, refused=0)
        line: Any = ()
        uncounted = None if forked_at is None else EngineCounts(3, forked_at, 0, 0, 0)
        super().__init__(engine, failures, line, lambda: int(self.at * 1e9), uncounted)

    def usage(self, at: float, *limits: LimitCounts) -> AgentUsage:
        return self.usage_of(at, EngineCounts(3, limits, 0, 0, 0))

    def usage_of(self, at: float, counts: EngineCounts) -> AgentUsage:
        self.at, self.counts = at, counts
        return self.read(self.name)

    def record(self, at: float, *limits: LimitCounts) -> UsageRecord:
        return usage_record(self.usage(at, *limits))

    def record_of(self, at: float, counts: EngineCounts) -> UsageRecord:
        return usage_record(self.usage_of(at, counts))
