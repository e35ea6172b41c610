"""Unified diffs of texts, as `git diff` writes them and `git apply` reads them."""

from __future__ import annotations

import difflib
import os
import re
from typing import Final

__all__ = ["painted_diff", "unified_diff"]

_LINE: Final = re.compile(r"[^\n]*\n|[^\n]+")
"""Line as Git counts them: other line ends are characters of it."""

_COLOURS: Final = {"+": "32", "-": "31", "@": "36"}


def unified_diff(path: str, before: str, after: str) -> str:
    """Return the difference of two versions of a file; empty if there is none.

    ``path``: from the top of the work tree.
    """
    old, new = _quoted(f"a/{path}"), _quoted(f"b/{path}")
    end = "\t" if " " in path else ""  # as Git ends names with spaces
    changes = difflib.unified_diff(
        _LINE.findall(before), _LINE.findall(after), f"{old}{end}", f"{new}{end}"
    )
    lines = [
        line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"
        for line in changes
    ]
    return "".join([f"diff --git {old} {new}\n", *lines]) if lines else ""


def _quoted(path: str) -> str:
    """Return a path as Git writes it: in quotes, if it has characters that are not visible."""
    escaped = "".join(map(_escaped, path))
    return path if escaped == path else f'"{escaped}"'


def _escaped(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    if character.isprintable():
        return character
    return "".join(f"\\{byte:03o}" for byte in os.fsencode(character))


def painted_diff(diff: str, *, colour: bool) -> str:
    """Return a diff with added and removed lines in colour."""
    if not colour:
        return diff
    return "".join(map(_painted, _LINE.findall(diff)))


def _painted(line: str) -> str:
    code = "1" if line.startswith(("diff ", "+++ ", "--- ")) else _COLOURS.get(line[:1])
    text = line.rstrip("\n")
    return f"\x1b[{code}m{text}\x1b[0m\n" if code else line
