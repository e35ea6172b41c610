"""The whole screen of a terminal, for views that are drawn again and again. Rich draws."""

from __future__ import annotations

import contextlib
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NamedTuple

from rich.console import Console, Group
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ratectl_cli.framework.terminal import Stream

__all__ = ["Screen", "Size", "full_screen"]

_USUAL_HEIGHT: Final = 24


class Size(NamedTuple):
    """Columns and lines of a terminal."""

    width: int
    height: int


class Screen:
    """A terminal that shows one view and nothing else."""

    def __init__(self, stream: Stream, console: Console) -> None:
        self._stream = stream
        self._console = console
        self.closed = False
        """True once the terminal has gone."""

    @property
    def size(self) -> Size:
        """Size of the terminal now."""
        return _size_of(self._stream)

    def draw(self, lines: Sequence[str], size: Size) -> None:
        """Replace the view; lines that are too many or too long are cut."""
        self._console.size = size
        texts = (Text.from_ansi(line, no_wrap=True, overflow="crop") for line in lines)
        try:
            self._console.update_screen(Group(*texts))
        except OSError:
            self.closed = True


@contextmanager
def full_screen(stream: Stream) -> Iterator[Screen]:
    """Use the terminal's alternate screen; restore the usual one afterwards."""
    console = Console(
        file=stream.file,
        force_terminal=True,
        color_system="standard",
        no_color=not stream.colour,
        highlight=False,
    )
    try:
        console.set_alt_screen(True)
        console.show_cursor(False)
        yield Screen(stream, console)
    finally:
        with contextlib.suppress(OSError):  # the terminal has gone
            console.set_alt_screen(False)
            console.show_cursor(True)


def _size_of(stream: Stream) -> Size:
    """Return the size that the terminal has now. COLUMNS and LINES do not follow changes."""
    try:
        width, height = os.get_terminal_size(stream.file.fileno())
    except OSError:  # the terminal does not tell
        width = height = 0
    return Size(width or stream.width or 1, height or _USUAL_HEIGHT)
