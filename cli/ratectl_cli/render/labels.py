"""Names of buckets, places and values."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

from ratectl.policy.language.labels import bucket_label

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ratectl.engine.cost import Cost
    from ratectl.health.usage_report import UsageRow
    from ratectl.policy.language.model import PolicyTree
    from ratectl.policy.resolution.effective_limit import Setting

__all__ = [
    "cost_text", "key_text", "origin_data", "place_data", "place_text", "quoted", "row_label",
]  # fmt: skip


def row_label(row: UsageRow) -> str:
    """Return the name of a limit or budget, and the overrides that select its bucket."""
    return bucket_label(row.name, row.scope, row.overrides, budget=row.budget)


def place_data(tree: PolicyTree, source: str, path: str) -> dict[str, Any]:
    """Return the file, line and column of a path in a document; null where unknown.

    ``source``: the scope of a policy, or an ``exception_key``.
    """
    known = tree.sources.get(source)
    if known is None:
        return {"file": None, "line": None, "column": None}
    span = known.span(path)
    return {"file": span.file, "line": span.line, "column": span.column}


def cost_text(cost: Cost) -> str:
    """Return ``3``, or ``tokens=4000 bytes=10`` for a mapping."""
    if isinstance(cost, int):
        return str(cost)
    return " ".join(f"{unit}={number}" for unit, number in cost.items())


def origin_data(tree: PolicyTree, path: str, setting: Setting) -> dict[str, Any] | None:
    """Return the place that defines a value; None for a built-in default."""
    if not setting.scope:
        return None
    via = setting.via
    place = place_data(
        tree, via.source if via else setting.scope, f"{via.path if via else ''}{path}"
    )
    return {
        "scope": setting.scope,
        "override": via.ref if via and not via.exception else None,
        "exception": via.ref if via and via.exception else None,
        **place,
    }


def place_text(place: Mapping[str, Any]) -> str:
    """Return ``payments/team.yaml:8:17``."""
    return f"{place['file']}:{place['line']}:{place['column']}"


def key_text(key: Mapping[str, str | None]) -> str:
    """Return ``tenant=acme, user absent``; nothing for the key of a bucket for all requests."""
    return ", ".join(
        f"{name} absent" if value is None else f"{name}={quoted(value)}"
        for name, value in key.items()
    )


def quoted(value: str) -> str:
    """Return the value quoted for a shell."""
    return shlex.quote(value)
