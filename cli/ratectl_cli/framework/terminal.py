"""Abilities of an output stream (colour, width, Unicode), and text that is safe to show."""

from __future__ import annotations

import os
import shutil
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TextIO

__all__ = ["Stream", "cells", "pad", "safe"]

_PLAIN: Final = str.maketrans(
    {"→": "->", "·": "-", "✂": "clipped by", "█": "#", "░": ".", "…": "...", "●": "*", "×": "x"}
)
"""Replacements of our symbols for encodings that lack them."""


def safe(text: str) -> str:
    """Escape characters that could control a terminal, break a line or deceive.

    Names, messages and keys come from other people. ``isprintable`` is false for control, format
    (bidirectional, zero-width) and line-separating characters.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def cells(text: str) -> int:
    """Return the columns that printable text takes on a terminal."""
    if text.isascii():
        return len(text)
    width = 0
    for character in text:
        if unicodedata.category(character) in ("Mn", "Me", "Cf"):
            continue
        width += 2 if unicodedata.east_asian_width(character) in "WF" else 1
    return width


def pad(text: str, width: int, *, right: bool = False) -> str:
    """Return the text, aligned in a column of ``width``."""
    space = " " * (width - cells(text))
    return space + text if right else text + space


@dataclass(frozen=True, slots=True)
class Stream:
    """Standard output or error; one may be a pipe and the other a terminal."""

    file: TextIO
    terminal: bool
    """True for a terminal: tables, progress and questions are useful."""
    colour: bool
    symbols: bool
    """True if the encoding has more than ASCII."""

    @classmethod
    def of(cls, file: TextIO, colour: str, environ: Mapping[str, str] = os.environ) -> Stream:
        """Inspect a stream; ``colour`` is ``auto``, ``always`` or ``never``."""
        dumb = environ.get("TERM") == "dumb"
        terminal = file.isatty() and not dumb
        encoding = (getattr(file, "encoding", None) or "").lower().replace("-", "")
        return cls(file, terminal, _coloured(colour, environ, terminal), encoding == "utf8")

    @property
    def width(self) -> int:
        """Columns of the terminal."""
        return shutil.get_terminal_size().columns

    def write(self, text: str) -> None:
        """Write text that is safe to show; see ``safe``.

        Characters that the encoding lacks are written as escapes.
        """
        if not self.symbols:
            text = text.translate(_PLAIN)
            encoding = getattr(self.file, "encoding", None) or "ascii"
            text = text.encode(encoding, "backslashreplace").decode(encoding)
        self.file.write(text)


def _coloured(choice: str, environ: Mapping[str, str], terminal: bool) -> bool:
    if choice != "auto":
        return choice == "always"
    if environ.get("NO_COLOR"):
        return False
    if environ.get("CLICOLOR_FORCE", "0") not in ("", "0"):
        return True
    return terminal and environ.get("CLICOLOR") != "0"
