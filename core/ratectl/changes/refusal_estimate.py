"""What a change would have refused of the traffic of the last minute, as far as that follows.

Agents report, for each limit, how many requests it decided lately, how many it refused (or would
have, in shadow) and how full its fullest bucket was; not when each request came, nor of which key.
So the answer is a number between two bounds: they meet where it is known, as for a limit that was
in shadow and is to be enforced, and are none and all where nothing is. Where they lie apart they
take each request to cost 1.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

from ratectl.changes.compare import with_leaders
from ratectl.policy.language.rates import NS
from ratectl.policy.language.scopes import ancestry, nearest, parent
from ratectl.policy.resolution.algorithms.registry import rules_of
from ratectl.policy.resolution.fields import selects_alike

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ratectl.changes.compare import Change, Named
    from ratectl.changes.limits import Buckets
    from ratectl.policy.language.model import PolicyTree
    from ratectl.policy.resolution.effective_limit import Limit
    from ratectl.records import LimitReport, UsageRecord

__all__ = ["Refusals", "refusals"]


class Refusals(NamedTuple):
    """Requests of the last minute that a limit decided, over all agents."""

    requests: int
    refused: int
    """Those that it did refuse: none while it is in shadow."""
    least: int
    """So many, at least, it would have refused after the change."""
    most: int
    """And no more than so many."""

    def __add__(self, other: Refusals) -> Refusals:  # type: ignore[override]
        return Refusals(*(one + two for one, two in zip(self, other, strict=True)))


def refusals(
    old: PolicyTree | None,
    new: PolicyTree,
    changes: Sequence[Change],
    records: Iterable[UsageRecord],
) -> Mapping[Named, Refusals]:
    """By change (those that follow another count for that one); what nobody reports is left out."""
    reports = _by_buckets(records)
    resorted = _Resorted(old, new, changes)
    found: dict[Named, Refusals] = {}
    for change, leader in with_leaders(changes):
        for report, seconds in reports.get(change.buckets, ()) if change.buckets else ():
            requests = report.recent_allowed + report.recent_refused
            if not requests:
                continue  # unknown: a reporter that fails says nothing as well
            least, most = 0, requests
            if change.old is not None and change not in resorted:
                least, most = _bounds(change.old, change.new, report, seconds)
            refused = 0 if report.shadow else report.recent_refused
            known = found.get(leader.named, Refusals(0, 0, 0, 0))
            found[leader.named] = known + Refusals(requests, refused, least, most)
    return found


def _by_buckets(
    records: Iterable[UsageRecord],
) -> Mapping[Buckets, Sequence[tuple[LimitReport, float]]]:
    """Each agent's report, and the seconds that its recent counts cover."""
    found: dict[Buckets, list[tuple[LimitReport, float]]] = {}
    for record in records:
        for report in record.limits:
            key = (report.scope, report.limit, tuple(report.overrides), report.budget)
            found.setdefault(key, []).append((report, record.recent_seconds))
    return found


class _Resorted:
    """Changes after which buckets count other requests than before: nobody reports these apart.

    So where a scope comes or goes, or an override that has a say in the limit.
    """

    def __init__(self, old: PolicyTree | None, new: PolicyTree, changes: Sequence[Change]) -> None:
        before = set(old.policies) if old else set()
        both = before & set(new.policies)
        self._scopes = before ^ set(new.policies)
        for scope in tuple(self._scopes):
            above = parent(scope)
            self._scopes.update(filter(None, [nearest(above, both) if above else None]))
        self._limits = {
            (change.scope, change.limit)
            for change in changes
            if change.via and change.kind in ("added", "removed", "changed")
        }

    def __contains__(self, change: Change) -> bool:
        budget = change.buckets is not None and change.buckets[-1]
        if change.scope in self._scopes and not budget:
            return True
        return any((scope, change.limit) in self._limits for scope in ancestry(change.scope))


def _bounds(old: Limit, new: Limit | None, report: LimitReport, seconds: float) -> tuple[int, int]:
    """How many requests of one agent ``new`` would have refused, at least and at most."""
    requests = report.recent_allowed + report.recent_refused
    if new is None or new.mode != "enforce" or new.unlimited:
        return 0, 0
    if new.rate is not None and not new.rate.numerator:
        return requests, requests
    if report.most != _size(old) or report.shadow is not (old.mode == "shadow"):
        return 0, requests  # the agent runs other rules than are live
    least, most = _compared(old, new, report, seconds)
    if least < most and not new.per:
        admitted = rules_of(new).admitted_at_most(new, Fraction(seconds) * NS)
        least = max(least, 0 if admitted is None else requests - admitted)
    return (least, most) if least <= most else (0, requests)  # so they do not cost 1 each


def _compared(old: Limit, new: Limit, report: LimitReport, seconds: float) -> tuple[int, int]:
    """What follows from what ``old`` did with the same requests."""
    allowed, refused = report.recent_allowed, report.recent_refused
    nothing = (0, allowed + refused)
    if not selects_alike(old, new):
        return nothing
    signs = {*rules_of(new).tightenings(old, new)} - {0}
    if not signs:
        return refused, refused
    used = math.ceil((report.peak or 0.0) * report.most)  # 0 is unknown
    if used and not refused and _fits(used, old, new):
        return 0, 0
    rules = rules_of(new)
    if max(rules.memory_ns(old), rules.memory_ns(new)) > seconds * NS:
        return nothing  # what was admitted before the traffic was watched may still count
    if signs == {-1}:
        return 0, refused
    kept = math.ceil(allowed * _kept(used, old, new))
    return (refused if signs == {1} else 0), allowed + refused - kept


def _fits(used: int, old: Limit, new: Limit) -> bool:
    """Whether buckets that ``old`` never filled further than this never fill up in ``new``."""
    return used <= _size(new) and rules_of(new).counts_no_longer(old, new)


def _kept(used: int, old: Limit, new: Limit) -> Fraction:
    """The share of what ``old`` admitted that ``new`` admits, at least, whenever it came.

    Take every other request of those that never filled a bucket beyond ``used``: they never fill
    one of half the pace beyond half of that, rounded up. So a bucket of such a size admits half of
    them, these or others: whoever admits whatever fits admits most. So with any share.
    """
    pace = rules_of(new).pace_kept(old, new)
    if not used or not pace:
        return Fraction(0)
    if pace == 1 and used <= _size(new):
        return pace
    return min(pace, Fraction(_size(new) - 1, used))


def _size(limit: Limit) -> int:
    """Return the cost that a full bucket admits at once, in any mode."""
    return rules_of(limit).capacity(limit) or 0
