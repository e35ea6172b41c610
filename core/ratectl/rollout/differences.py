"""What a candidate in shadow would have decided otherwise, over all agents."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple, Self

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ratectl.records import RolloutRecord, UsageRecord

__all__ = ["Differences"]

_By = tuple[str, str]


class Differences(NamedTuple):
    """In requests, since each agent began to evaluate the candidate."""

    agents: int
    """That evaluate it."""
    requests: int
    newly_refused: int
    """Let pass, and the candidate would have refused."""
    newly_allowed: int
    """Refused, and the candidate would have let pass."""
    limits: Sequence[tuple[_By, tuple[int, int]]]
    """(scope, limit) of whichever refused, with both numbers; most first."""

    @classmethod
    def of(cls, rollout: RolloutRecord, usage: Sequence[UsageRecord]) -> Self:
        """Add up what agents report of a rollout's candidate."""
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
