"""What is at stake in a change: how full the buckets were of late that it makes smaller.

Agents report the fullest recent use of any one bucket of a limit. Where none does, or says zero,
the use is unknown: a reporter that fails says zero as well, and is no reason to cut a limit.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from ratectl.changes.compare import with_leaders

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ratectl.changes.compare import Change, Named
    from ratectl.fleet.usage import LimitTotal

__all__ = ["Use", "uses"]


class Use(NamedTuple):
    """The fullest that one bucket was of late."""

    scope: str
    """Where: that of the change, or one below that follows it."""
    peak: int
    """In what requests cost, rounded up."""
    over: bool
    """Whether a full bucket would not admit as much any more."""


def uses(changes: Sequence[Change], limits: Sequence[LimitTotal]) -> Mapping[Named, Use]:
    """By change (those that follow another count for that one); unknown ones are left out."""
    known = {(of.scope, of.limit, of.overrides, of.budget): of for of in limits}
    found: dict[Named, Use] = {}
    for change, leader in with_leaders(changes):
        total = known.get(change.buckets) if change.buckets else None
        if total is None or not total.peak:
            continue
        peak = math.ceil(total.peak * total.most)
        use = Use(change.scope, peak, change.most is not None and peak > change.most)
        key = leader.named
        if key not in found or (use.over, use.peak) > (found[key].over, found[key].peak):
            found[key] = use
    return found
