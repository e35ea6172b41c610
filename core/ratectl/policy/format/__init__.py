"""Canonical form of a policy file: one layout, the same comments, the same meaning.

``format_text`` works on text that validates. It compares the meaning and the comments of each
document, and what the comments ignore, before and after: a document in which any of these would
change is left as it is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import yaml

from ratectl.policy.format.edits import arranged, edited
from ratectl.policy.format.ignored import ignored
from ratectl.policy.format.layout import comments, laid_out
from ratectl.policy.language.rates import Rate
from ratectl.policy.language.shapes import Shape, document_shape

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["COMMENTS", "IGNORES", "Formatted", "Kept", "format_text"]

COMMENTS: Final = "a comment would be lost"
IGNORES: Final = "a comment would ignore other findings"

_MARKER: Final = re.compile(r"^(?:---|\.\.\.)(?=\s|$).*\n?", re.MULTILINE)
_LEADING: Final = re.compile(r"\A(?:[ \t]*\n)+")
_END: Final = re.compile(r"\r\n|\n|\r")
_BLANK: Final = re.compile(r"\s*(?:#.*)?")


class Kept(NamedTuple):
    """Document that was left as it is: its first line, and the reason."""

    line: int
    why: str


@dataclass(frozen=True, slots=True)
class Formatted:
    """Formatted text, and the documents that were left as they are."""

    text: str
    kept: tuple[Kept, ...]


def format_text(text: str) -> Formatted:
    """Return the canonical form of the text of a file that validates.

    Line ends are like the first one, LF or CRLF; a byte order mark is removed.
    """
    first = _END.search(text)
    end = "\r\n" if first is not None and first[0] == "\r\n" else "\n"
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    parts, kept, line = [], [], 1
    for part in _parts(text):
        formatted = part
        if not _MARKER.match(part) and not all(map(_BLANK.fullmatch, part.splitlines())):
            formatted, why = _document(part)
            if why:
                kept.append(Kept(line, why))
        parts.append(_ended(formatted))
        line += part.count("\n")
    whole = "".join(parts).rstrip("\n") + "\n"
    return Formatted(whole.replace("\n", end), tuple(kept))


def _parts(text: str) -> Iterator[str]:
    """Yield the document markers and the text between them."""
    cuts = [0, *(at for mark in _MARKER.finditer(text) for at in mark.span()), len(text)]
    for start, end in pairwise(cuts):
        if start < end:
            yield text[start:end]


def _ended(part: str) -> str:
    return part if part.endswith("\n") else f"{part}\n"


def _document(text: str) -> tuple[str, str]:
    """Return a formatted document; if it is left as it is, the reason too."""
    try:
        before, formatted = _read(text), _written(text)
        after = _read(formatted)
        # A comment after an unused anchor moves each time that the text is formatted.
        if after[:2] != before[:2] or ("&" in text and _written(formatted) != formatted):
            return text, COMMENTS
    except (yaml.YAMLError, ValueError, RecursionError):
        return text, COMMENTS
    return (formatted, "") if after[2] == before[2] else (text, IGNORES)


def _written(text: str) -> str:
    return _LEADING.sub("", laid_out(arranged(edited(text))))


def _read(text: str) -> tuple[Any, list[str], list[Any]]:
    """Return the meaning of a document, its comments, and what these ignore.

    All are the same for every order and spelling of the fields.
    """
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if not isinstance(root, yaml.MappingNode):
        raise ValueError("not a policy")
    return _plain(root, document_shape(root)), sorted(comments(text)), ignored(text, root)


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
