"""A terminal that shows a live view, and usage to show."""

from __future__ import annotations

import fcntl
import os
import re
import select
import struct
import termios
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cli_support import PROGRAM, limit_report
from terminal_support import Terminal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ratectl.records import LimitReport

__all__ = ["LiveTerminal", "detailed"]

LINE = re.compile(r"\x1b\[(\d+);1H(.*?)(?=\x1b\[\d+;1H|\x1b\[\?1049|\Z)", re.DOTALL)
STYLE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def detailed(scope: str, limit: str, **changes: Any) -> LimitReport:
    """Counts of a limit as agents of this version report them."""
    values: dict[str, Any] = {
        "near_keys": 3,
        "rates": [20.0, 16.0, 12.0],
        "refused_rates": [2.0, 1.0, 0.5],
        "trend": [(900 + at, 60, at / 20) for at in range(15)],
        "busiest": [("acme", 7000, 0, 0.71), ("zeta", 2000, 40, None)],
        "top_refused": [("acme", 500), ("zeta", 100)],
    }
    report = limit_report(scope, limit, **{**values, **changes})
    return replace(report, traffic=report.allowed + report.refused + report.never)


class LiveTerminal(Terminal):
    """A terminal with a size, whose screen can be read."""

    def __init__(
        self, *words: str, width: int = 80, height: int = 24, program: Sequence[str] = PROGRAM
    ) -> None:
        super().__init__(*words, size=(height, width), program=program)
        self._lines: dict[int, str] = {}
        self._read_to = 0
        self._height = height

    def resize(self, width: int, height: int) -> None:
        fcntl.ioctl(self.screen, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
        self._lines.clear()
        self._height = height

    def lines(self) -> list[str]:
        """The lines that are shown now."""
        new = self.seen[self._read_to :]
        found = list(LINE.finditer(new))
        for line in found[:-1]:  # the last one may be incomplete
            self._lines[int(line[1])] = STYLE.sub("", line[2]).rstrip()
        if found:
            self._read_to += found[-1].start()
            self._lines[int(found[-1][1])] = STYLE.sub("", found[-1][2]).rstrip()
        return [self._lines.get(at + 1, "") for at in range(self._height)]

    def until(self, shows: str | Callable[[list[str]], object], seconds: float = 20.0) -> list[str]:
        """Wait until the screen shows a text, or satisfies a condition; return its lines."""
        deadline = time.monotonic() + seconds
        while True:
            lines = self.lines()
            if any(shows in line for line in lines) if isinstance(shows, str) else shows(lines):
                return lines
            left = deadline - time.monotonic()
            assert left > 0, f"{shows!r} was not shown:\n" + "\n".join(lines)
            if select.select([self.screen], [], [], left)[0]:
                self.seen += os.read(self.screen, 65536).decode(errors="replace")

    def kill(self) -> None:
        """End the process, if it runs."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def end(self, key: str = "") -> int:
        """Type a key, wait for the end, and check that the terminal is as it was before."""
        if key:
            self.type(key)
        timer = threading.Timer(20, self.kill)
        timer.start()
        code = self.finish()
        timer.cancel()
        assert self.after == self.before
        _, viewed, view = self.seen.rpartition("\x1b[?1049h")
        _, left, rest = view.partition("\x1b[?1049l")
        assert left or not viewed, "the usual screen is back"
        assert "\x1b[?25h" in rest or not viewed, "the cursor is back"
        return code
