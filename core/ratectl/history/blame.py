"""Blame: find the generation, and so the author, that last changed each value at a scope."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ratectl.errors import BundleError, NotFound
from ratectl.history.generations import read_entry, read_rollouts, read_tree
from ratectl.policy.language.scopes import checked_scope
from ratectl.policy.resolution.fields import NOTICED_FIELDS
from ratectl.policy.resolution.resolver import Resolver

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ratectl.policy.language.model import PolicyTree
    from ratectl.policy.resolution.effective_limit import Limit
    from ratectl.records import HistoryEntry
    from ratectl.stores.base import Store

__all__ = ["Blamed", "blame"]


class _Value(NamedTuple):
    """An effective value: one form to compare, one to show, and the condition that set it."""

    compared: object
    shown: str
    condition: str | None = None


class Blamed(NamedTuple):
    """A value, and the generation that set it."""

    limit: str | None
    """Name of the limit; ``budget NAME`` for a budget, None for ``on_error``."""
    field: str
    value: str
    entry: HistoryEntry
    condition: str | None
    """Override or exception that set the value, like ``gold@/shop``; None if the scope set it."""
    certain: bool
    """False if the readable history begins with this value: an older generation may have set it."""


_Named = tuple[str | None, str]


class _Request(NamedTuple):
    """The requests whose values are compared."""

    scope: str
    attributes: Mapping[str, str] | None
    now_ns: int | None


def blame(
    store: Store,
    live: HistoryEntry,
    scope: str,
    attributes: Mapping[str, str] | None = None,
    now_ns: int | None = None,
    tree: PolicyTree | None = None,
) -> list[Blamed] | None:
    """Return every effective value at ``scope`` under ``live``; None if no policy covers the scope.

    The values are those for a request with these ``attributes`` at this time (``now_ns``, since
    1970), in every generation; without attributes, for requests that satisfy no condition.
    ``tree``: the policies of ``live``, if they were read already.

    :raises UsageError: ``scope`` is not a scope.
    """
    request = _Request(checked_scope(scope), attributes, now_ns)
    values = _values(tree or read_tree(store, live), request)
    if values is None:
        return None
    since = dict.fromkeys(values, live)
    settled: set[_Named] = set()
    later, before = live, values
    tried = read_rollouts(store)
    for generation in range(live.generation - 1, 0, -1):
        if generation in tried and tried[generation].state != "promoted":
            continue  # it never went live
        try:
            older = read_entry(store, generation)
            if older.bundle != later.bundle:
                before = _values(read_tree(store, older), request) or {}
        except (NotFound, BundleError):
            return _blamed(values, since, settled)
        for named in values.keys() - settled:
            if named in before and before[named].compared == values[named].compared:
                since[named] = older
            else:
                settled.add(named)
        if len(settled) == len(values):
            break
        later = older
    return _blamed(values, since, set(values))


def _blamed(
    values: Mapping[_Named, _Value], since: Mapping[_Named, HistoryEntry], settled: set[_Named]
) -> list[Blamed]:
    return [
        Blamed(*named, value.shown, since[named], value.condition, named in settled)
        for named, value in values.items()
    ]


def _values(tree: PolicyTree, request: _Request) -> dict[_Named, _Value] | None:
    if request.attributes is None:
        resolved = Resolver(tree).at(request.scope)
    else:
        resolver = Resolver(tree, request.now_ns)
        resolved = resolver.enforced(request.scope, request.attributes)
    if resolved is None:
        return None
    on_error = str(resolved.on_error.value)
    values: dict[_Named, _Value] = {(None, "on_error"): _Value(on_error, on_error)}
    for name, limit in resolved.limits.items():
        _add(values, name, limit)
    for owner, budget in resolved.budgets:
        where = "" if owner == resolved.scope else f" of {owner}"
        _add(values, f"budget {budget.name}{where}", budget)
    return values


def _add(values: dict[_Named, _Value], name: str, limit: Limit) -> None:
    for field in NOTICED_FIELDS:
        value, noticed = getattr(limit, field.name), field.noticed_value(limit)
        if value is None or value == () or noticed is None:
            continue
        shown = ", ".join(value) if isinstance(value, tuple) else str(value)
        setting = limit.settings.get(field.name)
        condition = setting.via.ref if setting is not None and setting.via is not None else None
        values[name, field.name] = _Value(noticed, shown, condition)
