"""Phrases that messages share."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["joined", "listed", "percent", "printable"]


def listed(names: Sequence[object], at_most: int) -> str:
    """Return ``a, b and 3 more``: at most so many names, and the number of the others."""
    more = len(names) - at_most
    return ", ".join(map(str, names[:at_most])) + (f" and {more} more" if more > 0 else "")


def joined(words: Sequence[str], last: str = "and") -> str:
    """Return ``a, b and c``: all words, with ``last`` before the last one."""
    return f" {last} ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))


def percent(use: float) -> str:
    """Return the use of a bucket, 0 to 1, as ``93%``; only a full one has 100%."""
    return f"{min(use, 0.99) if use < 1 else 1:.0%}"


def printable(text: str) -> str:
    r"""Return a text with visible escapes (``\u202e``) of what could deceive or is no character.

    Names, messages and keys come from other people. ``isprintable`` is false for control, format
    (bidirectional, zero-width) and line-separating characters, and for lone surrogates: what could
    control a terminal, or look like another line.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
