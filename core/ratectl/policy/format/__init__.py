"""Canonical form of a policy file: one layout, the same comments, the same meaning.

``format_text`` works on text that validates. It compares the meaning and the comments of each
document before and after: a document in which either would change is left as it is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import yaml

from ratectl.policy.format.edits import arranged, edited
from ratectl.policy.format.layout import comments, laid_out
from ratectl.policy.language.rates import Rate
from ratectl.policy.language.shapes import Shape, document_shape

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Formatted", "format_text"]

_MARKER: Final = re.compile(r"^(?:---|\.\.\.)(?=\s|$).*\n?", re.MULTILINE)
_LEADING: Final = re.compile(r"\A(?:[ \t]*\n)+")
_BLANK: Final = re.compile(r"\s*(?:#.*)?")


@dataclass(frozen=True, slots=True)
class Formatted:
    """Formatted text, and the first lines of the documents that were left as they are."""

    text: str
    kept: tuple[int, ...]


def format_text(text: str) -> Formatted:
    """Return the canonical form of the text of a file that validates."""
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    parts, kept, line = [], [], 1
    for part in _parts(text):
        formatted: str | None = part
        if not _MARKER.match(part) and not all(map(_BLANK.fullmatch, part.splitlines())):
            formatted = _document(part)
            if formatted is None:
                kept.append(line)
        parts.append(_ended(part if formatted is None else formatted))
        line += part.count("\n")
    return Formatted("".join(parts).rstrip("\n") + "\n", tuple(kept))


def _parts(text: str) -> Iterator[str]:
    """Yield the document markers and the text between them."""
    cuts = [0, *(at for mark in _MARKER.finditer(text) for at in mark.span()), len(text)]
    for start, end in pairwise(cuts):
        if start < end:
            yield text[start:end]


def _ended(part: str) -> str:
    return part if part.endswith("\n") else f"{part}\n"


def _document(text: str) -> str | None:
    """Return a formatted document; None if its meaning or its comments would change."""
    try:
        values, remarks = _values(text), comments(text)
        formatted = _written(text)
        if _values(formatted) != values or sorted(comments(formatted)) != sorted(remarks):
            return None
        # A comment after an unused anchor moves each time that the text is formatted.
        if "&" in text and _written(formatted) != formatted:
            return None
    except (yaml.YAMLError, ValueError, RecursionError):
        return None
    return formatted


def _written(text: str) -> str:
    return _LEADING.sub("", laid_out(arranged(edited(text))))


def _values(text: str) -> Any:
    """Return the meaning of a document: the same for every order and spelling of its fields."""
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if not isinstance(root, yaml.MappingNode):
        raise ValueError("not a policy")
    return _plain(root, document_shape(root))


def _plain(node: Any, shape: Shape) -> Any:
    if isinstance(node, yaml.MappingNode):
        if not all(isinstance(name, yaml.ScalarNode) for name, _ in node.value):
            raise ValueError("not a policy")
        return {name.value: _plain(value, shape.field(name.value)) for name, value in node.value}
    if isinstance(node, yaml.SequenceNode):
        values = [_plain(item, shape.item) for item in node.value]
        return values[0] if shape.short_list and len(values) == 1 else values
    if shape.is_rate:
        return Rate.parse(node.value)
    return node.value, "text" if node.style in ("'", '"') else node.tag
