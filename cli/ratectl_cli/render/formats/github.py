"""Findings as workflow commands, which GitHub Actions shows as annotations in the pull request.

GitHub shows ten annotations of each kind for a step, so errors come first; ``summary`` lists all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ratectl.runtime.wording import printable
from ratectl_cli.render.formats.places import explained, relative, uri_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ratectl.diagnostics import Diagnostic

__all__ = ["summary", "workflow_commands"]

_MOST_IN_SUMMARY: Final = 1_000
"""GitHub refuses a summary over one mebibyte."""

_MARKUP: Final = frozenset("\\`*_[]<>|&~#@")


def workflow_commands(findings: Iterable[Diagnostic]) -> str:
    """Return one command for finding finding, errors first."""
    ordered = sorted(findings, key=lambda finding: finding.severity != "error")
    return "".join(f"{_command(finding)}\n" for finding in ordered)


def summary(findings: Sequence[Diagnostic], headline: str) -> str:
    """Return the findings as a Markdown table, for the summary of a workflow's step."""
    ordered = sorted(findings, key=lambda finding: finding.severity != "error")[:_MOST_IN_SUMMARY]
    lines = [f"### ratectl validate: {_cell(headline)}", ""]
    if ordered:
        lines += ["| Place | Finding |", "| --- | --- |"]
    for finding in ordered:
        text = f"{finding.severity} {finding.code}: {explained(finding, between=' - ')}"
        lines.append(f"| {_cell(str(finding.span))} | {_cell(text)} |")
    if len(ordered) < len(findings):
        lines += ["", f"and {len(findings) - len(ordered)} more"]
    return "\n".join(lines) + "\n\n"


def _command(finding: Diagnostic) -> str:
    span = finding.span
    properties: dict[str, str] = {}
    if uri_path(span.file) is not None:
        properties["file"] = relative(span.file)
        if span.line:
            properties |= {"line": str(span.line), "col": str(span.column)}
            properties |= {"endLine": str(span.line), "endColumn": str(span.end_column)}
    properties["title"] = f"ratectl {finding.code}"
    listed = ",".join(f"{name}={_property(value)}" for name, value in properties.items())
    return f"::{finding.severity} {listed}::{_data(explained(finding))}"


def _data(text: str) -> str:
    """Escape the text after the second ``::``, where some characters would end the command."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def _cell(text: str) -> str:
    """Return text for a table cell, without markup for Markdown or HTML."""
    return "".join(f"&#{ord(mark)};" if mark in _MARKUP else mark for mark in printable(text))
