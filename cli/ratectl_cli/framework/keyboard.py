"""Keys that are pressed on a terminal, one at a time."""

from __future__ import annotations

import codecs
import contextlib
import os
import re
import select
import termios
import tty
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TextIO

__all__ = ["Keyboard", "keyboard", "split_keys"]

_CONTROLS: Final = {
    "\r": "enter", "\n": "enter", "\x7f": "backspace", "\b": "backspace", "\x1b": "escape",
}  # fmt: skip
_SEQUENCES: Final = {
    "A": "up", "B": "down", "C": "right", "D": "left", "H": "home", "F": "end",
    "1~": "home", "4~": "end", "7~": "home", "8~": "end", "5~": "pageup", "6~": "pagedown",
}  # fmt: skip
_SEQUENCE: Final = re.compile(r"\x1b(?:\[([0-9;]*[A-Za-z~])|O([A-Z]))")
_UNFINISHED: Final = re.compile(r"\x1b(?:\[[0-9;]*|O)?\Z")
_ESCAPE_SECONDS: Final = 0.05
"""After this time an escape is the key Esc, and not the start of an arrow."""

_BYTES: Final = 4096
_CONTROL: Final = 6
"""Position of the control characters in the attributes of a terminal."""


def split_keys(text: str) -> tuple[list[str], str]:
    """Return the keys in what a terminal sends, and an unfinished sequence at its end.

    Names such as ``up`` and ``enter``, or the character. Other sequences and control characters
    are left out.
    """
    rest = _UNFINISHED.search(text)
    end = rest.start() if rest else len(text)
    keys, at = [], 0
    while at < end:
        sequence = _SEQUENCE.match(text, at, end)
        if sequence:
            keys.append(_SEQUENCES.get(sequence[1] or sequence[2], ""))
            at = sequence.end()
        else:
            letter = text[at]
            keys.append(_CONTROLS.get(letter, letter if letter.isprintable() else ""))
            at += 1
    return [key for key in keys if key], text[end:]


class Keyboard:
    """Keys of a terminal that sends each one at once."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""
        self.closed = False
        """True once the terminal has gone."""

    def keys(self, seconds: float) -> list[str]:
        """Return the keys that are pressed; wait for one so long at most."""
        if self._rest:
            seconds = _ESCAPE_SECONDS
        if not select.select([self._descriptor], [], [], seconds)[0]:
            alone, self._rest = self._rest, ""
            return ["escape"] if alone == "\x1b" else []
        try:
            data = os.read(self._descriptor, _BYTES)
        except OSError:
            data = b""
        self.closed = not data
        found, self._rest = split_keys(self._rest + self._decoder.decode(data))
        return found


@contextmanager
def keyboard(file: TextIO) -> Iterator[Keyboard]:
    """Let a terminal send keys at once and without echo; restore it afterwards.

    Ctrl-C still interrupts. Ctrl-Z and Ctrl-\\ do nothing: they would leave the terminal as it is.
    """
    descriptor = file.fileno()
    before = termios.tcgetattr(descriptor)
    try:
        tty.setcbreak(descriptor, termios.TCSANOW)
        attributes = termios.tcgetattr(descriptor)
        for key in (termios.VSUSP, termios.VQUIT):
            attributes[_CONTROL][key] = b"\0"
        termios.tcsetattr(descriptor, termios.TCSANOW, attributes)
        yield Keyboard(descriptor)
    finally:
        with contextlib.suppress(termios.error):  # the terminal has gone
            termios.tcflush(descriptor, termios.TCIFLUSH)
            termios.tcsetattr(descriptor, termios.TCSANOW, before)
