"""Templates: files that must be rendered before they are YAML. One finding explains all others."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from ratectl.diagnostics import Diagnostic, Span
from ratectl.policy import codes
from ratectl.policy.yaml.text import shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

__all__ = ["holds_template", "template_finding"]

_RENDER: Final = "render the template first, then run ratectl on the result"
_ENGINES: Final = (
    # A mapping in two pairs of braces is a mistake of another kind.
    (
        re.compile(r"\{\{(?!\s*[\w-]+: )[^{}]*\}\}"),
        "a template of Helm or Jinja",
        _RENDER,
    ),
    (re.compile(r"\{%.*?(?:%\}|$)"), "a template of Jinja", _RENDER),
    (
        re.compile(r"\$\{[A-Za-z_][^{}]*\}"),
        "a variable",
        "replace the variables first, for example with envsubst, then run ratectl on the result",
    ),
)
_COMMENT: Final = re.compile(r"\s*#|.*?\s#(?!.*[\"'])")


class _Mark(NamedTuple):
    line: int
    column: int
    end_column: int
    text: str
    what: str
    hint: str


def template_finding(
    findings: Iterable[Diagnostic], lines: Sequence[str], file: str
) -> Diagnostic | None:
    """Return the one finding for a file of which a template causes an error; None for others.

    A file that is valid as it is may contain such parts in its texts.
    """
    for finding in sorted(findings, key=lambda finding: finding.sort_key):
        if finding.severity != "error" or not 0 < finding.span.line <= len(lines):
            continue
        for mark in _marks(lines[finding.span.line - 1], finding.span.line):
            if _caused_by(finding, mark):
                message = f"{shown(mark.text)} is {mark.what}: ratectl reads only plain YAML"
                span = Span(file, mark.line, mark.column, mark.end_column)
                return Diagnostic(codes.TEMPLATE, message, span, hint=mark.hint)
    return None


def holds_template(text: str) -> bool:
    """Return True for a text with a part that a template engine or a shell would replace."""
    return any(pattern.search(text) for pattern, _, _ in _ENGINES)


def _caused_by(finding: Diagnostic, mark: _Mark) -> bool:
    if finding.code == codes.SYNTAX:
        return True
    span = finding.span
    return span.column < mark.end_column and mark.column < span.end_column


def _marks(line: str, number: int) -> Iterator[_Mark]:
    if len(line) > 1_000 or _COMMENT.match(line):
        return
    for pattern, what, hint in _ENGINES:
        for match in pattern.finditer(line):
            yield _Mark(number, match.start() + 1, match.end() + 1, match[0], what, hint)
