"""Number of requests, estimated from the counts of limits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratectl.agent.usage.history import Decided
from ratectl.policy.language.scopes import ancestry

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["Counted", "requests_of"]

Counted = tuple[str, str, bool, Decided]
"""Scope, name, True for a budget, and requests that the limit decided."""


def requests_of(counted: Iterable[Counted]) -> Decided:
    """Return the number of requests that limits have decided.

    A request is counted by every limit that it meets. So of one scope's limits only the largest
    number counts. A budget counts requests again that scopes below it have counted. The result is
    exact if one limit meets every request of a scope, and never more than the true number.
    Requests that meet no limit are not counted.
    """
    limits: dict[str, dict[str, Decided]] = {}
    budgets: dict[str, dict[str, Decided]] = {}
    for scope, name, budget, decided in counted:
        counts = (budgets if budget else limits).setdefault(scope, {})
        counts[name] = counts.get(name, Decided()).plus(decided)
    scopes = limits.keys() | budgets.keys()
    below: dict[str, Decided] = {}
    total = Decided()
    # Deepest scopes first: the sum below a scope is complete when its turn comes.
    for scope in sorted(scopes, key=lambda path: len(list(ancestry(path))), reverse=True):
        own = _largest(limits.get(scope)).plus(below.pop(scope, Decided()))
        own = own.or_more(_largest(budgets.get(scope)))
        above = next((up for up in ancestry(scope) if up in scopes and up != scope), None)
        if above is None:
            total = total.plus(own)
        else:
            below[above] = below.get(above, Decided()).plus(own)
    return total


def _largest(counts: Mapping[str, Decided] | None) -> Decided:
    largest = Decided()
    for decided in (counts or {}).values():
        largest = largest.or_more(decided)
    return largest
