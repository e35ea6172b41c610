"""Findings that comments ignore: ``# ratectl: ignore RC304``.

Errors cannot be ignored, and a comment that ignores nothing is a finding itself.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Final

import yaml

from ratectl.diagnostics import Diagnostic, Span
from ratectl.policy import codes
from ratectl.policy.yaml.ignores import IgnoreComment, ignores_of, may_ignore
from ratectl.policy.yaml.text import MAX_PROBLEMS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

__all__ = ["ignored_by_comments"]

_FAMILY: Final = "RC3"
_WRITE: Final = "write # ratectl: ignore RC304, RC310 (why), with the codes of warnings"


@dataclass(slots=True)
class _Ignore:
    """Comment of a file, and the codes of the findings that it ignores."""

    file: str
    comment: IgnoreComment
    used: set[str] = field(default_factory=set)

    @property
    def span(self) -> Span:
        """The place of the comment."""
        line, column = self.comment.line, self.comment.column
        return Span(self.file, line, column, column + len(self.comment.text))


@dataclass(slots=True)
class _FileIgnores:
    """Comments of a file, by the lines that they are for. Of two for one code the first counts."""

    all: list[_Ignore] = field(default_factory=list)
    by_line: dict[tuple[int, str], _Ignore] = field(default_factory=dict)
    by_document: dict[tuple[int, str], _Ignore] = field(default_factory=dict)
    """By the first line of the document."""
    documents: Sequence[int] = ()
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

    if problem := ignore.comment.problem:
        yield finding(f"the comment ignores nothing: {problem}", _WRITE)
    for code in ignore.comment.codes:
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
    if not may_ignore(data):
        return found
    try:
        ignores = ignores_of(data.decode("utf-8-sig"))
    except (UnicodeDecodeError, yaml.YAMLError, RecursionError):
        return found  # the file has errors
    found.documents = ignores.documents
    for comment in ignores.comments:
        ignore = _Ignore(name, comment)
        found.all.append(ignore)
        for code in comment.codes:
            if comment.target is None:
                found.by_document.setdefault((comment.document, code), ignore)
            else:
                found.by_line.setdefault((comment.target, code), ignore)
    return found
