"""The known word that a wrong one is probably meant to be, for hints."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["closest"]

_LONGEST: Final = 64
"""Letters of the longest word that is compared: comparing takes quadratic time."""


def closest(word: str, known: Iterable[str], alike: float = 0.6) -> str | None:
    """Return the known word that was probably meant, or None; ``alike``: how similar, 0 to 1."""
    if len(word) > _LONGEST:
        return None
    return next(iter(difflib.get_close_matches(word, list(known), 1, alike)), None)
