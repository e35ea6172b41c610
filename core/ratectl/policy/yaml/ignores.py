"""Comments ``# ratectl: ignore RC304`` of a text: their codes, and the lines that they are for.

At the end of a line, a comment is for that line; on a line of its own for the next line with
content; above the first key of a document for the whole document.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from ratectl.policy.yaml.comments import Comment, Comments, comments_of

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["IgnoreComment", "Ignores", "ignores_of", "may_ignore"]

_OURS: Final = re.compile(r"#\s*ratectl(?:\s*:|\s+ignore\s+RC[0-9])", re.IGNORECASE)
"""Start of a comment for ratectl, also behind another comment or without its colon."""

_IN_BYTES: Final = re.compile(rb"#\s*ratectl", re.IGNORECASE)
_CODES: Final = r"(?P<codes>RC[0-9]{3}(?:[\s,;]+RC[0-9]{3})*)"
_FORM: Final = re.compile(rf"#\s*ratectl\s*:\s*ignore\s+{_CODES}(?!\w)(?P<rest>.*)", re.IGNORECASE)
_MARK: Final = re.compile(r"\s*[,;]")
_MORE: Final = re.compile(r"[^(:#]{1,6}\bRC[0-9]", re.IGNORECASE)
"""Start of a rest that goes on with codes."""

_BREAK: Final = re.compile(r"\r\n|\n|\r")


@dataclass(frozen=True, slots=True)
class IgnoreComment:
    """Comment for ratectl, with its place; lines and columns count from 1."""

    text: str
    line: int
    column: int
    codes: tuple[str, ...]
    """Codes that it names; empty if it cannot be read."""
    problem: str
    """Reason why it cannot be read."""
    document: int
    """First line of its document."""
    target: int | None
    """Line that it is for; None for the whole document, 0 if nothing stands below it."""


@dataclass(frozen=True, slots=True)
class Ignores:
    """Comments for ratectl in a text, and the first lines of its documents."""

    comments: tuple[IgnoreComment, ...] = ()
    documents: tuple[int, ...] = ()


def may_ignore(data: bytes) -> bool:
    """Return False if a text certainly has no comment for ratectl."""
    return _IN_BYTES.search(data) is not None


def ignores_of(text: str) -> Ignores:
    """Return the comments for ratectl in a text.

    :raises yaml.YAMLError: the text is not well-formed.
    """
    comments = comments_of(text)
    lines = [0, *(match.end() for match in _BREAK.finditer(text))]
    cuts = _cuts(comments)
    documents = tuple(bisect_right(lines, cut) for cut in cuts)
    found: list[IgnoreComment] = []
    for comment in comments.comments:
        ours = list(_written(comment))
        if not ours:
            continue
        line = bisect_right(lines, comment.start)
        document = bisect_right(cuts, comment.start) - 1
        target: int | None = line
        if not text[lines[line - 1] : comment.start].strip():
            target = _target(comment, comments, cuts, lines)
        for start, written in ours:
            column = comment.start + start - lines[line - 1] + 1
            codes, problem = _read(written)
            found.append(
                IgnoreComment(written, line, column, codes, problem, documents[document], target)
            )
    return Ignores(tuple(found), documents)


def _written(comment: Comment) -> Iterator[tuple[int, str]]:
    """Yield the position and the text of each part of a comment that is for ratectl."""
    starts = [match.start() for match in _OURS.finditer(comment.text)]
    for start, end in pairwise([*starts, len(comment.text)]):
        yield start, comment.text[start:end].rstrip()


def _read(written: str) -> tuple[tuple[str, ...], str]:
    """Return the codes that a comment names, and the reason why it cannot be read."""
    match = _FORM.match(written)
    if match is None:
        return (), "it cannot be read"
    if mark := _MARK.match(match["rest"]):
        return (), f"no code follows the last {mark[0].strip()!r}"
    if _MORE.match(match["rest"]):
        return (), "commas have to separate the codes"
    return tuple(re.split(r"[\s,;]+", match["codes"].upper())), ""


def _target(comment: Comment, comments: Comments, cuts: list[int], lines: list[int]) -> int | None:
    """Return the line that a comment on a line of its own is for; None for its whole document."""
    contents = comments.contents
    document = bisect_right(cuts, comment.start) - 1
    before = bisect_right(contents, comment.start)
    if not before or contents[before - 1] < cuts[document]:
        return None
    below = contents[before] if before < len(contents) else None
    if below is None or bisect_right(cuts, below) - 1 != document:
        return 0
    return bisect_right(lines, below)


def _cuts(comments: Comments) -> list[int]:
    """Return the positions at which the documents begin.

    Text above the first marker belongs to the first document, if it holds only comments.
    """
    markers, contents = comments.documents, comments.contents
    if markers and contents and contents[0] > markers[0]:
        markers = markers[1:]
    return [0, *markers]
