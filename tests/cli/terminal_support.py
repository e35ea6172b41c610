"""Run the command line on a pseudo-terminal, and type answers."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import time

from cli_support import PROGRAM

__all__ = ["Terminal"]


class Terminal:
    """A process on a terminal of its own."""

    def __init__(self, *words: str) -> None:
        self.screen, inner = pty.openpty()
        self.process = subprocess.Popen(
            [*PROGRAM, *words], stdin=inner, stdout=inner, stderr=inner, start_new_session=True
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
        os.close(self.screen)
        return code

    def type(self, text: str) -> None:
        os.write(self.screen, text.encode())

    def _read(self) -> str:
        return os.read(self.screen, 65536).decode()
