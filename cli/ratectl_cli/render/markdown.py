"""Text that is safe in Markdown, as GitHub and GitLab both understand it."""

from __future__ import annotations

import html
from typing import Final

__all__ = ["code", "escaped", "small"]

_MARKS: Final = "|`*_[]~@\\"
"""What Markdown might take for its own, or for somebody to notify."""


def code(text: str | None) -> str:
    """In HTML, as it may hold backquotes; nothing for nothing."""
    return f"<code>{escaped(text)}</code>" if text else ""


def small(text: str) -> str:
    """A line of its own in a cell; nothing for nothing."""
    return f"<br><sub>{escaped(text)}</sub>" if text else ""


def escaped(text: str) -> str:
    """On one line, and none of it markup."""
    safe = html.escape(" ".join(text.split()))
    for character in _MARKS:
        safe = safe.replace(character, f"&#{ord(character)};")
    return safe
