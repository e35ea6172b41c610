"""Queries of the admin endpoint: the request that a query describes."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ratectl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ratectl.engine.cost import Cost

__all__ = ["Query", "query_in"]

_FORM = "?scope=/payments&attr.tenant=acme&cost=1 (or cost.tokens=4000)"


class Query(NamedTuple):
    """A request that is asked about."""

    scope: str
    attributes: Mapping[str, str]
    cost: Cost


def query_in(fields: Iterable[tuple[str, str]]) -> Query:
    """Return the request that the fields of a query describe.

    :raises UsageError: they have another form.
    """
    scope: str | None = None
    attributes: dict[str, str] = {}
    cost: dict[str, int] = {}
    whole: int | None = None
    for name, value in fields:
        kind, dot, rest = name.partition(".")
        if name == "scope" and scope is None:
            scope = value
        elif kind == "attr" and rest and rest not in attributes:
            attributes[rest] = value
        elif name == "cost" and whole is None:
            whole = _number(name, value)
        elif kind == "cost" and rest and rest not in cost:
            cost[rest] = _number(name, value)
        else:
            twice = name in ("scope", "cost") or (dot and rest)
            what = "is given twice" if twice and kind in _KINDS else "is not known"
            raise UsageError(f"the field {name!r:.60} {what}: write {_FORM}")
    if scope is None:
        raise UsageError(f"the field scope is missing: write {_FORM}")
    if cost and whole is not None:
        raise UsageError("give a cost, or costs in units, not both")
    return Query(scope, attributes, cost or (1 if whole is None else whole))


_KINDS = ("scope", "attr", "cost")


def _number(name: str, value: str) -> int:
    if not (value.isascii() and value.isdigit() and len(value) <= 19):
        raise UsageError(f"{name} is a whole number, 0 or more, not {value!r:.40}")
    return int(value)
