"""Which generation last changed each effective value at a scope, and so whom to ask."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ratectl.effects import FIELDS, noticed
from ratectl.errors import BundleError, NotFound
from ratectl.generations import read_entry, read_live, read_tree
from ratectl.pacing import breathe
from ratectl.policy.resolve import Resolver

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ratectl.policy.limits import Limit
    from ratectl.policy.model import PolicyTree
    from ratectl.records import HistoryEntry
    from ratectl.stores.base import Store

__all__ = ["Blamed", "blame"]


class Value(NamedTuple):
    """An effective value, as it is compared and as it is shown."""

    compared: object
    shown: str


class Blamed(NamedTuple):
    """A value, and the generation that made it what it is."""

    limit: str | None
    """None for ``on_error``; ``budget NAME`` for one of a budget."""
    field: str
    value: str
    entry: HistoryEntry
    certain: bool
    """False where the history that is kept, or can be read, begins with this value."""


_Named = tuple[str | None, str]


def blame(store: Store, scope: str) -> list[Blamed] | None:
    """Every effective value at ``scope``, for requests that satisfy no condition.

    None where no policy covers the scope, or nothing is published.
    """
    live = read_live(store)
    if live.head is None:
        return None
    entry = read_entry(store, live.generation)
    values = _values(read_tree(store, entry), scope)
    if values is None:
        return None
    since = dict.fromkeys(values, entry)
    settled: set[_Named] = set()
    for generation in range(entry.generation - 1, 0, -1):
        breathe()
        try:
            older = read_entry(store, generation)
            before = _values(read_tree(store, older), scope) or {}
        except (NotFound, BundleError):
            return _told(values, since, settled)
        for named, value in values.items():
            if named in settled:
                continue
            if named in before and before[named].compared == value.compared:
                since[named] = older
            else:
                settled.add(named)
        if len(settled) == len(values):
            break
    else:
        settled = set(values)  # the first generation made what it said
    return _told(values, since, settled)


def _told(
    values: Mapping[_Named, Value], since: Mapping[_Named, HistoryEntry], settled: set[_Named]
) -> list[Blamed]:
    return [
        Blamed(*named, value.shown, since[named], named in settled)
        for named, value in values.items()
    ]


def _values(tree: PolicyTree, scope: str) -> dict[_Named, Value] | None:
    resolved = Resolver(tree).at(scope)
    if resolved is None:
        return None
    on_error = str(resolved.on_error.value)
    found: dict[_Named, Value] = {(None, "on_error"): Value(on_error, on_error)}
    for name, limit in resolved.limits.items():
        _add(found, name, limit)
    for owner, budget in resolved.budgets:
        where = "" if owner == resolved.scope else f" of {owner}"
        _add(found, f"budget {budget.name}{where}", budget)
    return found


def _add(found: dict[_Named, Value], name: str, limit: Limit) -> None:
    for field in FIELDS:
        value = getattr(limit, field)
        if value is None or value == ():
            continue
        shown = ", ".join(value) if isinstance(value, tuple) else str(value)
        found[name, field] = Value(noticed(limit, field), shown)
