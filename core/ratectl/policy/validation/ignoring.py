"""Comments that ignore warnings: ``# ratectl: ignore RC304``.

At the end of a line, a comment is for the findings of that line; on a line of its own for those of
the next line with content; above the first key of a document for those of the whole document.
Errors cannot be ignored, and a comment that ignores nothing is a finding itself.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Final

import yaml

from ratectl.diagnostics import Diagnostic, Span
from ratectl.policy import codes
from ratectl.policy.yaml.comments import Comment, Comments, comments_of
from ratectl.policy.yaml.text import MAX_PROBLEMS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

__all__ = ["ignored_by_comments"]

_OURS: Final = re.compile(r"#\s*ratectl:")
_IN_BYTES: Final = re.compile(rb"#\s*ratectl:")
_FORM: Final = re.compile(
    r"#\s*ratectl:\s*ignore\s+(?P<codes>RC[0-9]{3}(?:\s*,\s*RC[0-9]{3})*)(?![\w,])", re.IGNORECASE
)
_BREAK: Final = re.compile(r"\r\n|\n|\r")
_FAMILY: Final = "RC3"
_WRITE: Final = "write # ratectl: ignore RC304, with the codes of warnings"


@dataclass(slots=True)
class _Ignore:
    """Comment of a file: its place, and the codes that it names."""

    span: Span
    codes: tuple[str, ...]
    used: set[str] = field(default_factory=set)


@dataclass(slots=True)
class _FileIgnores:
    """Comments of a file, by the lines that they are for. Of two for one code the first counts."""

    all: list[_Ignore] = field(default_factory=list)
    by_line: dict[tuple[int, str], _Ignore] = field(default_factory=dict)
    by_document: dict[tuple[int, str], _Ignore] = field(default_factory=dict)
    """By the first line of the document."""
    documents: list[int] = field(default_factory=list)
    """First lines of the documents."""

    def ignores(self, finding: Diagnostic) -> bool:
        """Return True if a comment ignores the finding, and note that it is used."""
        if finding.severity == "error" or not finding.code.startswith(_FAMILY):
            return False
        line, code = finding.span.line, finding.code
        ignore = self.by_line.get((line, code))
        if ignore is None and self.documents:
            first = self.documents[bisect_right(self.documents, line) - 1]
            ignore = self.by_document.get((first, code))
        if ignore is not None:
            ignore.used.add(code)
        return ignore is not None


def ignored_by_comments(
    findings: Iterable[Diagnostic], raw: Mapping[str, bytes]
) -> tuple[list[Diagnostic], list[Diagnostic]]:
    """Return the findings that remain, with those about comments, and the ignored ones.

    ``raw``: the bytes of each file. Comments without effect are reported only if no finding is an
    error: an error prevents rules from being applied.
    """
    findings = list(findings)
    files = {name: _file_ignores(name, data) for name, data in raw.items()}
    nothing = _FileIgnores()
    kept: list[Diagnostic] = []
    ignored: list[Diagnostic] = []
    for finding in findings:
        (ignored if files.get(finding.span.file, nothing).ignores(finding) else kept).append(
            finding
        )
    judged = all(finding.severity != "error" for finding in findings)
    for file in files.values():
        problems = (problem for ignore in file.all for problem in _problems(ignore, judged))
        kept += islice(problems, MAX_PROBLEMS)
    return kept, ignored


def _problems(ignore: _Ignore, judged: bool) -> Iterator[Diagnostic]:
    """Yield findings about one comment; ``judged``: every rule was applied."""

    def finding(message: str, hint: str) -> Diagnostic:
        return Diagnostic(codes.IGNORE, message, ignore.span, "warning", hint)

    if not ignore.codes:
        yield finding("the comment cannot be read, so it ignores nothing", _WRITE)
    for code in ignore.codes:
        if code not in codes.CODES:
            yield finding(f"{code} is not a code", "`ratectl rule` lists the codes")
        elif code == codes.IGNORE or not code.startswith(_FAMILY):
            what = "findings about comments" if code == codes.IGNORE else "errors"
            yield finding(f"{code} cannot be ignored: {what} never are", "correct what it reports")
        elif judged and code not in ignore.used:
            yield finding(
                f"there is no finding {code} here to ignore",
                "delete the comment, or put it on the line of the finding",
            )


def _file_ignores(name: str, data: bytes) -> _FileIgnores:
    found = _FileIgnores()
    if not _IN_BYTES.search(data):
        return found
    try:
        text = data.decode("utf-8-sig")
        comments = comments_of(text)
    except (UnicodeDecodeError, yaml.YAMLError, RecursionError):
        return found  # the file has errors
    lines = [0, *(match.end() for match in _BREAK.finditer(text))]
    cuts = _cuts(comments)
    found.documents = [bisect_right(lines, cut) for cut in cuts]
    for comment in comments.comments:
        if not _OURS.match(comment.text):
            continue
        line = bisect_right(lines, comment.start)
        column = comment.start - lines[line - 1] + 1
        match = _FORM.match(comment.text)
        names = tuple(re.split(r"\s*,\s*", match["codes"].upper())) if match else ()
        ignore = _Ignore(Span(name, line, column, column + len(comment.text)), names)
        found.all.append(ignore)
        if text[lines[line - 1] : comment.start].strip():
            target, place = found.by_line, line
        else:
            target, place = _target(comment, comments, cuts, lines, found)
        for code in names:
            target.setdefault((place, code), ignore)
    return found


def _target(
    comment: Comment, comments: Comments, cuts: list[int], lines: list[int], found: _FileIgnores
) -> tuple[dict[tuple[int, str], _Ignore], int]:
    """Return the index for a comment on a line of its own, and the line to file it under."""
    contents = comments.contents
    document = bisect_right(cuts, comment.start) - 1
    before = bisect_right(contents, comment.start)
    if not before or contents[before - 1] < cuts[document]:
        return found.by_document, found.documents[document]
    below = contents[before] if before < len(contents) else None
    if below is None or bisect_right(cuts, below) - 1 != document:
        return found.by_line, 0  # nothing stands below it
    return found.by_line, bisect_right(lines, below)


def _cuts(comments: Comments) -> list[int]:
    """Return the positions at which the documents begin.

    Text above the first marker belongs to the first document, if it holds only comments.
    """
    markers, contents = comments.documents, comments.contents
    if markers and contents and contents[0] > markers[0]:
        markers = markers[1:]
    return [0, *markers]
