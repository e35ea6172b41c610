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
from typing import TYPE_CHECKING, Final, NamedTuple

from ratectl.changes.compare import with_leaders
from ratectl.changes.limits import amounts
from ratectl.policy.language.rates import NS, UNIT_NS
from ratectl.policy.language.scopes import ancestry, nearest, parent

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ratectl.changes.compare import Change, Named
    from ratectl.changes.limits import Buckets
    from ratectl.policy.language.model import PolicyTree
    from ratectl.policy.resolution.effective_limit import Limit
    from ratectl.records import LimitReport, UsageRecord

__all__ = ["Refusals", "refusals"]

_SHORTEST_MONTH: Final = 28 * UNIT_NS["day"]


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
        least = max(least, requests - _admitted_at_most(new, seconds, requests))
    return (least, most) if least <= most else (0, requests)  # so they do not cost 1 each


def _compared(old: Limit, new: Limit, report: LimitReport, seconds: float) -> tuple[int, int]:
    """What follows from what ``old`` did with the same requests."""
    allowed, refused = report.recent_allowed, report.recent_refused
    nothing = (0, allowed + refused)
    if (old.algorithm, old.per, old.resets) != (new.algorithm, new.per, new.resets):
        return nothing
    signs = {*amounts(old, new)} - {0}
    if not signs:
        return refused, refused
    used = math.ceil((report.peak or 0.0) * report.most)  # 0 is unknown
    if used and not refused and _fits(used, old, new):
        return 0, 0
    if max(_memory(old), _memory(new)) > seconds * NS:
        return nothing  # what was admitted before the traffic was watched may still count
    if signs == {-1}:
        return 0, refused
    kept = math.ceil(allowed * _kept(used, old, new))
    return (refused if signs == {1} else 0), allowed + refused - kept


def _fits(used: int, old: Limit, new: Limit) -> bool:
    """Whether buckets that ``old`` never filled further than this never fill up in ``new``."""
    if used > _size(new):
        return False
    if old.rate is None or new.rate is None:
        return old.hold == new.hold
    if new.algorithm == "token-bucket":
        return not old.rate.exceeds(new.rate)
    return (old.rate.multiple, old.rate.unit) == (new.rate.multiple, new.rate.unit)


def _kept(used: int, old: Limit, new: Limit) -> Fraction:
    """The share of what ``old`` admitted that ``new`` admits, at least, whenever it came.

    Take every other request of those that never filled a bucket beyond ``used``: they never fill
    one of half the pace beyond half of that, rounded up. So a bucket of such a size admits half of
    them, these or others: whoever admits whatever fits admits most. So with any share.
    """
    if not used or old.rate is None or new.rate is None:
        return Fraction(0)
    slower = Fraction(1)
    if new.algorithm == "token-bucket":
        was, now = old.rate.per_second, new.rate.per_second
        slower = min(slower, now / was) if was and now else Fraction(0)
    elif (old.rate.multiple, old.rate.unit) != (new.rate.multiple, new.rate.unit):
        return Fraction(0)
    if slower == 1 and used <= _size(new):
        return slower
    return min(slower, Fraction(_size(new) - 1, used))


def _admitted_at_most(limit: Limit, seconds: float, requests: int) -> int:
    """What one bucket admits in so many seconds, full when they begin."""
    rate = limit.rate
    if rate is None:
        return requests  # however fast they come, each may be over when the next one does
    if limit.algorithm == "token-bucket":
        return _size(limit) + math.floor((rate.per_second or 0) * Fraction(seconds))
    windows = math.ceil(seconds * NS / (rate.window_ns or _SHORTEST_MONTH))
    return _size(limit) * (windows + (limit.algorithm == "quota"))


def _size(limit: Limit) -> int:
    """What a full bucket admits at once, in any mode."""
    most = limit.burst if limit.algorithm == "token-bucket" else limit.max
    if most is None and limit.rate is not None:
        most = limit.rate.count
    return most or 0


def _memory(limit: Limit) -> float:
    """For how long a request counts, at most, in nanoseconds."""
    rate = limit.rate
    if rate is None:
        return math.inf
    if limit.algorithm != "token-bucket":
        return rate.window_ns or math.inf
    return float(NS * _size(limit) / rate.per_second) if rate.per_second else math.inf
