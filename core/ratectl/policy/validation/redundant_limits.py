"""Which limits and budgets of a tree can never be the ones that refuse (RC303).

A value is inherited, and may well decide in one scope and not in another: it is reported, where it
was written, only if it decides nowhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from ratectl.policy.resolution.algorithms.registry import rules_of
from ratectl.policy.resolution.fields import EXPLAINED_FIELDS
from ratectl.policy.validation.redundancy import outdone

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ratectl.policy.language.model import LimitFields
    from ratectl.policy.resolution.effective_limit import Limit
    from ratectl.policy.resolution.resolver import Resolved
    from ratectl.policy.validation.steps import Step

__all__ = ["Pointless", "pointless"]

_DECISIVE: Final = tuple(field.name for field in EXPLAINED_FIELDS if field.decides)


class Pointless(NamedTuple):
    """What never refuses, where it was written, and the bucket that always refuses first."""

    scope: str
    path: str
    what: str
    by: Limit
    owner: str
    """The scope of that bucket, where it is a budget."""
    budget: bool


class _Rival(NamedTuple):
    limit: Limit
    owner: str
    budget: bool


_Outdone = dict[str, _Rival | None]
"""Limits in force at a scope, by name, and what outdoes each."""


def pointless(steps: Sequence[Step]) -> Iterator[Pointless]:
    """Every limit and budget that is outdone wherever it holds; ``steps`` has parents first."""
    known: dict[str, _Outdone] = {}
    verdicts: dict[tuple[str, str], _Rival | None] = {}
    for step in steps:
        above = known[step.above.scope] if step.above and step.above.scope in known else {}
        known[step.here.scope] = _judge(step, above, verdicts)
    for policy, _, here, _ in steps:
        yield from _budgets(policy.scope, here)
        for name, said in policy.limits.items():
            by = verdicts.get((policy.scope, name))
            if by is not None:
                path = _path("limits", name, said)
                yield Pointless(policy.scope, path, f"limit '{name}'", *by)


def _judge(step: Step, above: _Outdone, verdicts: dict[tuple[str, str], _Rival | None]) -> _Outdone:
    """What outdoes each limit here; also what that says of the documents that set it."""
    policy, _, here, conditional = step
    if conditional:
        return _judge_all(here, conditional, verdicts)
    changed = [name for name in {*policy.limits, *policy.caps} if name in here.limits]
    fresh = [_Rival(b, owner, True) for owner, b in here.budgets if owner == here.scope]
    if not (changed or fresh or policy.unset):
        return above
    fresh += [_Rival(here.limits[name], here.scope, False) for name in changed]
    found: _Outdone = {}
    for name, limit in here.limits.items():
        before = above.get(name)
        touched = name in policy.limits or name in policy.caps or name not in above
        if touched or (before is not None and not _still_there(before, here)):
            found[name] = _first(limit, _rivals(here))
        else:
            found[name] = before or _first(limit, fresh)
        if touched or found[name] is not before:
            _record(limit, found[name], verdicts)
    return found


def _judge_all(
    here: Resolved,
    conditional: frozenset[str],
    verdicts: dict[tuple[str, str], _Rival | None],
) -> _Outdone:
    """Where overrides apply: what they touch may decide, and outdoes nothing for certain."""
    rivals = [each for each in _rivals(here) if each.budget or each.limit.name not in conditional]
    found: _Outdone = {}
    for name, limit in here.limits.items():
        found[name] = None if name in conditional else _first(limit, rivals)
        _record(limit, found[name], verdicts)
    return found


def _record(
    limit: Limit, by: _Rival | None, verdicts: dict[tuple[str, str], _Rival | None]
) -> None:
    for scope in {limit.settings[field].scope for field in _DECISIVE if field in limit.settings}:
        key = (scope, limit.name)
        verdicts[key] = by if verdicts.get(key, by) else None


def _rivals(here: Resolved) -> Iterator[_Rival]:
    for owner, budget in here.budgets:
        yield _Rival(budget, owner, True)
    for limit in here.limits.values():
        yield _Rival(limit, here.scope, False)


def _still_there(rival: _Rival, here: Resolved) -> bool:
    """Budgets hold in the whole subtree; a limit may have been changed since."""
    return rival.budget or here.limits.get(rival.limit.name) is rival.limit


def _first(limit: Limit, rivals: Iterable[_Rival]) -> _Rival | None:
    return next((r for r in rivals if r.limit is not limit and _outdone(limit, r)), None)


def _outdone(limit: Limit, rival: _Rival) -> bool:
    """Of two limits that outdo each other, the first by name stays."""
    if not outdone(limit, rival.limit):
        return False
    return rival.budget or rival.limit.name < limit.name or not outdone(rival.limit, limit)


def _budgets(scope: str, here: Resolved) -> Iterator[Pointless]:
    """Budgets of this very scope that one at or above it outdoes."""
    own = [budget for owner, budget in here.budgets if owner == scope]
    for budget in own:
        for owner, other in here.budgets:
            if other is budget or not outdone(budget, other):
                continue
            if owner == scope and budget.name < other.name and outdone(other, budget):
                continue
            path = f"budgets.{budget.name}.{rules_of(budget).required}"
            yield Pointless(scope, path, f"budget '{budget.name}'", other, owner, True)
            break


def _path(part: str, name: str, said: LimitFields) -> str:
    field = next((f for f in _DECISIVE if getattr(said, f) is not None), None)
    return f"{part}.{name}.{field}" if field else f"{part}.{name}"
