"""Findings in the forms that other programs read: pure functions from findings to text."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ratectl.diagnostics import Diagnostic, Severity

__all__ = ["FORMATS", "render"]

FORMATS = ("concise", "github", "gitlab", "junit", "sarif")
"""Beside ``full`` and ``json``, which every command speaks."""


def render(
    name: str, found: Sequence[Diagnostic], files: Sequence[str], fail_level: Severity
) -> str:
    """The findings of ``files`` in one of ``FORMATS``, with its last line ended.

    ``fail_level``: the least severity that counts as a failure, where a format knows failures.
    """
    if name == "concise":
        from ratectl_cli.render.formats.concise import concise

        return concise(found)
    if name == "github":
        from ratectl_cli.render.formats.github import workflow_commands

        return workflow_commands(found)
    if name == "gitlab":
        from ratectl_cli.render.formats.gitlab import code_quality

        return code_quality(found)
    if name == "junit":
        from ratectl_cli.render.formats.junit import junit

        return junit(found, files, fail_level)
    if name == "sarif":
        from ratectl_cli.render.formats.sarif import sarif

        return sarif(found)
    raise ValueError(f"{name!r} is not one of {', '.join(FORMATS)}")
