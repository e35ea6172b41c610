"""Comparison of two policy trees by their effect on requests, not by their text.

``60/min`` and ``1/s`` are the same token bucket. A comment, a moved line, or an explicit value that
equals the inherited one is no change. Limits are compared for requests that satisfy no condition,
then each override and exception separately.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ratectl.changes.exceptions import exception_changes
from ratectl.changes.limits import (
    BUDGET,
    Change,
    Named,
    Origin,
    effect,
    kind_of,
    origin_of,
    text_of,
)
from ratectl.changes.overrides import Overrides
from ratectl.policy.language.model import PolicyTree
from ratectl.policy.language.scopes import ancestry, nearest, parent
from ratectl.policy.resolution.resolver import Resolver

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ratectl.policy.resolution.effective_limit import Limit
    from ratectl.policy.resolution.resolver import Resolved

__all__ = ["Change", "Named", "compare", "summarise", "with_leaders"]

_EMPTY = PolicyTree({})


def compare(old: PolicyTree | None, new: PolicyTree, now_ns: int | None = None) -> list[Change]:
    """Return every effective difference, by scope, then limit.

    ``now_ns``: time of the wall clock; exceptions that have ended by then are ignored.
    """
    old = old or _EMPTY
    before, after = Resolver(old), Resolver(new)
    moved = _Moved(old, new)
    overrides = Overrides(old, new, before, after)
    by_exceptions = exception_changes(old, new, now_ns)
    declared = set(new.policies) | set(old.policies)
    found: dict[Named, Change] = {}
    for scope in sorted({*declared, *by_exceptions}):
        if scope in declared and scope in moved:
            base = list(_at(scope, before.at(scope), after.at(scope)))
            for change in (*base, *overrides.at(scope, base)):
                above = _above(scope, declared)
                while change.via and above and not overrides.judged(above, change):
                    above = _above(above, declared)  # not judged here: same effect as further up
                twin = found.get((above, change.limit, change.via)) if above else None
                same = twin and (twin.before, twin.after) == (change.before, change.after)
                found[change.named] = replace(change, inherited=True) if same else change
        for number, change in enumerate(by_exceptions.get(scope, [])):
            found[scope, change.limit, f"{number} {change.via}"] = change
    return list(found.values())


def summarise(tree: PolicyTree, changes: list[Change]) -> dict[str, int]:
    """Return counts for a history entry: of the tree's declarations, and of the changes."""
    counted = {"added": 0, "removed": 0, "changed": 0}
    for change in changes:
        if not change.inherited:
            counted[change.kind if change.kind in counted else "changed"] += 1
    policies = tree.policies.values()
    return {
        "scopes": len(tree.policies),
        "limits": sum(len(policy.limits) for policy in policies),
        "budgets": sum(len(policy.budgets) for policy in policies),
        "overrides": sum(len(policy.overrides) for policy in policies),
        "exceptions": len(tree.exceptions),
        **counted,
    }


def with_leaders(changes: Sequence[Change]) -> Iterator[tuple[Change, Change]]:
    """Yield each change with its leader: the change that it follows from, or itself if none."""
    leaders = {change.named: change for change in changes if not change.inherited}
    for change in changes:
        leader = None if change.inherited else change
        for scope in ancestry(change.scope) if leader is None else ():
            leader = leaders.get((scope, change.limit, change.via))
            if leader is None and change.via:
                leader = leaders.get((scope, change.limit, None))
            if leader is not None:
                break
        yield change, leader or change


class _Moved:
    """Set of the scopes with a different document on their path; the others cannot change."""

    def __init__(self, old: PolicyTree, new: PolicyTree) -> None:
        self._old = old.policies
        self._new = new.policies
        self._known: dict[str, bool] = {}

    def __contains__(self, scope: str) -> bool:
        known = self._known.get(scope)
        if known is None:
            above = parent(scope)
            known = above is not None and above in self
            known = known or self._old.get(scope) != self._new.get(scope)
            self._known[scope] = known
        return known


def _above(scope: str, declared: set[str]) -> str | None:
    up = parent(scope)
    return nearest(up, declared) if up else None


def _at(scope: str, old: Resolved | None, new: Resolved | None) -> Iterator[Change]:
    yield from _pairs(scope, "", old.limits if old else {}, new.limits if new else {})
    # A budget is compared at its own scope, since its bucket is there.
    yield from _pairs(scope, BUDGET, _own_budgets(old, scope), _own_budgets(new, scope))
    was = str(old.on_error.value) if old else "allow"
    now = str(new.on_error.value) if new else "allow"
    if was != now:
        yield Change(
            scope, None, "tightened" if now == "deny" else "loosened", f"on_error {was}",
            f"on_error {now}", origin=Origin("on_error", new.on_error) if new else None,
        )  # fmt: skip


def _own_budgets(resolved: Resolved | None, scope: str) -> dict[str, Limit]:
    budgets = resolved.budgets if resolved else ()
    return {budget.name: budget for owner, budget in budgets if owner == scope}


def _pairs(
    scope: str, prefix: str, before: Mapping[str, Limit], after: Mapping[str, Limit]
) -> Iterator[Change]:
    for name in [*before, *(name for name in after if name not in before)]:
        one, other = before.get(name), after.get(name)
        if effect(one) != effect(other):
            yield Change(
                scope, prefix + name, kind_of(one, other), text_of(one), text_of(other),
                origin=origin_of(one, other, budget=bool(prefix)), old=one, new=other,
            )  # fmt: skip
