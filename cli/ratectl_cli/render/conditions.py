"""The overrides and exceptions along a path: which apply to a request, and why others do not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ratectl.policy.language.model import exception_key
from ratectl.policy.language.scopes import ancestry
from ratectl.policy.resolution.conditions import override_ref
from ratectl_cli.framework.text import Aligned, bold, dim, paragraph
from ratectl_cli.render.labels import place_data, place_text, quoted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ratectl.policy.language.matchers import Matcher
    from ratectl.policy.language.model import Exemption, PolicyTree
    from ratectl.policy.resolution.effective_limit import Setting
    from ratectl.policy.resolution.resolver import Resolved
    from ratectl_cli.framework.text import Block, Piece

__all__ = ["condition_blocks", "exceptions_data", "overrides_data"]

_LISTED: Final = 10
"""Most conditions that do not hold and are listed; more are counted."""

_WORDS: Final = 60
"""Most characters of a matcher or a value in text. Data is complete."""


def overrides_data(
    tree: PolicyTree, resolved: Resolved, attributes: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Return every override along the path, from ``/`` down, in file order."""
    rows = []
    sets = _values_set(resolved)
    for scope in _path(resolved):
        policy = tree.policies.get(scope)
        for position, override in enumerate(policy.overrides if policy else ()):
            path = f"overrides.{position}"
            failed = _failed(override.match, attributes)
            rows.append(
                {
                    "name": override.name,
                    "scope": scope,
                    "ref": override_ref(scope, override.name),
                    "applies": not failed,
                    "failed": failed,
                    "match": _match_data(override.match),
                    "limits": sorted(override.limits),
                    "caps": sorted(override.caps),
                    "sets": sets.get((scope, f"{path}."), []),
                    "origin": place_data(tree, scope, f"{path}.name"),
                }
            )
    return rows


def exceptions_data(
    tree: PolicyTree, resolved: Resolved, attributes: Mapping[str, str], now_ns: int | None
) -> list[dict[str, Any]]:
    """Return every exception along the path, in order of its start; none without a time."""
    if now_ns is None:
        return []
    path = set(_path(resolved))
    sets = _values_set(resolved)
    rows = []
    for position, exception in enumerate(tree.exceptions):
        if exception.scope in path:
            key = exception_key(position)
            failed = _failed(exception.match or {}, attributes)
            state = _state(exception, now_ns)
            rows.append(
                {
                    "scope": exception.scope,
                    "ref": exception.ref,
                    "reason": exception.reason,
                    "owner": exception.owner,
                    "from": None if exception.begins is None else str(exception.begins),
                    "until": str(exception.until),
                    "state": state,
                    "applies": state == "in force" and not failed,
                    "failed": failed,
                    "match": None if exception.match is None else _match_data(exception.match),
                    "limits": sorted(exception.limits),
                    "budgets": sorted(exception.budgets),
                    "sets": sets.get((key, ""), []),
                    "origin": place_data(tree, key, ""),
                }
            )
    return rows


def condition_blocks(data: Mapping[str, Any], *, unfold: bool) -> Iterator[Block]:
    """Yield overrides and exceptions that apply, with places; then the others, with reasons."""
    # Exceptions that have ended are of no interest to a reader.
    exceptions = [condition for condition in data["exceptions"] if condition["state"] != "over"]
    conditions = [("override ", condition) for condition in data["overrides"]] + [
        ("", condition) for condition in exceptions
    ]
    applied = [(kind, condition) for kind, condition in conditions if condition["applies"]]
    if applied:
        yield ""
        yield bold("applied")
        yield Aligned([_applied_row(kind, condition) for kind, condition in applied])
    others = [(kind, condition) for kind, condition in conditions if not condition["applies"]]
    if not others:
        return
    yield ""
    yield bold("not applied")
    shown = others if unfold else _nearest(others)
    for kind, condition in shown:
        yield paragraph(f"  {kind}{_named(condition)}: {', '.join(_reasons(condition))}")
    if len(shown) < len(others):
        yield dim(f"  and {len(others) - len(shown)} more (-v lists them)")


def _nearest(others: Sequence[tuple[str, dict[str, Any]]]) -> Sequence[tuple[str, dict[str, Any]]]:
    """Return the conditions to list, in their order.

    Exceptions to come go first, then conditions that the fewest attributes fail.
    """
    ranked = sorted(others, key=lambda other: (bool(other[0]), len(other[1]["failed"])))
    kept = {id(condition) for _, condition in ranked[:_LISTED]}
    return [other for other in others if id(other[1]) in kept]


def _applied_row(kind: str, condition: Mapping[str, Any]) -> list[Piece]:
    more = condition.get("reason", "")
    if not condition["sets"]:
        more = "; ".join(filter(None, (more, _without_effect(condition))))
    place = dim(place_text(condition["origin"])) if condition["origin"]["file"] else ""
    return (
        [f"  {kind}{condition['ref']}", place, more]
        if more
        else [f"  {kind}{condition['ref']}", place]
    )


def _without_effect(condition: Mapping[str, Any]) -> str:
    """Return why a condition that applies sets no value."""
    caps = bool(condition.get("caps"))
    values = bool(condition["limits"] or condition.get("budgets"))
    if caps and not values:
        return "no value is above its caps"
    return "all its values are overridden" + (", and none is above its caps" if caps else "")


def _named(condition: Mapping[str, Any]) -> str:
    """Return the name of a condition; an exception to come has both ends of its time span."""
    if condition.get("state") == "later":
        return f"exception@{condition['scope']} from {condition['from']} until {condition['until']}"
    return str(condition["ref"])


def _reasons(condition: Mapping[str, Any]) -> Iterator[str]:
    if condition.get("state") == "later":
        yield "not yet in force"
    for failed in condition["failed"]:
        if failed["value"] is None:
            yield f"{failed['attribute']} is absent"
        else:
            value, wanted = quoted(_cut(failed["value"])), _cut(failed["matcher"])
            wants = "wants" if wanted.startswith("{") else "not"
            yield f"{failed['attribute']} is {value}, {wants} {wanted}"


def _cut(text: str) -> str:
    return text if len(text) <= _WORDS else f"{text[: _WORDS - 1]}…"


def _path(resolved: Resolved) -> list[str]:
    return list(ancestry(resolved.scope))[::-1]


def _failed(match: Mapping[str, Matcher], attributes: Mapping[str, str]) -> list[dict[str, Any]]:
    return [
        {"attribute": name, "value": attributes.get(name), "matcher": str(matcher)}
        for name, matcher in match.items()
        if not matcher.holds(attributes.get(name))
    ]


def _match_data(match: Mapping[str, Matcher]) -> dict[str, Any]:
    return {name: matcher.written for name, matcher in match.items()}


def _state(exception: Exemption, now_ns: int) -> str:
    if exception.active(now_ns):
        return "in force"
    return "over" if exception.until.ns <= now_ns else "later"


def _values_set(resolved: Resolved) -> dict[tuple[str, str], list[str]]:
    """Return effective values by the document and place of the override or exception."""
    values: dict[tuple[str, str], list[str]] = {}

    def note(path: str, settings: Mapping[str, Setting]) -> None:
        for field, setting in settings.items():
            if setting.via is not None:
                place = setting.via.source, setting.via.path
                values.setdefault(place, []).append(f"{path}.{field}")

    for name, limit in resolved.limits.items():
        note(f"limits.{name}", limit.settings)
        note(f"caps.{name}", {clip.field: clip.cap for clip in limit.clips.values()})
    for _, budget in resolved.budgets:
        note(f"budgets.{budget.name}", budget.settings)
    return values
