"""Unified diffs of texts, as `git apply` reads them."""

from __future__ import annotations

import difflib
from typing import Final

__all__ = ["painted_diff", "unified_diff"]

_COLOURS: Final = {"+": "32", "-": "31", "@": "36"}


def unified_diff(name: str, before: str, after: str) -> str:
    """Return the difference of two versions of a file; empty if there is none."""
    lines = difflib.unified_diff(
        before.splitlines(keepends=True),
        after.splitlines(keepends=True),
        f"a/{name}",
        f"b/{name}",
    )
    return "".join(
        line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines
    )


def painted_diff(diff: str, *, colour: bool) -> str:
    """Return a diff with added and removed lines in colour."""
    if not colour:
        return diff
    return "".join(map(_painted, diff.splitlines(keepends=True)))


def _painted(line: str) -> str:
    code = "1" if line.startswith(("+++ ", "--- ")) else _COLOURS.get(line[:1])
    text = line.rstrip("\n")
    return f"\x1b[{code}m{text}\x1b[0m\n" if code else line
