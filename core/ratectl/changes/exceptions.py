"""Changes by exceptions that were added, removed or changed.

Each exception is compared at its own scope, as if no other were in force. Its reason and owner do
not affect requests, and are not compared.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

from ratectl.changes.limits import BUDGET, Change, effect, text_of
from ratectl.changes.overrides import where_text
from ratectl.policy.language.model import PolicyTree
from ratectl.policy.resolution.resolver import Resolver

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ratectl.changes.limits import Kind
    from ratectl.policy.language.model import Exemption
    from ratectl.policy.resolution.effective_limit import Limit

__all__ = ["exception_changes"]


class _Effect(NamedTuple):
    """A limit or budget, without and with an exception."""

    without: Limit | None
    amended: Limit | None

    @property
    def noticed(self) -> bool:
        return effect(self.without) != effect(self.amended)


def exception_changes(
    old: PolicyTree, new: PolicyTree, now_ns: int | None
) -> dict[str, list[Change]]:
    """Return the changes by scope; exceptions that have ended at ``now_ns`` are ignored."""
    found: dict[str, list[Change]] = defaultdict(list)
    gone, come = _only_in(old, new, now_ns), _only_in(new, old, now_ns)
    for was, now in _paired(gone, come):
        scope = (now or was).scope  # type: ignore[union-attr]
        found[scope] += _changes(old, new, was, now)
    return found


def _only_in(tree: PolicyTree, other: PolicyTree, now_ns: int | None) -> list[Exemption]:
    known = {_said(each) for each in other.exceptions}
    return [
        each
        for each in tree.exceptions
        if _said(each) not in known and (now_ns is None or each.until.ns > now_ns)
    ]


def _said(exception: Exemption) -> str:
    """Return the parts of an exception that affect requests."""
    return exception.model_dump_json(by_alias=True, exclude={"reason", "owner"})


def _paired(
    gone: list[Exemption], come: list[Exemption]
) -> Iterator[tuple[Exemption | None, Exemption | None]]:
    """Yield (old, new) of each exception; None for the missing side of an added or removed one.

    An old and a new exception with the same scope and reason are one exception that was changed.
    """
    by_name: dict[tuple[str, str], tuple[list[Exemption], list[Exemption]]] = {}
    for side, exceptions in enumerate((gone, come)):
        for each in exceptions:
            by_name.setdefault((each.scope, each.reason), ([], []))[side].append(each)
    for before, after in by_name.values():
        if len(before) == len(after) == 1:
            yield before[0], after[0]
        else:
            yield from ((each, None) for each in before)
            yield from ((None, each) for each in after)


def _changes(
    old: PolicyTree, new: PolicyTree, was: Exemption | None, now: Exemption | None
) -> Iterator[Change]:
    before, after = _effects(old, was), _effects(new, now)
    kind: Kind = "added" if was is None else "removed" if now is None else "changed"
    for name in [*before, *(name for name in after if name not in before)]:
        one, other = before.get(name), after.get(name)
        if was and now and _says(was, name) == _says(now, name):
            continue  # another limit of the same exception changed
        if not (one and one.noticed) and not (other and other.noticed):
            continue
        texts = _text(was, one), _text(now, other)
        if was is None and other is not None:
            texts = (text_of(other.without), texts[1])
        if now is None and one is not None:
            texts = (texts[0], text_of(one.without))
        if was and now and one and other and _when(was) == _when(now):
            texts = (text_of(one.amended), texts[1])
        via = (now or was).ref  # type: ignore[union-attr]
        scope = (now or was).scope  # type: ignore[union-attr]
        yield Change(scope, name, kind, *texts, via=via)


def _effects(tree: PolicyTree, exception: Exemption | None) -> Mapping[str, _Effect]:
    """Return an exception's effect on each limit and budget that it names."""
    if exception is None or exception.scope not in tree.policies:
        return {}
    alone = PolicyTree(tree.policies, exceptions=(exception,))
    resolver = Resolver(alone, exception.until.ns - 1)
    place = resolver.conditions.at(exception.scope)
    matched = 1 << len(place.conditions) - 1 if exception.match else 0
    without = Resolver(PolicyTree(tree.policies)).at(exception.scope)
    amended = resolver.where(exception.scope, matched)
    if without is None or amended is None:
        return {}
    budgets = [
        {each.name: each for owner, each in side.budgets if owner == exception.scope}
        for side in (without, amended)
    ]
    found = {
        name: _Effect(without.limits.get(name), amended.limits.get(name))
        for name in exception.limits
    }
    for name in exception.budgets:
        found[BUDGET + name] = _Effect(budgets[0].get(name), budgets[1].get(name))
    return found


def _text(exception: Exemption | None, each: _Effect | None) -> str | None:
    """Return the limit under an exception, and the time of the exception."""
    if exception is None or each is None or each.amended is None:
        return None
    return f"{text_of(each.amended)}{_when(exception)}"


def _when(exception: Exemption) -> str:
    """Return the requests and the time of an exception: `` where … from … until …``."""
    begins = "" if exception.begins is None else f" from {exception.begins}"
    return f"{where_text(exception.match)}{begins} until {exception.until}"


def _says(exception: Exemption, name: str) -> tuple[object, ...]:
    """Return everything in an exception that affects one limit or budget."""
    part, _, budget = name.rpartition(" ")
    said = exception.budgets.get(budget) if part else exception.limits.get(name)
    return said, exception.match, exception.begins, exception.until
