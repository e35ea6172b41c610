"""Findings in the formats that other programs read: pure functions from findings to text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ratectl_cli.render.formats.concise import concise
from ratectl_cli.render.formats.github import workflow_commands
from ratectl_cli.render.formats.gitlab import code_quality
from ratectl_cli.render.formats.junit import junit
from ratectl_cli.render.formats.sarif import sarif

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ratectl.diagnostics import Diagnostic, Severity

__all__ = ["FORMATS", "render"]

_WRITERS: Final[dict[str, Callable[[Sequence[Diagnostic]], str]]] = {
    "concise": concise,
    "github": workflow_commands,
    "gitlab": code_quality,
    "sarif": sarif,
}

FORMATS: Final = (*_WRITERS, "junit")
"""Formats of findings. ``full`` and ``json`` are forms of every command's result."""


def render(
    name: str, findings: Sequence[Diagnostic], files: Sequence[str], fail_level: Severity
) -> str:
    """Return the findings of ``files`` in one of ``FORMATS``, with a newline at the end.

    ``fail_level``: the least severity that counts as a failure, in a format that has failures.
    """
    if name == "junit":
        return junit(findings, files, fail_level)
    return _WRITERS[name](findings)
