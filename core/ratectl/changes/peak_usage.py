"""Recent peak usage of the buckets that a change makes smaller.

Agents report the fullest recent use of any one bucket of a limit. If no agent reports it, or if the
value is zero, the use is unknown: a failing reporter reports zero as well.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from ratectl.changes.compare import with_leaders
from ratectl.changes.limits import Buckets

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ratectl.changes.compare import Change, Named
    from ratectl.fleet.usage import LimitTotal

__all__ = ["Use", "uses"]


class Use(NamedTuple):
    """Fullest recent use of one bucket."""

    scope: str
    """Scope of the bucket: the scope of the change, or one below that inherits it."""
    peak: int
    """Used amount, in units of cost, rounded up."""
    over: bool
    """True if the peak is above the new capacity."""


def uses(changes: Sequence[Change], limits: Sequence[LimitTotal]) -> Mapping[Named, Use]:
    """Return the recent peak use by change; changes with unknown use are left out.

    A change that follows from another one counts for its leader.
    """
    known = {Buckets(of.scope, of.limit, of.overrides, of.budget): of for of in limits}
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
