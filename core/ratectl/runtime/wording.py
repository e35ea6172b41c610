"""Phrases that messages share."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["joined", "listed"]


def listed(names: Sequence[object], at_most: int) -> str:
    """Return ``a, b and 3 more``: at most so many names, and the number of the others."""
    more = len(names) - at_most
    return ", ".join(map(str, names[:at_most])) + (f" and {more} more" if more > 0 else "")


def joined(words: Sequence[str], last: str = "and") -> str:
    """Return ``a, b and c``: all words, with ``last`` before the last one."""
    return f" {last} ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))
