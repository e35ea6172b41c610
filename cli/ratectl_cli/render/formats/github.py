"""Workflow commands: GitHub Actions shows each as an annotation in the pull request.

Of each kind GitHub shows ten for a step, so errors come first; ``summary`` is for the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ratectl_cli.framework.terminal import safe
from ratectl_cli.render.formats.places import explained, relative, uri_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ratectl.diagnostics import Diagnostic

__all__ = ["summary", "workflow_commands"]

_MOST_IN_SUMMARY: Final = 1_000
"""GitHub refuses a summary over one mebibyte."""

_MARKUP: Final = frozenset("\\`*_[]<>|&~#@")


def workflow_commands(found: Iterable[Diagnostic]) -> str:
    """One command for each finding, errors first."""
    ordered = sorted(found, key=lambda each: each.severity != "error")
    return "".join(f"{_command(each)}\n" for each in ordered)


def summary(found: Sequence[Diagnostic], headline: str) -> str:
    """All findings as a Markdown table, for the summary of a workflow's step."""
    ordered = sorted(found, key=lambda each: each.severity != "error")[:_MOST_IN_SUMMARY]
    lines = [f"### ratectl validate: {_cell(headline)}", ""]
    if ordered:
        lines += ["| Place | Finding |", "| --- | --- |"]
    for each in ordered:
        text = f"{each.severity} {each.code}: {explained(each, between=' - ')}"
        lines.append(f"| {_cell(str(each.span))} | {_cell(text)} |")
    if len(ordered) < len(found):
        lines += ["", f"and {len(found) - len(ordered)} more"]
    return "\n".join(lines) + "\n\n"


def _command(found: Diagnostic) -> str:
    span = found.span
    properties: dict[str, str] = {}
    if uri_path(span.file) is not None:
        properties["file"] = relative(span.file)
        if span.line:
            properties |= {"line": str(span.line), "col": str(span.column)}
            properties |= {"endLine": str(span.line), "endColumn": str(span.end_column)}
    properties["title"] = f"ratectl {found.code}"
    listed = ",".join(f"{name}={_property(value)}" for name, value in properties.items())
    return f"::{found.severity} {listed}::{_data(explained(found))}"


def _data(text: str) -> str:
    """What may stand behind the second ``::``: anything else would end the command."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def _cell(text: str) -> str:
    """Text in a table, with nothing in it that Markdown or HTML would act on."""
    return "".join(f"&#{ord(mark)};" if mark in _MARKUP else mark for mark in safe(text))
