"""Estimate of the requests of the last minute that a change would have refused.

Agents report for each limit how many requests it decided recently, how many it refused (or would
have refused, in shadow) and how full its fullest bucket was. They do not report the time and the
key of each request. So the estimate is a lower and an upper bound. The bounds are equal if the
number is known, as for a limit that goes from shadow to enforce; they are 0 and all requests if
nothing is known. Otherwise they assume that each request costs 1.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

from ratectl.changes.compare import with_leaders
from ratectl.changes.limits import Buckets
from ratectl.policy.language.rates import NS
from ratectl.policy.language.scopes import ancestry, nearest, parent
from ratectl.policy.resolution.algorithms.registry import rules_of
from ratectl.policy.resolution.effective_limit import DEFAULT_UNIT
from ratectl.policy.resolution.fields import selects_alike

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ratectl.changes.compare import Change, Named
    from ratectl.policy.language.model import PolicyTree
    from ratectl.policy.resolution.effective_limit import Limit
    from ratectl.records import LimitReport, UsageRecord

__all__ = ["Refusals", "refusals"]


class Refusals(NamedTuple):
    """Requests that a limit decided in the last minute, over all agents."""

    requests: int
    refused: int
    """Requests that it refused: 0 while it is in shadow."""
    least: int
    """Lower bound of the refused requests after the change."""
    most: int
    """Upper bound of the refused requests after the change."""

    def __add__(self, other: Refusals) -> Refusals:  # type: ignore[override]
        return Refusals(*(one + two for one, two in zip(self, other, strict=True)))


def refusals(
    old: PolicyTree | None,
    new: PolicyTree,
    changes: Sequence[Change],
    records: Iterable[UsageRecord],
) -> Mapping[Named, Refusals]:
    """Return the estimate by change; changes without reports are left out.

    A change that follows from another one counts for its leader.
    """
    reports = _by_buckets(records)
    resorted = _Resorted(old, new, changes)
    found: dict[Named, Refusals] = {}
    for change, leader in with_leaders(changes):
        for report, seconds in reports.get(change.buckets, ()) if change.buckets else ():
            requests = report.recent_allowed + report.recent_refused
            if not requests:
                continue  # unknown: a failing reporter reports zero as well
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
    """Return each agent's report, with the seconds that its recent counts cover, by buckets."""
    found: dict[Buckets, list[tuple[LimitReport, float]]] = {}
    for record in records:
        for report in record.limits:
            key = Buckets(report.scope, report.limit, tuple(report.overrides), report.budget)
            found.setdefault(key, []).append((report, record.recent_seconds))
    return found


class _Resorted:
    """Set of changes after which buckets count other requests than before; no report covers these.

    Such are changes at a scope that is added or removed, and of a limit that an added, removed or
    changed override sets.
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
        budget = change.buckets is not None and change.buckets.budget
        if change.scope in self._scopes and not budget:
            return True
        return any((scope, change.limit) in self._limits for scope in ancestry(change.scope))


def _bounds(old: Limit, new: Limit | None, report: LimitReport, seconds: float) -> tuple[int, int]:
    """Return the bounds of one agent's requests that ``new`` would have refused."""
    requests = report.recent_allowed + report.recent_refused
    if new is None or new.mode != "enforce" or new.unlimited:
        return 0, 0
    if new.rate is not None and not new.rate.numerator:
        return requests, requests
    live = (_size(old), old.unit, old.mode == "shadow")
    if (report.most, report.unit, report.shadow) != live:
        return 0, requests  # the agent does not run the live policies
    least, most = _compared(old, new, report, seconds)
    if least < most and not new.per and new.unit == DEFAULT_UNIT:
        admitted = rules_of(new).admitted_at_most(new, Fraction(seconds) * NS)
        least = max(least, 0 if admitted is None else requests - admitted)
    return (least, most) if least <= most else (0, requests)  # so they do not cost 1 each


def _compared(old: Limit, new: Limit, report: LimitReport, seconds: float) -> tuple[int, int]:
    """Return the bounds that follow from the decisions of ``old`` on the same requests."""
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
    if new.unit != DEFAULT_UNIT:
        return nothing  # the reports do not say how many units each request costs
    rules = rules_of(new)
    if max(rules.memory_ns(old), rules.memory_ns(new)) > seconds * NS:
        return nothing  # what was admitted before the traffic was watched may still count
    if signs == {-1}:
        return 0, refused
    kept = math.ceil(allowed * _kept(used, old, new))
    return (refused if signs == {1} else 0), allowed + refused - kept


def _fits(used: int, old: Limit, new: Limit) -> bool:
    """Return True if buckets used up to ``used`` under ``old`` never fill up under ``new``."""
    return used <= _size(new) and rules_of(new).counts_no_longer(old, new)


def _kept(used: int, old: Limit, new: Limit) -> Fraction:
    """Return the least share of the requests admitted by ``old`` that ``new`` admits, at any times.

    Take every second request of those that never filled a bucket beyond ``used``: they never fill a
    bucket of half the rate beyond half of ``used``, rounded up. So a bucket of that size admits at
    least half of all the requests, since admitting every request that fits admits the most. The
    same holds for every other share.
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
