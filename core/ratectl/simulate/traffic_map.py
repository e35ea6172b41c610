"""Reader of traffic maps: as strict as for policies, with a place for every problem."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from ratectl.diagnostics import Diagnostic, Span
from ratectl.errors import UsageError
from ratectl.policy import codes
from ratectl.policy.loading.loader import with_source_lines
from ratectl.policy.yaml.reader import read
from ratectl.policy.yaml.text import shown
from ratectl.runtime.closest import closest
from ratectl.simulate.model import (
    ACCESS_FIELDS,
    Attribute,
    CostMap,
    ScopeMap,
    ScopeRule,
    TimeMap,
    TrafficMap,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pydantic_core import ErrorDetails

    from ratectl.policy.yaml.nodes import Node

__all__ = ["MapError", "read_map"]

_WHOLE: Final = ("apiVersion", *(name for name in TrafficMap.model_fields if name != "api_version"))
_KNOWN: Final[dict[str, Sequence[str]]] = {
    "time": tuple(TimeMap.model_fields),
    "scope": tuple(ScopeMap.model_fields),
    "rules": tuple(ScopeRule.model_fields),
    "attributes": tuple(Attribute.model_fields),
    "cost": tuple(CostMap.model_fields),
}
"""Fields of each part of a map, by its name."""

_EXAMPLES: Final = {
    "apiVersion": "write apiVersion: ratectl/v1",
    "kind": "write kind: TrafficMap",
    "format": "write format: combined, common, jsonl or csv",
    "scope": "write the scope of the traffic, like scope: /web",
    "time": "write time: {field: <name>, format: iso}",
    "match": "write a value, with * for any text: /files/*",
    "rules": "write a list: [{match: /files/*, scope: /web/files}]",
    "attributes": "write attributes: {<name>: <field>}",
    "segments": "write the number of segments to keep, like 1",
    "cost": "write a number of requests, {field: bytes, per: 1000}, or units: {tokens: <field>}",
    "field": "write the name of a field of the log",
    "const": "write a value, or delete it",
    "per": "write the number for a cost of 1, like 1000",
}
_WORDS: Final = {
    "int_type": "a whole number",
    "string_type": "text",
    "tuple_type": "a list",
    "dict_type": "a mapping",
}


class MapError(UsageError):
    """Raised for a traffic map that is not valid; ``diagnostics`` holds every finding."""

    def __init__(self, file: str, diagnostics: Sequence[Diagnostic]) -> None:
        self.diagnostics = tuple(diagnostics)
        super().__init__(f"the traffic map {file} is not valid")


def read_map(data: bytes, file: str) -> TrafficMap:
    """Read a map; ``file`` is its name in messages.

    :raises MapError: it is not valid.
    """
    reading = read(data, file)
    findings = [item for item in reading.diagnostics if item.code != codes.EMPTY_FILE]
    traffic_map: TrafficMap | None = None
    if not findings:
        roots = [document.root for document in reading.documents]
        if len(roots) == 1 and isinstance(roots[0].value, dict):
            traffic_map, findings = _validated(roots[0], file)
        else:
            findings = [_not_one(roots, file)]
    if traffic_map is None or findings:
        findings.sort(key=lambda finding: finding.sort_key)
        raise MapError(file, with_source_lines(findings, {file: reading.lines}))
    return traffic_map


def _not_one(roots: Sequence[Node], file: str) -> Diagnostic:
    if len(roots) > 1:
        message = f"the file holds {len(roots)} documents, but a map is one document"
        return Diagnostic(
            codes.REPEATED, message, Span(file, *roots[1].place), hint="write one file for each map"
        )
    hint = "start it with apiVersion: ratectl/v1"
    if not roots:
        return Diagnostic(codes.EMPTY_FILE, "the file holds no map", Span(file), hint=hint)
    place = Span(file, *roots[0].place)
    return Diagnostic(codes.NOT_A_MAPPING, "the map is not a mapping", place, hint=hint)


def _validated(root: Node, file: str) -> tuple[TrafficMap | None, list[Diagnostic]]:
    try:
        traffic_map = TrafficMap.model_validate(root.value)
    except ValidationError as error:
        return None, [_explained(item, root, file) for item in error.errors(include_url=False)]
    return traffic_map, [
        Diagnostic(code, message, Span(file, *_place(root, _written(path, root))), hint=hint)
        for code, message, path, hint in _misfits(traffic_map)
    ]


def _explained(detail: ErrorDetails, root: Node, file: str) -> Diagnostic:
    code, message, hint = _words(detail, root)
    path = _written([part for part in detail["loc"] if part != "[key]"], root)
    wrong_key = detail["type"] == "extra_forbidden" or "[key]" in detail["loc"]
    span = Span(file, *_place(root, path, at_key=wrong_key))
    return Diagnostic(code, message, span, hint=hint)


def _words(detail: ErrorDetails, root: Node) -> tuple[str, str, str]:
    kind, value = detail["type"], detail["input"]
    names = _names(detail, root)
    name = names[-1] if names else "the map"
    example = _EXAMPLES.get(name, "write the name of a field, or {const: acme}")
    if len(names) == 2 and names[0] == "attributes":
        name = f"attribute {name}"
    if len(names) == 2 and names[0] == "cost" and name not in CostMap.model_fields:
        name, example = f"cost of {name}", _EXAMPLES["cost"]
    if kind == "extra_forbidden":
        return _unknown(names)
    if kind == "missing":
        return codes.MISSING_FIELD, f"{name} is missing", example
    if kind == "literal_error":
        return _choice(name, value, detail["ctx"]["expected"].replace("'", ""))
    if kind in _WORDS:
        return codes.TYPE, f"{name} must be {_WORDS[kind]}, not {_shown(value)}", example
    if kind == "model_type":
        return codes.TYPE, f"{name} cannot be {_shown(value)}", example
    if kind == "map":
        return codes.CHOICE, str(detail["msg"]), detail["ctx"]["hint"]
    if kind == "string_pattern_mismatch":
        if names[0] == "cost":
            hint = "begin with a letter; then letters, digits, '_' and '-', at most 64 in all"
            return codes.NAME, f"{_shown(value)} cannot name a unit", hint
        hint = "use letters, digits, '.', '_' and '-', at most 64"
        return codes.NAME, f"{_shown(value)} cannot name an attribute", hint
    return codes.RANGE, f"{name} {_bound(detail)}", example


def _names(detail: ErrorDetails, root: Node) -> list[str]:
    """Return the written names on the path of an error: cost: -1 is short for cost: {const: -1}."""
    path = [part for part in detail["loc"] if part != "[key]"]
    names = [part for part in _written(path, root) if isinstance(part, str)]
    above: Node | None = root
    for name in names[:-1]:
        above = above.children.get(name) if above else None
    if above is not None and not above.children and detail["type"] != "missing":
        names.pop()
    return names


def _written(path: Sequence[Any], root: Node) -> Sequence[Any]:
    """Return a path without a unit that is not written: cost: 3 is short for requests."""
    cost = root.children.get("cost")
    if len(path) > 1 and path[0] == "cost" and cost and path[1] not in cost.children:
        return (path[0], *path[2:])
    return path


def _choice(name: str, value: object, expected: str) -> tuple[str, str, str]:
    words = expected.replace(" or ", ", ").split(", ")
    meant = closest(str(value), words, 0.7)
    hint = f"did you mean {meant}?" if meant else f"write {expected}"
    return codes.CHOICE, f"{name} must be {expected}, not {_shown(value)}", hint


def _bound(detail: ErrorDetails) -> str:
    """Return words about the bound that a value violates."""
    kind, value = detail["type"], detail["input"]
    if kind in ("string_too_short", "too_short"):
        return "is empty"
    bounds = {"greater_than_equal": ("least", "ge"), "less_than_equal": ("most", "le")}
    if kind in bounds:
        word, key = bounds[kind]
        return f"must be at {word} {detail['ctx'][key]}, not {value}"
    return f"is not right: {str(detail['msg']).lower()}"


def _unknown(names: Sequence[str]) -> tuple[str, str, str]:
    part = "rules" if "rules" in names[:-1] else names[0]
    known = _KNOWN[part] if len(names) > 1 else _WHOLE
    meant = closest(names[-1], known, 0.7)
    hint = f"did you mean {meant}?" if meant else f"known here: {', '.join(known)}"
    return codes.UNKNOWN_FIELD, f"unknown field {names[-1]!r}", hint


def _shown(value: object) -> str:
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    if isinstance(value, bool):
        return "true" if value else "false"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"


def _place(root: Node, path: Sequence[Any], *, at_key: bool = False) -> tuple[int, int, int]:
    """Return the place of a path, or of the nearest written part that contains it."""
    node, place = root, root.place
    for number, part in enumerate(path, 1):
        child = node.children.get(part)
        if child is None:
            break
        place = node.place_of(part) if isinstance(part, str) else child.place
        if at_key and number == len(path):
            place = node.keys[part]
        node = child
    return place


def _misfits(traffic_map: TrafficMap) -> Iterator[tuple[str, str, Sequence[Any], str]]:
    """Yield problems of fields that do not fit the format of the log, and of empty parts."""
    if traffic_map.scope.rules == ():
        yield codes.RANGE, "rules is empty", ("scope", "rules"), _EXAMPLES["rules"]
    named = ACCESS_FIELDS.get(traffic_map.format)
    if named is None:
        if traffic_map.time is None:
            yield codes.MISSING_FIELD, "time is missing", (), _EXAMPLES["time"]
        return
    if traffic_map.time is not None:
        message = f"a {traffic_map.format} log has its time in a fixed place"
        yield codes.CHOICE, message, ("time",), "delete the line"
    for path, field in _used(traffic_map):
        if field in named:
            continue
        message = f"a {traffic_map.format} log has no field {field!r}"
        meant = closest(field, named, 0.7)
        known = f"known here: {', '.join(named)}"
        hint = f"did you mean {shown(meant)}?" if meant else known
        yield codes.CHOICE, message, path, hint


def _used(traffic_map: TrafficMap) -> Iterator[tuple[Sequence[Any], str]]:
    if traffic_map.scope.field is not None:
        yield ("scope", "field"), traffic_map.scope.field
    for name, attribute in traffic_map.attributes.items():
        if attribute.field is not None:
            yield ("attributes", name, "field"), attribute.field
    for unit, field in traffic_map.cost_fields.items():
        yield ("cost", unit, "field"), field
