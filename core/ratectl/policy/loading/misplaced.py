"""Limits and fields of limits in a wrong place: one finding for all of them that stand together."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from ratectl.diagnostics import Diagnostic, Span
from ratectl.policy import codes
from ratectl.policy.language.model import LimitFields
from ratectl.policy.yaml.nodes import BROKEN
from ratectl.policy.yaml.slips import written_short
from ratectl.policy.yaml.text import quoted, shown
from ratectl.runtime.wording import joined

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pydantic import BaseModel
    from pydantic_core import ErrorDetails

    from ratectl.policy.yaml.nodes import Node

__all__ = ["split_misplaced", "written_limit"]

_PARTS: Final = ("limits", "budgets", "caps")
_NAMES: Final = {"limits": "spike", "budgets": "total", "caps": "spike"}
_FIELDS: Final = frozenset(LimitFields.model_fields)
_RATE: Final = re.compile(r"[0-9][0-9_.]* */ *[0-9]*[A-Za-z]+")

_Location = tuple[str | int, ...]


def split_misplaced(
    details: Sequence[ErrorDetails], model: type[BaseModel], root: Node, file: str
) -> tuple[list[Diagnostic], list[ErrorDetails]]:
    """Return findings for misplaced limits and fields, and the errors that they do not explain."""
    explained = {id(each) for each in details if _is_in_spec(each, root)}
    if "limits" not in model.model_fields:
        return [], [each for each in details if id(each) not in explained]
    findings: list[Diagnostic] = []
    lacking = {each["loc"][:-1]: id(each) for each in details if _lacks_limits(each)}
    for group in _groups(details, _is_limit_outside):
        limits = _node(group, root).children.get("limits")
        if limits is None or limits.value is not BROKEN:  # that they are not indented was reported
            findings.append(_limits_outside(group, root, file))
        explained.update(map(id, group))
        explained.add(lacking.get(group[0]["loc"][:-1], 0))
    for group in _groups(details, _is_field_outside):
        findings.append(_fields_outside(group, root, file, "limits"))
        explained.update(map(id, group))
    for group in _groups(details, _is_field_as_limit):
        part = str(group[0]["loc"][-2])
        findings.append(_fields_outside(group, root, file, part))
        explained.update(map(id, group))
    return findings, [each for each in details if id(each) not in explained]


def written_limit(detail: ErrorDetails) -> str | None:
    """Return what to write for ``spike: 100/s``, or for a list of limits; None for other errors."""
    loc, value = detail["loc"], detail["input"]
    if loc[-1] in _PARTS and isinstance(value, list):
        names = [item.get("name") for item in value if isinstance(item, dict)]
        name = next((name for name in names if isinstance(name, str)), "<name>")
        return f"write the names as keys, like {loc[-1]}: {{{shown(name)}: {{rate: 100/s}}}}"
    if len(loc) < 2 or loc[-2] not in _PARTS:
        return None
    rate = value if isinstance(value, str) and _RATE.fullmatch(value) else "100/s"
    return f"write {shown(str(loc[-1]))}: {{rate: {rate}}}"


def _groups(details: Iterable[ErrorDetails], wanted: Any) -> Iterable[list[ErrorDetails]]:
    """Return the wanted errors of each mapping."""
    groups: dict[_Location, list[ErrorDetails]] = {}
    for detail in details:
        if wanted(detail):
            groups.setdefault(detail["loc"][:-1], []).append(detail)
    return groups.values()


def _is_limit_outside(detail: ErrorDetails) -> bool:
    """Return True for ``spike: {rate: 10/s}`` in a document or an override."""
    value = detail["input"]
    return (
        detail["type"] == "extra_forbidden"
        and _may_hold_limits(detail["loc"][:-1])
        and detail["loc"][-1] not in _FIELDS
        and isinstance(value, dict)
        and bool(value)
        and _FIELDS.issuperset(value)
    )


def _is_field_outside(detail: ErrorDetails) -> bool:
    """Return True for ``rate: 10/s`` in a document or an override."""
    above, field = detail["loc"][:-1], detail["loc"][-1]
    return detail["type"] == "extra_forbidden" and _may_hold_limits(above) and field in _FIELDS


def _is_field_as_limit(detail: ErrorDetails) -> bool:
    """Return True for ``limits: {rate: 10/s}``."""
    loc = detail["loc"]
    return (
        detail["type"] in ("model_type", "dict_type")
        and len(loc) > 1
        and loc[-2] in _PARTS
        and loc[-1] in _FIELDS
    )


def _may_hold_limits(loc: _Location) -> bool:
    return not loc or (len(loc) == 2 and loc[0] == "overrides")


def _is_in_spec(detail: ErrorDetails, root: Node) -> bool:
    """Return True for a missing field that ``spec`` has, as in documents of Kubernetes."""
    spec = root.value.get("spec")
    return detail["type"] == "missing" and isinstance(spec, dict) and detail["loc"][0] in spec


def _lacks_limits(detail: ErrorDetails) -> bool:
    return detail["type"] == "missing" and detail["loc"][-1] == "limits"


def _limits_outside(group: Sequence[ErrorDetails], root: Node, file: str) -> Diagnostic:
    names = [str(detail["loc"][-1]) for detail in group]
    one, node = len(names) == 1, _node(group, root)
    it = "it" if one else "them"
    look = "looks like a limit, and is" if one else "look like limits, and are"
    message = f"{joined([quoted(name) for name in names])} {look} not below limits"
    hint = f"write limits: on the line above, and indent {it} below that"
    if "limits" in node.keys:
        hint = f"indent {it} below limits:"
    return _finding(group, root, file, message, hint)


def _fields_outside(group: Sequence[ErrorDetails], root: Node, file: str, part: str) -> Diagnostic:
    names = [str(detail["loc"][-1]) for detail in group]
    what = {"limits": "limit", "budgets": "budget", "caps": "cap"}[part]
    verb = "is a field" if len(names) == 1 else "are fields"
    message = f"{joined(names)} {verb} of a {what}, and the {what} has no name here"
    fields = ", ".join(
        f"{name}: {written_short(detail['input']) or '…'}"
        for name, detail in zip(names, group, strict=True)
    )
    hint = f"give the {what} a name, like {part}: {{{_NAMES[part]}: {{{fields}}}}}"
    return _finding(group, root, file, message, hint)


def _finding(
    group: Sequence[ErrorDetails], root: Node, file: str, message: str, hint: str
) -> Diagnostic:
    place = _node(group, root).keys[str(group[0]["loc"][-1])]
    return Diagnostic(codes.UNKNOWN_FIELD, message, Span(file, *place), hint=hint)


def _node(group: Sequence[ErrorDetails], root: Node) -> Node:
    """Return the mapping that the fields of a group are in."""
    node = root
    for part in group[0]["loc"][:-1]:
        node = node.children[part]
    return node
