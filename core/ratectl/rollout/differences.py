"""Decisions that a candidate in shadow would have made differently, over all agents."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple, Self

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ratectl.records import RolloutRecord, UsageRecord

__all__ = ["Differences"]

_By = tuple[str, str]


class Differences(NamedTuple):
    """Numbers of requests since each agent began to evaluate the candidate."""

    agents: int
    """Agents that evaluate it."""
    requests: int
    newly_refused: int
    """Allowed requests that the candidate would have refused."""
    newly_allowed: int
    """Refused requests that the candidate would have allowed."""
    limits: Sequence[tuple[_By, tuple[int, int]]]
    """(scope, limit) that refused, with (newly refused, newly allowed); largest sum first."""

    @classmethod
    def of(cls, rollout: RolloutRecord, usage: Sequence[UsageRecord]) -> Self:
        """Add up the agents' reports of a rollout's candidate."""
        found = [
            each.beside
            for each in usage
            if each.beside is not None and each.beside.rollout == rollout.id
        ]
        refused: Counter[_By] = Counter()
        allowed: Counter[_By] = Counter()
        for report in found:
            for scope, limit, newly_refused, newly_allowed in report.limits:
                refused[scope, limit] += newly_refused
                allowed[scope, limit] += newly_allowed
        return cls(
            len(found),
            sum(each.requests for each in found),
            sum(each.newly_refused for each in found),
            sum(each.newly_allowed for each in found),
            [(by, (refused[by], allowed[by])) for by, _ in (refused + allowed).most_common()],
        )
