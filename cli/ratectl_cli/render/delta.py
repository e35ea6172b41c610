"""Difference between the explanation of a scope and that of the scope above."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ratectl.policy.language.scopes import nearest, parent

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ratectl.policy.language.model import PolicyTree

__all__ = ["above_of", "delta_data"]


def above_of(scope: str, tree: PolicyTree) -> str | None:
    """Return the nearest declared scope above ``scope``; None at the top."""
    up = parent(scope)
    return nearest(up, tree.policies) if up else None


def delta_data(data: Mapping[str, Any], above: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the explanation without what ``above`` contains; all of it if ``above`` is None."""
    if above is None:
        return {**data, "delta": {"from": None, "removed": []}}
    whole = {limit["name"]: limit for limit in above["limits"]}
    limits = []
    for limit in data["limits"]:
        if limit["name"] not in whole:
            limits.append(limit)
            continue
        fields = dict(_differing(limit, whole[limit["name"]]))
        if fields:
            limits.append({**limit, "fields": fields})
    here = {limit["name"] for limit in data["limits"]}
    return {
        **data,
        **{
            name: None if data[name] and data[name]["value"] == above[name]["value"] else data[name]
            for name in ("on_error", "trusted_proxies")
        },
        "limits": limits,
        "budgets": _without(data, above, "budgets"),
        "overrides": _without(data, above, "overrides"),
        "exceptions": _without(data, above, "exceptions"),
        "delta": {
            "from": above["declared_scope"],
            "removed": [name for name in whole if name not in here],
        },
    }


def _differing(limit: Mapping[str, Any], above: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield fields whose effective value differs from that above."""
    for name, field in limit["fields"].items():
        beaten = above["fields"].get(name)
        if beaten is None or beaten["value"] != field["value"]:
            yield name, field
    for name in above["fields"]:
        # No longer set, so a default: for example the mode of a limit that was replaced whole.
        if name not in limit["fields"] and limit[name] not in (None, above[name]):
            yield (
                name,
                {"value": limit[name], "origin": None, "cap": None, "asked": None, "over": []},
            )


def _without(data: Mapping[str, Any], above: Mapping[str, Any], part: str) -> list[dict[str, Any]]:
    """Return the items of ``part`` that the path above lacks. Their places identify them."""
    if part == "budgets":
        known = [(item["bucket"]["scope"], item["name"]) for item in above[part]]
        return [item for item in data[part] if (item["bucket"]["scope"], item["name"]) not in known]
    return [
        item
        for item in data[part]
        if item["scope"] == data["declared_scope"] != above["declared_scope"]
    ]
