"""Signals that ask a command to end, heard as Ctrl-C is."""

from __future__ import annotations

import signal
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

__all__ = ["Terminated", "ended_by_signals"]

_PATIENCE: Final = 1.0
"""Seconds for which a second signal is the same wish: `timeout` and other wrappers send two."""


class Terminated(KeyboardInterrupt):
    """A signal asked the command to end: SIGTERM, say. Whoever minds Ctrl-C minds it too."""

    def __init__(self, number: int) -> None:
        self.exit_code = 128 + number
        super().__init__(f"ended by signal {number}")


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Let a polite kill end the body as Ctrl-C does: once, so that it can tidy up.

    A later signal ends the process at once.

    What is ignored stays so (`nohup`).

    :raises Terminated: where the signal comes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    first: float | None = None

    def end(number: int, _frame: FrameType | None) -> None:
        nonlocal first
        if first is None:
            first = time.monotonic()
            raise Terminated(number)
        if time.monotonic() - first > _PATIENCE:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    heard = [
        each
        for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(each) not in (signal.SIG_IGN, None)
    ]
    before = {each: signal.signal(each, end) for each in heard}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
