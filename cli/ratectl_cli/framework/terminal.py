"""Abilities of an output stream (colour, width, Unicode), and columns of text."""

from __future__ import annotations

import os
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import TextIO

__all__ = ["Stream", "cells", "clusters"]

_PLAIN: Final = str.maketrans(
    {
        "→": "->", "·": "-", "✂": "clipped by", "█": "#", "░": ".", "…": "...", "●": "*", "×": "x",
        "─": "-", "≤": "<=", "≥": ">=", "±": "+-",
    }
)  # fmt: skip
"""Replacements of our symbols for encodings that lack them."""

_USUAL_WIDTH: Final = 80
_EMOJI_FORM: Final = "\ufe0f"
"""Asks for the picture of the character before it, which is two columns wide."""


def cells(text: str) -> int:
    """Return the columns that printable text takes on a terminal."""
    return len(text) if text.isascii() else sum(width for _, width in clusters(text))


def clusters(text: str) -> Iterator[tuple[str, int]]:
    """Yield characters with the marks that combine with them, and the columns that they take."""
    cluster, width = "", 0
    for character in text:
        if _combines(character):
            cluster += character
            width = 2 if character == _EMOJI_FORM and width else width
            continue
        if cluster:
            yield cluster, width
        cluster, width = character, 2 if unicodedata.east_asian_width(character) in "WF" else 1
    if cluster:
        yield cluster, width


def _combines(character: str) -> bool:
    """Return True if a character takes no column of its own."""
    if character < "\u0300":
        return False
    in_syllable = "\u1160" <= character <= "\u11ff"  # vowels and ends of Hangul syllables
    skin = "\U0001f3fb" <= character <= "\U0001f3ff"  # colours the emoji before it
    return in_syllable or skin or unicodedata.category(character) in ("Mn", "Me", "Cf")


@dataclass(frozen=True, slots=True)
class Stream:
    """Standard output or error; one may be a pipe and the other a terminal."""

    file: TextIO
    terminal: bool
    """True for a terminal: tables, progress and questions are useful."""
    colour: bool
    symbols: bool
    """True if the encoding has more than ASCII."""
    columns: int | None = None
    """Columns to use of the terminal; None for all."""

    @classmethod
    def of(cls, file: TextIO, colour: str, environ: Mapping[str, str] = os.environ) -> Stream:
        """Inspect a stream; ``colour`` is ``auto``, ``always`` or ``never``."""
        dumb = environ.get("TERM") == "dumb"
        terminal = file.isatty() and not dumb
        encoding = (getattr(file, "encoding", None) or "").lower().replace("-", "")
        return cls(file, terminal, _coloured(colour, environ, terminal), encoding == "utf8")

    @property
    def width(self) -> int | None:
        """Columns of the terminal; None if the output is not a terminal, so that nothing is cut."""
        if not self.terminal or self.columns is not None:
            return self.columns
        columns = os.environ.get("COLUMNS", "")
        if columns.isdecimal() and int(columns):
            return int(columns)
        try:
            return os.get_terminal_size(self.file.fileno()).columns or _USUAL_WIDTH
        except OSError:  # the terminal does not tell
            return _USUAL_WIDTH

    def plain(self, text: str) -> str:
        """Return text in characters that the encoding has; it escapes the others."""
        if self.symbols:
            return text
        encoding = getattr(self.file, "encoding", None) or "ascii"
        return text.translate(_PLAIN).encode(encoding, "backslashreplace").decode(encoding)

    def write(self, text: str) -> None:
        """Write text that is safe to show; see ``printable``."""
        self.file.write(self.plain(text))


def _coloured(choice: str, environ: Mapping[str, str], terminal: bool) -> bool:
    if choice != "auto":
        return choice == "always"
    if environ.get("NO_COLOR"):
        return False
    if environ.get("CLICOLOR_FORCE", "0") not in ("", "0"):
        return True
    return terminal and environ.get("CLICOLOR") != "0"
