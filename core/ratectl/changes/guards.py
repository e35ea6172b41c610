"""Guards: dangerous changes, of kinds that have caused outages elsewhere, need explicit permission.

Each guard can be passed with a reason, which the history keeps. Missing data, such as unknown use
of buckets, never refuses a change.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from ratectl.runtime.wording import listed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ratectl.changes.compare import Change, Named
    from ratectl.changes.peak_usage import Use
    from ratectl.policy.bundle import EncodedTree
    from ratectl.policy.language.model import PolicyTree

__all__ = [
    "BELOW_USE",
    "EMPTY",
    "FIRST",
    "GROWTH",
    "GUARDS",
    "PROTECTED",
    "REMOVALS",
    "UNSIGNED",
    "UNVERIFIED",
    "Objection",
    "objections",
    "unanswered",
]

EMPTY: Final = "empty"
REMOVALS: Final = "removals"
GROWTH: Final = "growth"
BELOW_USE: Final = "below-use"
PROTECTED: Final = "protected"
FIRST: Final = "first"
UNSIGNED: Final = "unsigned"
UNVERIFIED: Final = "unverified"
"""This guard and the one before it depend on the publisher's key (see ``publishing.proposal``)."""

GUARDS: Final = (EMPTY, REMOVALS, GROWTH, BELOW_USE, PROTECTED, FIRST, UNSIGNED, UNVERIFIED)

_REMOVED: Final = 5
"""One scope in so many may be removed. This stops a push of an incomplete checkout."""
_GROWN: Final = 2
_SMALL: Final = 64 * 1024
"""Bytes: a bundle up to this size may grow freely. Agents have no trouble with it, and a tree of
three scopes soon doubles."""
_NAMED: Final = 5


class Objection(NamedTuple):
    """A guard's objection to a change."""

    guard: str
    message: str


def objections(
    old: EncodedTree | None,
    new: EncodedTree,
    changes: Sequence[Change],
    uses: Mapping[Named, Use],
) -> list[Objection]:
    """Return the objections to replacing ``old``, which is live, by ``new``."""
    if old is None or not old.tree.policies:
        return []
    found = [
        (EMPTY, _emptied(old.tree, new.tree)),
        (REMOVALS, _removed(old.tree, new.tree)),
        (GROWTH, _grown(len(old.policies), len(new.policies))),
        (BELOW_USE, _below_use(changes, uses)),
        (PROTECTED, _protected(old.tree, new.tree, changes)),
    ]
    return [Objection(guard, message) for guard, message in found if message]


def _emptied(old: PolicyTree, new: PolicyTree) -> str:
    if new.policies:
        return ""
    return f"it removes every policy: the {len(old.policies)} scopes would have no limits"


def _removed(old: PolicyTree, new: PolicyTree) -> str:
    gone = sorted(set(old.policies) - set(new.policies))
    if not new.policies or len(gone) * _REMOVED <= len(old.policies):
        return ""
    return (
        f"it removes {len(gone)} of {len(old.policies)} scopes, more than one in {_REMOVED}: "
        f"{listed(gone, _NAMED)}"
    )


def _grown(before: int, after: int) -> str:
    if after <= max(_SMALL, _GROWN * before):
        return ""
    return f"the bundle grows from {before} to {after} bytes, more than {_GROWN} times as large"


def _below_use(changes: Sequence[Change], uses: Mapping[Named, Use]) -> str:
    cut = [
        f"{change.limit} of {change.scope} to {change.most} (recently {use.peak} at {use.scope})"
        for change in changes
        if not change.inherited and (use := uses.get(change.named)) is not None and use.over
    ]
    return f"it cuts limits below recent peak usage: {listed(cut, _NAMED)}" if cut else ""


def _protected(old: PolicyTree, new: PolicyTree, changes: Sequence[Change]) -> str:
    guarded = {
        scope
        for tree in (old, new)
        for scope, policy in tree.policies.items()
        if policy.protected and scope in old.policies
    }
    unguarded = {
        scope
        for scope in guarded
        if old.policies[scope].protected
        and (scope not in new.policies or not new.policies[scope].protected)
    }
    touched = {change.scope for change in changes if change.scope in guarded} | unguarded
    return f"it changes protected scopes: {listed(sorted(touched), _NAMED)}" if touched else ""


def unanswered(found: Sequence[Objection], reasons: Mapping[str, str]) -> Iterator[Objection]:
    """Return the objections for which no reason was given."""
    return (each for each in found if not reasons.get(each.guard, "").strip())
