"""Run the command line on a pseudo-terminal, and type answers."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from typing import TYPE_CHECKING

from cli_support import PROGRAM

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Terminal"]


class Terminal:
    """A process on a terminal of its own."""

    def __init__(
        self,
        *words: str,
        size: tuple[int, int] | None = None,
        program: Sequence[str] = PROGRAM,
    ) -> None:
        """``size``: lines and columns; the size of a new terminal is unknown otherwise."""
        self.screen, inner = pty.openpty()
        if size is not None:
            fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
        self.before = termios.tcgetattr(inner)
        self.process = subprocess.Popen(
            [*program, *words], stdin=inner, stdout=inner, stderr=inner, start_new_session=True
        )
        os.close(inner)
        self.seen = ""

    def read_until(self, text: str, seconds: float = 10.0) -> str:
        deadline = time.monotonic() + seconds
        while text not in self.seen:
            left = deadline - time.monotonic()
            assert left > 0, f"{text!r} did not appear in {self.seen!r}"
            if select.select([self.screen], [], [], left)[0]:
                self.seen += self._read()
        return self.seen

    def finish(self) -> int:
        while True:
            try:
                more = self._read()
            except OSError:  # Linux: the other end is closed
                break
            if not more:
                break
            self.seen += more
        code = self.process.wait(10)
        self.after = termios.tcgetattr(self.screen)
        os.close(self.screen)
        return code

    def type(self, text: str) -> None:
        os.write(self.screen, text.encode())

    def _read(self) -> str:
        return os.read(self.screen, 65536).decode()
