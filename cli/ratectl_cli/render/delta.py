"""What an explanation says that the one of the scope above does not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ratectl.policy.language.scopes import nearest, parent

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ratectl.policy.language.model import PolicyTree

__all__ = ["above_of", "delta_data"]


def above_of(scope: str, tree: PolicyTree) -> str | None:
    """The scope that ``scope`` is compared with: the nearest declared one above it."""
    up = parent(scope)
    return nearest(up, tree.policies) if up else None


def delta_data(data: Mapping[str, Any], above: Mapping[str, Any] | None) -> dict[str, Any]:
    """The explanation without what ``above`` says as well; the whole of it where that is None."""
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
    """Fields whose value in force is another one than above."""
    for name, field in limit["fields"].items():
        beaten = above["fields"].get(name)
        if beaten is None or beaten["value"] != field["value"]:
            yield name, field
    for name in above["fields"]:
        # No longer said, so a default: such as the mode of a limit that was replaced whole.
        if name not in limit["fields"] and limit[name] not in (None, above[name]):
            yield (
                name,
                {"value": limit[name], "origin": None, "cap": None, "asked": None, "over": []},
            )


def _without(data: Mapping[str, Any], above: Mapping[str, Any], part: str) -> list[dict[str, Any]]:
    """What the path above has not: by its place, which neither changes on the way down."""
    if part == "budgets":
        known = [(each["bucket"]["scope"], each["name"]) for each in above[part]]
        return [each for each in data[part] if (each["bucket"]["scope"], each["name"]) not in known]
    return [
        each
        for each in data[part]
        if each["scope"] == data["declared_scope"] != above["declared_scope"]
    ]
