"""A resolver for small documents, from the language's description; it shares no code with ratectl.

It knows limits, overrides, `unset`, budgets and exceptions; matchers are values, lists and `not`.
Of caps, it knows the `burst` of those in overrides, which bounds the capacity of any limit.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from engine.publications.rules import OWN, rule
from policy.conditions import ns

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from engine.publications.rules import Rule

Fields = dict[str, Any]
Attributes = dict[str, str]
Documents = dict[str, dict[str, Any]]


class Ruling(NamedTuple):
    """One limit or budget as it applies to one request."""

    fields: Fields
    rule: Rule | None
    """None: it refuses nothing."""
    place: tuple[Any, ...]
    """Declared scope, name, names in ``per`` and their values: at least one bucket is here."""
    overrides: tuple[tuple[str, str], ...]
    """Overrides that name the limit and match: scope and name. At least those of the identity."""

    @property
    def identity(self) -> tuple[Any, ...]:
        return (self.place, self.overrides)


def resolve(
    documents: Documents,
    exceptions: Sequence[Mapping[str, Any]],
    scope: str,
    attributes: Attributes,
    wall: int,
) -> dict[str, Ruling]:
    """Return the limits and budgets that a request is under; budgets are named by their scope."""
    path = [at for at in path_to(scope) if at in documents]
    if not path:
        return {}
    found: dict[str, Fields] = {}
    touched: dict[str, list[tuple[str, str]]] = {}
    for at in path:
        for name in documents[at].get("unset", []):
            found.pop(name, None)
            touched.pop(name, None)
        for source, limits in _parts(documents[at], attributes):
            for name, fields in limits.items():
                found[name] = merged(found.get(name, {}), fields)
                if source is not None:
                    touched.setdefault(name, []).append((at, source))
    live = [each for each in _in_force(exceptions, wall) if holds(each.get("match"), attributes)]
    live.sort(key=lambda each: len(path_to(each["scope"])))
    for each in live:
        if each["scope"] in path:
            for name, fields in each.get("limits", {}).items():
                found[name] = merged(found.get(name, {}), fields)
                if set(each.get("match", {})) - set(found[name].get("per", [])):
                    touched.setdefault(name, []).append((each["scope"], each["reason"]))
    rulings = {
        name: _capped(
            _ruling(path[-1], name, fields, attributes, touched.get(name, [])),
            [cap for cap in _caps(documents, path, attributes) if cap[1] == name],
        )
        for name, fields in found.items()
    }
    return rulings | dict(_budgets(documents, path, live, attributes))


def _caps(
    documents: Documents, path: Sequence[str], attributes: Attributes
) -> Iterator[tuple[tuple[str, str], str, int]]:
    """Yield each matching override with a cap, by scope and name, the limit, and the burst."""
    for at in path:
        for override in documents[at].get("overrides", []):
            if holds(override["match"], attributes):
                for name, cap in override.get("caps", {}).items():
                    yield (at, override["name"]), name, cap["burst"]


def _capped(ruling: Ruling, caps: Sequence[tuple[tuple[str, str], str, int]]) -> Ruling:
    capping = [source for source, _, _ in caps if source not in ruling.overrides]
    ruling = ruling._replace(overrides=(*ruling.overrides, *capping))
    if ruling.rule is None or not caps:
        return ruling
    capacity = min(ruling.rule.capacity, *(burst for _, _, burst in caps))
    return ruling._replace(rule=replace(ruling.rule, capacity=capacity))


def _parts(
    document: Mapping[str, Any], attributes: Attributes
) -> Iterator[tuple[str | None, dict[str, Fields]]]:
    yield None, document.get("limits", {})
    for override in document.get("overrides", []):
        if holds(override["match"], attributes):
            yield override["name"], override.get("limits", {})


def _budgets(
    documents: Documents,
    path: Sequence[str],
    live: Sequence[Mapping[str, Any]],
    attributes: Attributes,
) -> Iterator[tuple[str, Ruling]]:
    for at in path:
        for name, fields in documents[at].get("budgets", {}).items():
            for each in live:
                if each["scope"] == at:
                    fields = merged(fields, each.get("budgets", {}).get(name, {}))
            yield f"{name}@{at}", _ruling(at, name, fields, attributes, [])


def _ruling(
    scope: str,
    name: str,
    fields: Fields,
    attributes: Attributes,
    overrides: Sequence[tuple[str, str]],
) -> Ruling:
    per = tuple(fields.get("per", []))
    place = (scope, name, per, tuple(attributes.get(each) for each in per))
    return Ruling(fields, rule(fields), place, tuple(overrides))


def merged(fields: Fields, over: Mapping[str, Any]) -> Fields:
    """Merge by field; another algorithm drops the inherited fields that it lacks."""
    before = fields.get("algorithm", "token-bucket")
    after = over.get("algorithm", before)
    if before != after:
        lacking = set().union(*OWN.values()) - OWN[after]
        fields = {name: value for name, value in fields.items() if name not in lacking}
    return {**fields, **over}


def holds(match: Mapping[str, Any] | None, attributes: Attributes) -> bool:
    return all(_matches(wanted, attributes.get(name)) for name, wanted in (match or {}).items())


def _matches(wanted: Any, value: str | None) -> bool:
    if isinstance(wanted, dict):
        return value is None or not _matches(wanted["not"], value)
    return value in wanted if isinstance(wanted, list) else value == wanted


def _in_force(exceptions: Sequence[Mapping[str, Any]], wall: int) -> Iterator[Mapping[str, Any]]:
    for each in exceptions:
        begins = ns(each["from"]) if "from" in each else wall
        if begins <= wall < ns(each["until"]):
            yield each


def path_to(scope: str) -> list[str]:
    """Return ``/``, …, and the scope itself."""
    parts = [part for part in scope.split("/") if part]
    return ["/", *("/" + "/".join(parts[: at + 1]) for at in range(len(parts)))]
