"""Repairs of a policy file whose meaning is certain: spelling of fields, quotes and units.

Only errors are repaired. Whatever has two possible meanings is left alone: ``100/m``, a rate
without a unit, the name of a limit, a field that is meant twice, and words and numbers on which
YAML readers disagree (``010``, ``yes`` in a field of text).
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import yaml

from ratectl.policy.language.durations import Duration
from ratectl.policy.language.kinds import DEFAULT_KIND, KINDS
from ratectl.policy.language.matchers import FORMS, Matcher
from ratectl.policy.language.near_names import same_word
from ratectl.policy.language.rates import WORDS, Rate
from ratectl.policy.language.shapes import HEADER, Shape
from ratectl.policy.loading.loader import load
from ratectl.policy.yaml.reader import read
from ratectl.policy.yaml.scalars import read_plain
from ratectl.policy.yaml.text import MAX_BYTES

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

__all__ = ["Repair", "repaired", "repaired_file"]

_TRUE: Final = frozenset({"true", "yes", "on", "y"})
_FALSE: Final = frozenset({"false", "no", "off", "n"})
_DIGITS: Final = re.compile(r"0|[1-9][0-9]{0,9}")
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

    The result has no finding about YAML that the file did not have. Other errors may appear: those
    inside a field that could not be read before.
    """
    errors = _errors(data)
    if not errors or len(data) > MAX_BYTES:
        return data, ()
    try:
        text, repairs = repaired(data.decode())
    except UnicodeDecodeError:
        return data, ()
    better = text.encode()
    worse = _of_yaml(better) - _of_yaml(data)
    return (better, repairs) if not worse and not errors <= _errors(better) else (data, ())


def _errors(data: bytes) -> set[tuple[str, str]]:
    found = load(["-"], stdin=data).diagnostics
    return {(finding.code, finding.message) for finding in found if finding.severity == "error"}


def _of_yaml(data: bytes) -> Counter[tuple[str, str]]:
    return Counter((finding.code, finding.message) for finding in read(data, "-").diagnostics)


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
                self._document(root)

    def _document(self, root: Any) -> None:
        kinds = [value for name, value in root.value if _field(name, HEADER) == "kind"]
        kind: str | None = DEFAULT_KIND
        if len(kinds) == 1:
            kind = self._choice(kinds[0], KINDS) if isinstance(kinds[0], yaml.ScalarNode) else None
        if kind is not None and len(kinds) < 2:  # of another kind nothing is known
            self._mapping(root, Shape(KINDS[kind], HEADER))

    def _visit(self, node: Any, shape: Shape) -> None:
        if shape.annotation is None or id(node) in self._visited:  # an unknown field, or an alias
            return
        if isinstance(node, yaml.ScalarNode):
            self._scalar(node, shape)
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
        for name, value, field in _fields(node, shape.fields):
            if shape.fields:
                self._write(name, field)
            elif field is not None:
                self._quote(name)
            self._visit(value, shape.field(field or ""))

    def _matcher(self, node: Any, shape: Shape) -> None:
        self._visited.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            for item in node.value:
                self._visit(item, shape)
            return
        for name, value, field in _fields(node, FORMS):
            self._write(name, field)
            if field in ("not", "cidr"):
                self._visit(value, shape)
            elif field == "exists" and isinstance(value, yaml.ScalarNode):
                self._boolean(value)

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
                self._replace(node, node.value)
        elif str in types or Matcher in types:
            self._quote(node)
        else:
            self._choice(node, [choice for choice in types if isinstance(choice, str)])

    def _unit(self, node: Any, kind: type[Rate | Duration]) -> None:
        try:
            kind.parse(node.value)
        except ValueError:
            self._write(node, _with_known_unit(node.value, kind))

    def _boolean(self, node: Any) -> None:
        word = node.value.lower()
        written = "true" if word in _TRUE else "false" if word in _FALSE else None
        if written is not None and (node.style or node.value != written):
            self._replace(node, written)

    def _quote(self, node: Any) -> None:
        """Quote a plain scalar that every YAML reader takes for the same number or boolean."""
        value = node.value if node.style else read_plain(node.value)
        if isinstance(value, bool | int | float) and str(value).lower() == node.value:
            self._replace(node, f'"{node.value}"')

    def _choice(self, node: Any, choices: Collection[str]) -> str | None:
        """Correct case and separators of one of a few words, and return the word."""
        folded = _folded(node.value)
        meant = next((choice for choice in choices if _folded(choice) == folded), None)
        self._write(node, meant)
        return meant

    def _write(self, node: Any, word: str | None) -> None:
        """Replace a text, in the quotes that it has; None leaves it as it is."""
        if word is not None and word != node.value and node.style not in ("|", ">"):
            quote = node.style or ""
            self._replace(node, f"{quote}{word}{quote}")

    def _replace(self, node: Any, after: str) -> None:
        start, end = node.start_mark, node.end_mark
        before = self._text[start.index : end.index]
        if before != after and not before.startswith(("!", "&", "*")):  # a tag, an anchor, an alias
            self.found.add(
                Repair(start.index, end.index, start.line + 1, start.column + 1, before, after)
            )


def _fields(node: Any, known: Collection[str]) -> Iterator[tuple[Any, Any, str | None]]:
    """Yield the name and the value of each field of a mapping, and the field that is meant.

    ``known`` is empty for a mapping of names, which mean themselves. None is for an unknown field,
    and for one that is meant twice.
    """
    named = [(name, value, _field(name, known)) for name, value in node.value]
    times = Counter(field for _, _, field in named)
    for name, value, field in named:
        yield name, value, field if times[field] == 1 else None


def _field(name: Any, known: Collection[str]) -> str | None:
    """Return the one field that a name is, or is a misspelling of."""
    if not isinstance(name, yaml.ScalarNode):
        return None
    written: str = name.value
    if not known or written in known:
        return written
    if not name.style and not isinstance(read_plain(written), str):
        return None
    meant = [field for field in known if same_word(written, field)]
    return meant[0] if len(meant) == 1 else None


def _folded(word: str) -> str:
    return word.lower().replace("_", "").replace("-", "")


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
