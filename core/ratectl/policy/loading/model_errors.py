"""Findings from pydantic's errors: plain messages, at places in the file."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from ratectl.diagnostics import Diagnostic, Span
from ratectl.policy import codes
from ratectl.policy.language.kinds import KINDS
from ratectl.policy.language.model import Cap, LimitFields
from ratectl.policy.language.shapes import Shape
from ratectl.policy.language.testcase import Expectation, Step
from ratectl.policy.loading.misplaced import split_misplaced, written_limit
from ratectl.policy.loading.other_words import FOREIGN_FIELDS, OTHER_ALGORITHMS, OTHER_WORDS
from ratectl.policy.loading.rate_words import rate_hint, rate_part, with_time
from ratectl.policy.yaml.nodes import BROKEN, AliasNode, Node, Place
from ratectl.policy.yaml.slips import NO_SPACE_AFTER_COLON, curly_quotes
from ratectl.policy.yaml.text import cut, quoted, shown
from ratectl.runtime.closest import closest
from ratectl.runtime.wording import joined

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from pydantic import BaseModel, ValidationError
    from pydantic_core import ErrorDetails

__all__ = ["explain_errors"]

_EXAMPLES: Final = {
    "absent": "write a list of limits, like [hourly]",
    "attributes": "write attributes: {<name>: <text>}",
    "budgets": "write budgets: {<name>: {rate: 5000/s}}",
    "caps": "write caps: {<name>: {rate: 400/s}}",
    "effective": "write effective: {limits: {<name>: {rate: 100/s}}}",
    "expect": "write expect: {allowed: 600, limit: spike}",
    "limits": "write limits: {<name>: {rate: 100/s}}",
    "match": "write the attributes of the requests, like match: {tier: gold}",
    "name": "write a name that says what is tested",
    "overrides": "write a list, like [{name: gold, match: {tier: gold}, limits: {…}}]",
    "per": "write one attribute or a list of them, like [tenant, route]",
    "scope": "write the scope, like scope: /payments",
    "steps": "write a list: [{scope: /payments, times: 200, expect: {allowed: 100}}]",
    "trusted_proxies": "write a list of networks, like [10.0.0.0/8]",
    "unset": "write a list of limits, like [nightly]",
}

_MISSING: Final = {
    "match": "say which requests it is for, like match: {tier: gold}",
    "limits": "write the limits for them, like limits: {<name>: {rate: 400/s}}",
    "reason": "add a line: reason: …",
    "until": "add a line with its end, like until: 2026-11-30T00:00Z",
    "scope": "add a line with the scope, like scope: /payments",
}

_QUOTED: Final = re.compile(r"'([^']+)'")
_COUNT_PER_TIME: Final = re.compile(r"(?P<count>[1-9][0-9_]{0,9}) */ *[0-9]*[a-z]+", re.ASCII)

_Words = tuple[str, str, str]
"""Code, message and hint."""


def explain_errors(
    error: ValidationError, model: type[BaseModel], root: Node, file: str, *, foreign: bool = False
) -> Iterator[Diagnostic]:
    """Yield a finding for each of pydantic's errors, except for values that were refused before.

    ``model`` is the model of the whole document; ``foreign``: it is one of another program.
    """
    details = error.errors(include_url=False)
    misplaced, details = split_misplaced(details, model, root, file)
    yield from misplaced
    for detail in details:
        node, place = _locate(root, detail)
        if detail["type"] == "too_short" and detail["input"]:
            continue  # only its items have errors, and those are reported
        if node is None or node.value is not BROKEN:
            words = _foreign_words if foreign else _words
            code, message, hint = words(detail, model, root)
            if hint == "quote it" and isinstance(node, AliasNode):
                hint = f'quote the value at the anchor, or write "{_what(node.value)}" here'
            yield Diagnostic(code, message, Span(file, *place), hint=hint)


def _foreign_words(detail: ErrorDetails, document: type[BaseModel], root: Node) -> _Words:
    """Return the words for a document of another program: without hints about policies."""
    name = str(detail["loc"][-1])
    if detail["type"] == "extra_forbidden":
        model = Shape(document).at(detail["loc"][:-1]).model or document
        return (
            codes.UNKNOWN_FIELD,
            f"unknown field {quoted(name)}",
            _known(name, model.model_fields),
        )
    if detail["type"] == "missing":
        return codes.MISSING_FIELD, f"{_field(detail)} is missing", f"write {name}"
    return _words(detail, document, root)


def _words(detail: ErrorDetails, document: type[BaseModel], root: Node) -> _Words:
    if detail["type"] == "extra_forbidden":
        model = Shape(document).at(detail["loc"][:-1]).model or document
        return _unknown(detail, model, _around(root, detail))
    if detail["type"] == "missing":
        return _missing(detail, document)
    code, message, hint = _EXPLANATIONS.get(detail["type"], _other)(detail)
    if detail["type"] == "rate":
        hint = with_time(_around(root, detail)) or hint
    return code, *(curly_quotes(detail["input"]) or (message, hint))


def _around(root: Node, detail: ErrorDetails) -> Mapping[str, Any]:
    """Return the fields that stand beside the one with an error."""
    node = root
    for part in detail["loc"][:-1]:
        if part not in node.children:
            return {}
        node = node.children[part]
    return node.value if isinstance(node.value, dict) else {}


def _locate(root: Node, detail: ErrorDetails) -> tuple[Node | None, Place]:
    """Return the value that an error is about, None for an error in a key, and its place."""
    node, parent, key = root, root, ""
    for part in detail["loc"]:
        child = node.children.get(part)
        if child is None:  # "[key]", or a field that is missing
            return (None, parent.keys[key]) if part == "[key]" else (None, node.place)
        node, parent, key = child, node, str(part)
    if detail["type"] == "extra_forbidden":
        return None, parent.keys[key]
    if detail["type"] == "repeated" and isinstance(node.value, list):
        names = [item["name"] if isinstance(item, dict) else item for item in node.value]
        again = [names.index(name) < at for at, name in enumerate(names)].index(True)
        item = node.children[again]
        return node, item.children.get("name", item).place
    return node, parent.place_of(key) if key in parent.keys else node.place


def _field(detail: ErrorDetails) -> str:
    names = [part for part in detail["loc"] if isinstance(part, str) and part != "[key]"]
    name = cut(names[-1]) if names else "the document"
    return name if name.isprintable() else repr(name)


def _kind(value: object) -> str:
    kinds = {bool: "a boolean", int: "a number", float: "a number", str: "text", list: "a list"}
    return kinds.get(type(value), "a mapping")


def _of(detail: ErrorDetails) -> str:
    """Return the subject of a message: the field, or an item of it."""
    field = _field(detail)
    return f"an item of {field}" if isinstance(detail["loc"][-1], int) else field


def _unknown(detail: ErrorDetails, model: type[BaseModel], fields: Mapping[str, Any]) -> _Words:
    """Return the words for a field that ``model`` does not have; ``fields`` are all beside it."""
    name = str(detail["loc"][-1])
    part = rate_part(name) if model is LimitFields else None
    if part is not None:
        message = f"unknown field {quoted(name)}: the {part} is part of rate"
        return codes.UNKNOWN_FIELD, message, rate_hint(name, fields)
    header = ("apiVersion", "kind") if len(detail["loc"]) == 1 else ()
    known = [*header, *(field.alias or key for key, field in model.model_fields.items())]
    hint = _elsewhere(name, model, known) or _known(name, known)
    return codes.UNKNOWN_FIELD, f"unknown field {quoted(name)}", hint


def _known(name: str, known: Iterable[str]) -> str:
    """Return the hint for a field that is in no list."""
    meant = closest(name.lower(), known)
    return (
        f"did you mean {meant}?"
        if meant
        else f"delete {shown(name)}; known here: {', '.join(known)}"
    )


def _elsewhere(name: str, model: type[BaseModel], known: Sequence[str]) -> str | None:
    """Return the hint for a field that has its place elsewhere, or another name here."""
    if model is Step and name in Expectation.model_fields:
        return f"write it in expect: {{{name}: …}}"
    if model is Cap and name in LimitFields.model_fields:
        return f"delete {name}: a cap has only {' and '.join(known)}"
    if model is LimitFields:
        return OTHER_WORDS.get(name.lower())
    return FOREIGN_FIELDS.get(name.lower())


def _missing(detail: ErrorDetails, document: type[BaseModel]) -> _Words:
    name, above = _field(detail), detail["loc"][:-1]
    message = f"{name} is missing"
    if not above:
        kind = next((kind for kind, model in KINDS.items() if model is document), "document")
        message = f"this {kind} has no {name}"
    elif len(above) == 2 and above[0] in ("overrides", "steps"):
        message = f"this {str(above[0])[:-1]} has no {name}"
    if name == "name" and "overrides" in above:
        return codes.MISSING_FIELD, message, "name the override, like name: gold"
    hint = _MISSING.get(name) or _EXAMPLES.get(name, f"write {name}")
    return codes.MISSING_FIELD, message, hint


def _choice(detail: ErrorDetails) -> _Words:
    field, value = _field(detail), detail["input"]
    allowed = _QUOTED.findall(detail["ctx"]["expected"])
    shown = quoted(value) if isinstance(value, str) else _what(value)
    one_of = f"write {joined(allowed, 'or')}"
    meant = None
    if isinstance(value, str):
        meant = OTHER_ALGORITHMS.get(value.lower()) or closest(value.lower(), allowed)
    if meant is None and value is False and "off" in allowed:
        meant = "off"
    hint = f"did you mean {meant}? {one_of}" if meant else one_of
    return codes.CHOICE, f"{field} cannot be {shown}", hint


def _integer(detail: ErrorDetails) -> _Words:
    value = detail["input"]
    per_time = _COUNT_PER_TIME.fullmatch(value) if isinstance(value, str) else None
    if per_time is not None and _field(detail) in ("burst", "max"):
        message = f"{_of(detail)} is a number of requests, without a time"
        return codes.TYPE, message, f"write {per_time['count']}"
    digits = isinstance(value, str) and re.fullmatch(r"0|[1-9][0-9]{0,9}", value)
    hint = f"write {value} without quotes" if digits else "write a whole number, like 200"
    return codes.TYPE, f"{_of(detail)} must be a whole number, not {_what(value)}", hint


def _boolean(detail: ErrorDetails) -> _Words:
    message = f"{_of(detail)} must be true or false, not {_what(detail['input'])}"
    return codes.TYPE, message, "write true or false, without quotes"


def _text(detail: ErrorDetails) -> _Words:
    value = detail["input"]
    hint = "quote it" if isinstance(value, bool | int | float) else "write one text"
    if detail["loc"][-1] == "unit":
        hint = "write the name of what it counts, like tokens"
    return codes.TYPE, f"{_of(detail)} must be text, not {_kind(value)}", hint


def _list(detail: ErrorDetails) -> _Words:
    field = _field(detail)
    message = f"{field} must be a list, not {_what(detail['input'])}"
    return codes.TYPE, message, _EXAMPLES.get(field, "write a list, like [a, b]")


def _mapping(detail: ErrorDetails) -> _Words:
    value = detail["input"]
    message = f"{_of(detail)} must be a mapping, not {_what(value)}"
    if isinstance(value, str) and (match := NO_SPACE_AFTER_COLON.match(value)):
        return codes.TYPE, message, f"put a space after the colon of {cut(match['key'])!r}"
    return codes.TYPE, message, written_limit(detail) or _example(detail) or "write fields"


def _example(detail: ErrorDetails) -> str | None:
    """Return an example for the place of an error, or for the part that contains it."""
    parts = [part for part in reversed(detail["loc"]) if part in _EXAMPLES]
    return _EXAMPLES[str(parts[0])] if parts else None


def _what(value: object) -> str:
    """Return the kind of a value, or the value itself if it is short."""
    if isinstance(value, str):
        return f"the text {quoted(value)}"
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else _kind(value)


def _name(detail: ErrorDetails) -> _Words:
    listed = "per" in detail["loc"][2:]
    attribute = listed or not {"attributes", "match"}.isdisjoint(detail["loc"])
    written = str(detail["input"])
    what = "an attribute" if attribute else "a limit"
    first = "the first a letter, digit or '_'" if attribute else "the first a letter or digit"
    marks = "'.', '_' and '-'" if attribute else "'_' and '-'"
    if detail["loc"][-1] == "unit":
        what, first = "a unit", "the first a letter"
    hint = f"use letters, digits, {marks}, at most 64, {first}"
    words = re.findall(
        r"[A-Za-z0-9_][\w.-]*" if attribute else r"[A-Za-z0-9][\w-]*", written, re.ASCII
    )
    if listed and "," in written and words:
        hint = f"write a list: [{', '.join(words)}]"
    elif attribute:
        hint = "write the name of an attribute that your service sends, like client or api_key"
    elif 0 < len("_".join(words)) <= 64:
        hint = f"write it without {_strange(written, words)}, like {'_'.join(words).lower()}"
    return codes.NAME, f"{quoted(written)} cannot name {what}", hint


def _strange(text: str, words: Sequence[str]) -> str:
    """Return the characters of a text that are in none of its words."""
    strange = sorted(set(text).difference(*words))
    named = ["spaces" if character == " " else repr(character) for character in strange]
    return joined(named) or "them"


def _too_small(detail: ErrorDetails) -> _Words:
    message = f"{_of(detail)} must be at least {detail['ctx']['ge']}, not {detail['input']}"
    return codes.RANGE, message, "write a larger number"


def _too_big(detail: ErrorDetails) -> _Words:
    message = f"{_of(detail)} must be at most {detail['ctx']['le']}, not {detail['input']}"
    return codes.RANGE, message, "write a smaller number"


def _too_long(detail: ErrorDetails) -> _Words:
    maximum, size = detail["ctx"]["max_length"], len(detail["input"])
    unit = "characters" if detail["type"] == "string_too_long" else "items"
    message = f"{_of(detail)} holds {size} {unit}; at most {maximum} are allowed"
    return codes.RANGE, message, "shorten it"


def _empty(detail: ErrorDetails) -> _Words:
    field = _field(detail)
    hint = _MISSING.get(field) or _example(detail) or "write something"
    return codes.RANGE, f"{field} is empty", hint


def _ordinal(detail: ErrorDetails) -> _Words:
    message = f"{_field(detail)} {detail['msg']}, not {_what(detail['input'])}"
    return codes.TYPE, message, "write which request it is, like 601, or none"


def _own(code: str, hint: str) -> Callable[[ErrorDetails], _Words]:
    """Return an explanation for errors with our own text: the part after the colon is the hint."""

    def explain(detail: ErrorDetails) -> _Words:
        reason = str(detail["msg"])
        match = re.search(r": (?=(?:write|use|add|did you mean) )", reason)
        if match is None:
            return code, reason, hint
        return code, reason[: match.start()], reason[match.end() :]

    return explain


def _written(code: str, hint: str) -> Callable[[ErrorDetails], _Words]:
    """Return an explanation for a value that must be text in a special form."""

    def explain(detail: ErrorDetails) -> _Words:
        value = detail["input"]
        if isinstance(value, bool | list | dict):
            return code, f"{_field(detail)} must be text, not {_what(value)}", hint
        return _own(code, hint)(detail)

    return explain


def _moment(detail: ErrorDetails) -> _Words:
    dated = re.match(r"\s*\d{4}-", str(detail["input"]))
    hint = "write a duration since the start, like 30s, or a date and a time with a zone"
    return _written(codes.INSTANT if dated else codes.DURATION, hint)(detail)


def _matcher(detail: ErrorDetails) -> _Words:
    hint = "write a text, a list of texts, {not: …} or {cidr: …}"
    code, message, hint = _own(codes.MATCHER, hint)(detail)
    if message.startswith("match takes no "):
        hint = hint.replace("write ", f"write {_field(detail)}: ", 1)
    return code, message, hint


def _sets_nothing(_: ErrorDetails) -> _Words:
    hint = "write limits, like limits: {<name>: {rate: 400/s}}, or caps"
    return codes.INCOMPLETE, "the override sets nothing", hint


def _repeated(detail: ErrorDetails) -> _Words:
    hint = "rename one of them" if _field(detail) == "overrides" else "delete one"
    return codes.REPEATED, f"{_field(detail)}: {detail['msg']}", hint


def _other(detail: ErrorDetails) -> _Words:
    return codes.TYPE, f"{_of(detail)} is not valid", str(detail["msg"]).lower()


_EXPLANATIONS: Final[Mapping[str, Callable[[ErrorDetails], _Words]]] = {
    "literal_error": _choice,
    "int_type": _integer,
    "bool_type": _boolean,
    "string_type": _text,
    "tuple_type": _list,
    "dict_type": _mapping,
    "model_type": _mapping,
    "string_pattern_mismatch": _name,
    "greater_than_equal": _too_small,
    "less_than_equal": _too_big,
    "string_too_long": _too_long,
    "too_long": _too_long,
    "string_too_short": _empty,
    "too_short": _empty,
    "ordinal": _ordinal,
    "cost": _own(codes.TYPE, "write a number of requests, or units like {tokens: 4000}"),
    "duration": _written(codes.DURATION, "write <number><unit>, like 30s"),
    "instant": _written(
        codes.INSTANT, "write a date, a time and a zone, like 2026-11-30T00:00+01:00"
    ),
    "moment": _moment,
    "sets_nothing": _sets_nothing,
    "rate": _written(codes.RATE, "write <number>/<duration>, like 100/s"),
    "scope": _own(codes.SCOPE, "write / or a path like /payments/checkout"),
    "repeated": _repeated,
    "resets": _own(codes.RESETS, 'write a time and a zone, like "00:00 Europe/Berlin"'),
    "matcher": _matcher,
    "network": _own(codes.NETWORK, "write a network, like 10.0.0.0/8"),
}
