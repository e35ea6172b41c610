"""Text that is safe in the Markdown of GitHub and GitLab."""

from __future__ import annotations

import html
from typing import Final

__all__ = ["code", "escaped", "small"]

_MARKS: Final = "|`*_[]~@\\"
"""Characters that Markdown may interpret, and @, which notifies people."""


def code(text: str | None) -> str:
    """Return HTML code, because the text may contain backquotes; empty for empty text."""
    return f"<code>{escaped(text)}</code>" if text else ""


def small(text: str) -> str:
    """Return a line of its own in a cell; empty for empty text."""
    return f"<br><sub>{escaped(text)}</sub>" if text else ""


def escaped(text: str) -> str:
    """Return the text on one line, without markup."""
    safe = html.escape(" ".join(text.split()))
    for character in _MARKS:
        safe = safe.replace(character, f"&#{ord(character)};")
    return safe
