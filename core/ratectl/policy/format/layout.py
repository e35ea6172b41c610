"""Indentation and spacing by a round trip through ruamel.yaml, and the comments of a text."""

from __future__ import annotations

import io
import re
from typing import Any, Final, NamedTuple

from ratectl.policy.yaml.comments import comments_of

__all__ = ["comments", "laid_out"]

_ENDLESS: Final = 2**20
_DASHES: Final = re.compile(r" *(?:- +)+")


def laid_out(text: str) -> str:
    """Return a document with two columns for each level and one space after colons and commas."""
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
    """Return a resolver that takes plain scalars as text: numbers and dates keep their spelling."""
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
    """Return the comments of a text, without their places."""
    return [comment.text for comment in comments_of(text).comments]


def _aligned(text: str, before: str) -> str:
    """Return the text with comments on lines of their own indented in the block of before."""
    lines, now = _own_comments(text)
    known = _own_comments(before)[1]
    for new in now:
        old = next((comment for comment in known if comment.text == new.text), None)
        if old is not None:
            known.remove(old)
            lines[new.line] = " " * new.column_like(old) + lines[new.line].lstrip(" ")
    return "".join(lines)


class _Own(NamedTuple):
    """Comment on a line of its own, with the columns of the open blocks and the line below."""

    line: int
    column: int
    text: str
    blocks: list[int]
    below: int

    def column_like(self, old: _Own) -> int:
        """Return the column for this comment: level with the line below, or as deep as before."""
        if old.column == old.below:
            return self.below
        deeper = sum(column > old.column for column in old.blocks)
        return self.blocks[max(len(self.blocks) - 1 - deeper, 0)]


def _own_comments(text: str) -> tuple[list[str], list[_Own]]:
    """Return the lines of a text, and its comments on lines of their own."""
    lines = text.splitlines(keepends=True)
    starts = {comment.start for comment in comments_of(text).comments}
    own: list[_Own] = []
    waiting: list[tuple[int, int, str]] = []
    blocks: list[int] = [0]
    offset = 0
    for at, line in enumerate([*lines, "end"]):
        indent = len(line) - len(line.lstrip(" "))
        if offset + indent in starts:
            waiting.append((at, indent, line.strip()))
        elif line.strip():
            own += [_Own(*comment, blocks, indent) for comment in waiting]
            waiting = []
            blocks = [*(column for column in blocks if column < indent), indent]
            if dashes := _DASHES.match(line):  # the fields of an item are a block of their own
                blocks.append(dashes.end())
        offset += len(line)
    return lines, own
