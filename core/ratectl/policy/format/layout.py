"""Indentation and spacing, by ruamel.yaml's round trip; and the comments of a text."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["comments", "laid_out"]

_ENDLESS: Final = 2**20
_DASHES: Final = re.compile(r" *(?:- +)+")
_COMMENT: Final = re.compile(r"(?:^|(?<=\s))#[^\n]*", re.MULTILINE)


def laid_out(text: str) -> str:
    """The same document, two columns for each level, one blank behind colons and commas."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    reader = YAML(typ="rt", pure=True)
    reader.Resolver = _text_resolver()
    reader.preserve_quotes = True
    reader.width = _ENDLESS
    reader.indent(mapping=2, sequence=4, offset=2)
    out = io.StringIO()
    try:
        reader.dump(reader.load(text), out)
    except YAMLError as error:
        raise ValueError(str(error)) from error
    return _aligned(out.getvalue(), text)


def _text_resolver() -> type:
    """All that is plain stays as it is written: numbers, dates and words are not re-spelt."""
    from ruamel.yaml.nodes import ScalarNode
    from ruamel.yaml.resolver import VersionedResolver
    from ruamel.yaml.tag import Tag

    class TextResolver(VersionedResolver):
        def resolve(self, kind: Any, value: Any, implicit: Any) -> Any:
            if kind is ScalarNode:
                return Tag(suffix="tag:yaml.org,2002:str")
            return super().resolve(kind, value, implicit)

    return TextResolver


def comments(text: str) -> list[str]:
    """The comments of a text, without their places."""
    return [text[start:end].rstrip() for start, end in _comments(text)]


def _comments(text: str) -> Iterator[tuple[int, int]]:
    """Where comments are: what begins with ``#`` and is in no scalar."""
    scalars = [
        (token.start_mark.index, token.end_mark.index)
        for token in yaml.scan(text, Loader=yaml.SafeLoader)
        if isinstance(token, yaml.ScalarToken)
    ]
    at = 0
    for start, end in [*scalars, (len(text), len(text))]:
        for match in _COMMENT.finditer(text[at:start]):
            yield at + match.start(), at + match.end()
        at = end


def _aligned(text: str, before: str) -> str:
    """Comments with a line of their own, in the block that they were in before."""
    lines, now = _own_comments(text)
    known = _own_comments(before)[1]
    for new in now:
        old = next((each for each in known if each.text == new.text), None)
        if old is not None:
            known.remove(old)
            lines[new.line] = " " * new.column_like(old) + lines[new.line].lstrip(" ")
    return "".join(lines)


class _Own(NamedTuple):
    """A comment with a line of its own: where, and the columns of what is around it."""

    line: int
    column: int
    text: str
    blocks: list[int]
    below: int

    def column_like(self, old: _Own) -> int:
        """With the line below, or as deep in the open blocks, whichever it was."""
        if old.column == old.below:
            return self.below
        deeper = sum(each > old.column for each in old.blocks)
        return self.blocks[max(len(self.blocks) - 1 - deeper, 0)]


def _own_comments(text: str) -> tuple[list[str], list[_Own]]:
    """The lines of a text, and its comments."""
    lines = text.splitlines(keepends=True)
    starts = {start for start, _ in _comments(text)}
    found: list[_Own] = []
    waiting: list[tuple[int, int, str]] = []
    blocks: list[int] = [0]
    offset = 0
    for at, line in enumerate([*lines, "end"]):
        indent = len(line) - len(line.lstrip(" "))
        if offset + indent in starts:
            waiting.append((at, indent, line.strip()))
        elif line.strip():
            found += [_Own(*each, blocks, indent) for each in waiting]
            waiting = []
            blocks = [*(each for each in blocks if each < indent), indent]
            if dashes := _DASHES.match(line):  # the fields of an item are a block of their own
                blocks.append(dashes.end())
        offset += len(line)
    return lines, found
