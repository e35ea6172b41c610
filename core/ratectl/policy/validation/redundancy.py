"""Redundancy: a limit is redundant if another one refuses all that it refuses, and no later.

It is reported only where it is certain. All traffic of the one must draw from a single bucket of
the other, which then bounds it: in a span t a token bucket admits at most burst + rate·t, a window
n for each time that it fits into t, and n more. A bucket that this bound cannot fill never refuses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratectl.policy.resolution.algorithms.registry import rules_of

if TYPE_CHECKING:
    from ratectl.policy.resolution.effective_limit import Limit

__all__ = ["outdone"]


def outdone(limit: Limit, by: Limit) -> bool:
    """Return True if ``limit`` refuses nothing that ``by`` admits.

    Every request that ``limit`` counts must draw from ``by`` too: a budget at or above its scope,
    or another limit of the same scope.
    """
    if not (_enforced(limit) and _enforced(by)) or limit.across is not None:
        return False  # limits across the cluster count what other agents admit
    if not set(by.per) <= set(limit.per):
        return False
    if by.rate is not None and not by.rate.numerator:
        return False  # 0/s closes a subtree for a while: no reason to rewrite what is below
    return rules_of(limit).covered(limit, by, rules_of(by))


def _enforced(limit: Limit) -> bool:
    return limit.mode == "enforce" and not limit.unlimited
