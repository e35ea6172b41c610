"""Repairs of a policy file whose meaning is certain: spelling of fields, quotes and units.

Only errors are repaired. Whatever has two possible meanings is left alone: ``burst: 010``,
``100/m``, a rate without a unit, or the name of a limit.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

import yaml

from ratectl.policy.language.durations import Duration
from ratectl.policy.language.matchers import Matcher
from ratectl.policy.language.near_names import same_word
from ratectl.policy.language.rates import WORDS, Rate
from ratectl.policy.language.shapes import Shape, document_shape
from ratectl.policy.loading.loader import load
from ratectl.policy.yaml.scalars import Surprise, read_plain
from ratectl.policy.yaml.text import MAX_BYTES

__all__ = ["Repair", "repaired", "repaired_file"]

_TRUE: Final = frozenset({"true", "yes", "on", "y"})
_FALSE: Final = frozenset({"false", "no", "off", "n"})
_DIGITS: Final = re.compile(r"[0-9]{1,10}")
_RATE: Final = re.compile(
    r"\s*(?P<number>[0-9][0-9_.]*)\s*(?:/|\bper\b)\s*(?P<multiple>[0-9]*)\s*(?P<unit>[A-Za-z]+)\.?\s*",
    re.IGNORECASE,
)
_DURATION: Final = re.compile(r"\s*(?P<number>[0-9][0-9_.]*)\s*(?P<unit>[A-Za-z]+)\.?\s*")


@dataclass(frozen=True, slots=True, order=True)
class Repair:
    """Replacement of a part of a text; ``line`` and ``column`` count from 1."""

    start: int
    end: int
    line: int
    column: int
    before: str
    after: str


def repaired_file(data: bytes) -> tuple[bytes, tuple[Repair, ...]]:
    """Return the bytes of a file with its repairs, if they remove an error.

    Other errors may appear then: those inside a field that could not be read before.
    """
    errors = _errors(data)
    if not errors or len(data) > MAX_BYTES:
        return data, ()
    try:
        text, repairs = repaired(data.decode())
    except UnicodeDecodeError:
        return data, ()
    better = bool(repairs) and not errors <= _errors(text.encode())
    return (text.encode(), repairs) if better else (data, ())


def _errors(data: bytes) -> set[tuple[str, str]]:
    found = load(["-"], stdin=data).diagnostics
    return {(finding.code, finding.message) for finding in found if finding.severity == "error"}


def repaired(text: str) -> tuple[str, tuple[Repair, ...]]:
    """Return the text of a file with its certain repairs, and the repairs in their order."""
    try:
        roots = list(yaml.compose_all(text, Loader=yaml.SafeLoader))
        repairs = sorted(_Repairs(text, roots).found)
    except (yaml.YAMLError, RecursionError):
        return text, ()
    for repair in reversed(repairs):
        text = text[: repair.start] + repair.after + text[repair.end :]
    return text, tuple(repairs)


class _Repairs:
    """Repairs of the documents of a text."""

    def __init__(self, text: str, roots: list[Any]) -> None:
        self.found: set[Repair] = set()
        self._text = text
        self._visited: set[int] = set()
        for root in roots:
            if isinstance(root, yaml.MappingNode):
                self._mapping(root, document_shape(root))

    def _visit(self, node: Any, shape: Shape) -> None:
        if isinstance(node, yaml.ScalarNode):
            self._scalar(node, shape)
        elif id(node) in self._visited:  # an alias
            return
        elif Matcher in shape.types:
            self._matcher(node, shape)
        elif isinstance(node, yaml.MappingNode):
            self._mapping(node, shape)
        else:
            self._visited.add(id(node))
            for item in node.value:
                self._visit(item, shape.item)

    def _mapping(self, node: Any, shape: Shape) -> None:
        self._visited.add(id(node))
        names = {name.value for name, _ in node.value if isinstance(name, yaml.ScalarNode)}
        for name, value in node.value:
            if not isinstance(name, yaml.ScalarNode):
                continue
            field = name.value
            if shape.fields:
                field = _field(field, shape, names)
                if field != name.value:
                    self._replace(name, field)
            else:
                self._quote(name)
            self._visit(value, shape.field(field))

    def _matcher(self, node: Any, shape: Shape) -> None:
        self._visited.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            for item in node.value:
                self._visit(item, shape)
            return
        for name, value in node.value:
            if name.value in ("not", "cidr"):
                self._visit(value, shape)

    def _scalar(self, node: Any, shape: Shape) -> None:
        types = shape.types
        if node.style in ("|", ">"):
            return
        if Rate in types or Duration in types:
            self._unit(node, Rate if Rate in types else Duration)
        elif bool in types:
            self._boolean(node)
        elif int in types:
            if node.style and _DIGITS.fullmatch(node.value):
                self._replace(node, str(int(node.value)))
        elif str in types or Matcher in types:
            self._quote(node)
        else:
            self._choice(node, [choice for choice in types if isinstance(choice, str)])

    def _unit(self, node: Any, kind: type[Rate | Duration]) -> None:
        try:
            kind.parse(node.value)
        except ValueError:
            written = _with_known_unit(node.value, kind)
            if written is not None:
                self._replace(node, written)

    def _boolean(self, node: Any) -> None:
        word = node.value.lower()
        written = "true" if word in _TRUE else "false" if word in _FALSE else None
        if written is not None and (node.style or node.value != written):
            self._replace(node, written)

    def _quote(self, node: Any) -> None:
        """Quote a plain scalar that YAML reads as something else than text."""
        if node.style or not node.value or node.value in ("~", "<<"):
            return
        value = read_plain(node.value)
        if isinstance(value, str) or node.value.lower() == "null":
            return
        if isinstance(value, Surprise | bool | int | float):
            self._replace(node, f'"{node.value}"')

    def _choice(self, node: Any, choices: list[str]) -> None:
        """Correct case and separators of one of a few words."""
        folded = node.value.lower().replace("_", "-")
        meant = next((choice for choice in choices if choice.replace("_", "-") == folded), None)
        if meant is None:
            return
        if node.value != meant:
            self._replace(node, meant)

    def _replace(self, node: Any, after: str) -> None:
        start, end = node.start_mark, node.end_mark
        before = self._text[start.index : end.index]
        if before != after and not before.startswith(("!", "&", "*")):  # a tag, an anchor, an alias
            self.found.add(
                Repair(start.index, end.index, start.line + 1, start.column + 1, before, after)
            )


def _field(name: str, shape: Shape, present: set[str]) -> str:
    """Return the field that a name is a misspelling of, or the name itself."""
    if name in shape.fields:
        return name
    meant = [field for field in shape.fields if same_word(name, field)]
    return meant[0] if len(meant) == 1 and meant[0] not in present else name


def _with_known_unit(text: str, kind: type[Rate | Duration]) -> str | None:
    """Return a rate or duration whose unit has another spelling (``Sec``, ``mins``), or None."""
    match = (_RATE if kind is Rate else _DURATION).fullmatch(text) if len(text) <= 64 else None
    if match is None:
        return None
    word = match["unit"].lower()
    unit = WORDS.get(word) or WORDS.get(word.removesuffix("s") if len(word) > 2 else "")
    if unit is None:
        return None
    slash = f"/{match['multiple']}" if kind is Rate else ""
    written = f"{match['number']}{slash}{unit}"
    try:
        kind.parse(written)
    except ValueError:
        return None
    return written
