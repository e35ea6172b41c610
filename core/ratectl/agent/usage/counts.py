"""Counts of one limit, and their growth between two readings."""

from __future__ import annotations

from operator import lt, sub
from typing import TYPE_CHECKING, NamedTuple, Self

if TYPE_CHECKING:
    from ratectl.agent.usage.summary import LimitUsage
    from ratectl.engine.api import LimitCounts

__all__ = ["Counts", "fell", "gained"]


class Counts(NamedTuple):
    """Requests of one limit; see ``LimitUsage``."""

    allowed: int = 0
    refused: int = 0
    never: int = 0
    shadow_refused: int = 0
    waited: int = 0
    absent: int = 0

    @classmethod
    def of(cls, limit: LimitCounts | LimitUsage) -> Self:
        return cls(
            limit.allowed,
            limit.refused,
            limit.never,
            limit.shadow_refused,
            limit.waited,
            limit.absent,
        )


def fell(now: Counts, before: Counts) -> bool:
    """Return True if a count is lower than before: the limit was removed, and then restored."""
    return any(map(lt, now, before))


def gained(now: Counts, before: Counts) -> Counts:
    """Return what was counted since ``before``. A limit that was restored began again at 0."""
    if fell(now, before):
        return now
    return Counts(*map(sub, now, before))
