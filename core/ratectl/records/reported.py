"""What agents write of themselves."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Self

from ratectl.records.base import Record
from ratectl.records.checks import check_counts, check_fields, sequence_problem

__all__ = [
    "AgentRecord",
    "Beat",
    "BesideReport",
    "LimitReport",
    "Obeyed",
    "UsageRecord",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Obeyed:
    """A kill switch that an agent obeys."""

    scope: str
    mode: str
    """``open`` or ``shadow``."""
    source: str
    """``store``, or ``file`` for one in the agent's state directory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentRecord(Record):
    """What an agent says of itself."""

    id: str
    generation: int
    """The generation it enforces; 0 for none yet."""
    state: str
    """``serving``, ``rejected`` (keeps serving ``generation``) or ``waiting`` (has none yet)."""
    error: str | None
    rejected: int | None
    """The generation it refused, while ``state`` is ``rejected``."""
    applied: str | None
    """When it swapped to ``generation``."""
    swap_ms: float | None
    """How long that took, from seeing the head to enforcing it, in milliseconds."""
    started: str
    reported: str
    host: str
    pid: int
    version: str
    engine: str
    errors: int = 0
    """Decisions answered by ``on_error`` since the start."""
    rollout: str | None = None
    """The rollout whose candidate it runs."""
    sequence: int = 0
    """Of the newest head that it accepted."""
    interval: float = 2.0
    """Seconds between its usage reports."""
    panic: list[Obeyed] = field(default_factory=list)
    panic_sequence: int = 0
    """Of the store's record of switches that it obeys; 0 for none."""

    @classmethod
    def _build(cls, value: dict[str, Any]) -> Self:
        value["panic"] = [Obeyed(**_known(Obeyed, each)) for each in value.get("panic", ())]
        return cls(**_known(cls, value))

    def check(self) -> None:
        """See ``Record.check``."""
        check_fields(self)
        for sequence in (self.sequence, self.panic_sequence):
            problem = sequence_problem(sequence)
            if sequence != 0 and problem:
                raise ValueError(problem)


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat(Record):
    """A sign of life, written with every usage record and far smaller."""

    id: str
    generation: int
    since: str
    reported: str
    requests: int
    """Decided since it started; never more than there were (see ``agent.usage``)."""
    refused: int

    def check(self) -> None:
        """See ``Record.check``."""
        check_fields(self)
        check_counts(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitReport:
    """Counts of one limit in one agent, or of those of its buckets that some overrides select.

    ``recent_*`` cover ``UsageRecord.recent_seconds``.
    """

    scope: str
    limit: str
    shadow: bool
    most: int
    allowed: int
    refused: int
    never: int
    shadow_refused: int
    keys: int
    recent_allowed: int
    recent_refused: int
    peak: float | None
    """Fullest use of any one bucket recently, 0 to 1; None when nothing was admitted."""
    top_refused: list[tuple[str, int]] = field(default_factory=list)
    budget: bool = False
    """Whether it is a budget of ``scope``, drawn from by the whole subtree."""
    overrides: list[str] = field(default_factory=list)
    """Those that select these buckets, among all of the limit's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BesideReport:
    """What a candidate in shadow would have decided otherwise in one agent."""

    rollout: str
    generation: int
    requests: int
    """Decided by both since the agent began to evaluate it."""
    newly_refused: int
    """Let pass, and the candidate would have refused."""
    newly_allowed: int
    """Refused, and the candidate would have let pass."""
    limits: list[tuple[str, str, int, int]] = field(default_factory=list)
    """By which limits, most first: scope, limit (of whichever refused), and both numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageRecord(Record):
    """What an agent has counted since it started, most active limits first."""

    id: str
    generation: int
    since: str
    reported: str
    recent_seconds: float
    limits: list[LimitReport]
    omitted: int
    """Less active limits left out to bound the record."""
    no_policy: int
    errors: int
    buckets: int
    overflowed: int
    beside: BesideReport | None = None

    @classmethod
    def _build(cls, value: dict[str, Any]) -> Self:
        if value.get("beside") is not None:
            value["beside"] = BesideReport(
                **_known(BesideReport, _with_tuples(value["beside"], "limits"))
            )
        value["limits"] = [
            LimitReport(**_known(LimitReport, _with_tuples(limit, "top_refused")))
            for limit in value["limits"]
        ]
        return cls(**_known(cls, value))

    def check(self) -> None:
        """See ``Record.check``."""
        check_fields(self)
        for counted in (self, *self.limits, *filter(None, [self.beside])):
            check_counts(counted)
        for limit in self.limits:
            if limit.peak is not None and limit.peak > 1:
                raise ValueError(f"peak cannot be {limit.peak!r}, more than full")


def _known(kind: Any, value: dict[str, Any]) -> dict[str, Any]:
    """Return the fields that a dataclass has: a newer version may write more."""
    return {name: item for name, item in value.items() if name in kind.__dataclass_fields__}


def _with_tuples(value: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a JSON object with tuples in place of the arrays in one of its fields."""
    return {**value, name: [tuple(each) for each in value.get(name, ())]}
