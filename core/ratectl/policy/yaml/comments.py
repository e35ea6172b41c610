"""Comments of a YAML text, with their places: text from a ``#`` that is in no scalar."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

import yaml

__all__ = ["Comment", "Comments", "comments_of"]

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_COMMENT: Final = re.compile(r"(?:^|(?<=\s))#[^\r\n]*", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Comment:
    """Comment of a text; ``start`` is the position of its ``#``."""

    start: int
    text: str


@dataclass(frozen=True, slots=True)
class Comments:
    """Comments of a text, and where its documents and their contents begin, as positions."""

    comments: tuple[Comment, ...]
    documents: tuple[int, ...]
    """Positions of the document markers ``---``."""
    contents: tuple[int, ...]
    """Positions of the keys and values."""


def comments_of(text: str) -> Comments:
    """Return the comments of a text, in their order.

    :raises yaml.YAMLError: the text is not well-formed.
    """
    comments: list[Comment] = []
    documents: list[int] = []
    contents: list[int] = []
    at = 0
    for token in yaml.scan(text, Loader=_LOADER):
        start, end = token.start_mark.index, token.end_mark.index
        if isinstance(token, yaml.DocumentStartToken):
            documents.append(start)
        elif isinstance(token, yaml.FlowMappingStartToken | yaml.FlowSequenceStartToken):
            contents.append(start)
        elif isinstance(token, yaml.ScalarToken | yaml.StreamEndToken):
            if isinstance(token, yaml.ScalarToken):
                contents.append(start)
            comments += [
                Comment(match.start(), match[0].rstrip())
                for match in _COMMENT.finditer(text, at, start)
            ]
            at = end
    return Comments(tuple(comments), tuple(documents), tuple(contents))
