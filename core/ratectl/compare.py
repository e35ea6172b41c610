"""What a change does: two trees compared by what requests would notice, not by text.

``60/min`` and ``1/s`` are the same token bucket; a comment, a moved line or a value written out
that was inherited before is no change.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ratectl.policy.model import PolicyTree
from ratectl.policy.resolve import Resolver
from ratectl.policy.scopes import nearest, parent

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ratectl.policy.limits import Limit
    from ratectl.policy.resolve import Resolved

__all__ = ["Change", "compare", "summarise"]

Kind = Literal["added", "removed", "tightened", "loosened", "changed"]

_EMPTY = PolicyTree({})


@dataclass(frozen=True, slots=True)
class Change:
    """One difference at one declared scope.

    ``limit`` is None for a change of ``on_error``, and ``budget NAME`` for one of a budget.
    ``inherited``: the nearest declared scope above changes in just the same way, so this follows
    from that.
    """

    scope: str
    limit: str | None
    kind: Kind
    before: str | None
    after: str | None
    inherited: bool = False


def compare(old: PolicyTree | None, new: PolicyTree) -> list[Change]:
    """Every effective difference, by scope, then limit."""
    before, after = Resolver(old or _EMPTY), Resolver(new)
    declared = set(new.policies) | (set(old.policies) if old else set())
    found: dict[tuple[str, str | None], Change] = {}
    for scope in sorted(declared):
        for change in _at(scope, before.at(scope), after.at(scope)):
            above = _above(scope, declared)
            twin = found.get((above, change.limit)) if above else None
            same = twin is not None and (twin.before, twin.after) == (change.before, change.after)
            found[scope, change.limit] = Change(
                scope, change.limit, change.kind, change.before, change.after, inherited=same
            )
    return list(found.values())


def summarise(tree: PolicyTree, changes: list[Change]) -> dict[str, int]:
    """Counts for a history entry: what the tree declares, and what changed."""
    counted = {"added": 0, "removed": 0, "changed": 0}
    for change in changes:
        if not change.inherited:
            counted[change.kind if change.kind in counted else "changed"] += 1
    limits = sum(len(policy.limits) for policy in tree.policies.values())
    return {"scopes": len(tree.policies), "limits": limits, **counted}


def _above(scope: str, declared: set[str]) -> str | None:
    up = parent(scope)
    return nearest(up, declared) if up else None


def _at(scope: str, old: Resolved | None, new: Resolved | None) -> Iterator[Change]:
    yield from _pairs(scope, "", old.limits if old else {}, new.limits if new else {})
    # Budgets are compared at their own scope, where their bucket is.
    yield from _pairs(scope, "budget ", _own_budgets(old, scope), _own_budgets(new, scope))
    was = str(old.on_error.value) if old else "allow"
    now = str(new.on_error.value) if new else "allow"
    if was != now:
        yield Change(
            scope, None, "tightened" if now == "deny" else "loosened", f"on_error {was}",
            f"on_error {now}",
        )  # fmt: skip


def _own_budgets(resolved: Resolved | None, scope: str) -> dict[str, Limit]:
    budgets = resolved.budgets if resolved else ()
    return {budget.name: budget for owner, budget in budgets if owner == scope}


def _pairs(
    scope: str, prefix: str, before: Mapping[str, Limit], after: Mapping[str, Limit]
) -> Iterator[Change]:
    for name in [*before, *(name for name in after if name not in before)]:
        one, other = before.get(name), after.get(name)
        if one is None or other is None or _effect(one) != _effect(other):
            yield Change(scope, prefix + name, _kind(one, other), _text(one), _text(other))


def _effect(limit: Limit) -> tuple[object, ...]:
    """What requests can notice."""
    if limit.mode == "off" or limit.unlimited:
        return (limit.mode if limit.mode == "off" else "unlimited",)
    if limit.rate is None:
        hold = limit.hold.ns if limit.hold else None
        return (limit.algorithm, limit.max, hold, limit.per, limit.mode)
    rate: object = limit.rate.per_second
    if limit.algorithm != "token-bucket":
        rate = (limit.rate.count, limit.rate.window_ns or limit.rate.unit)
    return (limit.algorithm, rate, limit.burst, limit.per, limit.mode, limit.resets)


def _kind(old: Limit | None, new: Limit | None) -> Kind:
    if old is None:
        return "added"
    if new is None:
        return "removed"
    if (old.algorithm, old.per, old.resets) != (new.algorithm, new.per, new.resets):
        return "changed"
    signs = {_sign(_strictness(old), _strictness(new)), *_amounts(old, new)} - {0}
    if signs == {1}:
        return "tightened"
    return "loosened" if signs == {-1} else "changed"


def _strictness(limit: Limit) -> int:
    return {"off": 0, "shadow": 1, "enforce": 2}[limit.mode]


def _amounts(old: Limit, new: Limit) -> Iterator[int]:
    """1 for each amount that became tighter, -1 looser."""
    if old.rate is None or new.rate is None:
        yield _sign(new.max or 0, old.max or 0)
        if old.hold and new.hold:  # a slot that leaks is missed for longer
            yield _sign(old.hold.ns, new.hold.ns)
        return
    yield old.rate.exceeds(new.rate) - new.rate.exceeds(old.rate)
    if old.burst is not None and new.burst is not None:
        yield _sign(new.burst, old.burst)
    elif old.algorithm != "token-bucket" and not (old.rate.unlimited or new.rate.unlimited):
        yield _sign(new.rate.numerator, old.rate.numerator)


def _sign(smaller: int, larger: int) -> int:
    return (larger > smaller) - (larger < smaller)


def _text(limit: Limit | None) -> str | None:
    if limit is None:
        return None
    parts = [limit.algorithm]
    if limit.rate is None:
        parts.append(f"max {limit.max} hold {limit.hold}")
    else:
        parts.append(str(limit.rate))
    if limit.burst is not None:
        parts.append(f"burst {limit.burst}")
    if limit.resets is not None and limit.rate and limit.rate.unit not in ("min", "h"):
        parts.append(f"resets {limit.resets}")
    if limit.per:
        parts.append(f"per {', '.join(limit.per)}")
    if limit.mode != "enforce":
        parts.append(limit.mode)
    return " ".join(parts)
