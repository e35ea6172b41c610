"""Signals that ask a command to end."""

from __future__ import annotations

import signal
import threading
import time
from contextlib import contextmanager
from queue import SimpleQueue
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import FrameType

__all__ = ["Terminated", "ended_by_signals", "waiting_for_signals"]

_PATIENCE: Final = 1.0
"""Seconds for which a second signal is the same wish."""


class Terminated(KeyboardInterrupt):
    """A signal asked the command to end: SIGTERM, say. Whoever minds Ctrl-C minds it too."""

    def __init__(self, number: int) -> None:
        self.exit_code = 128 + number
        super().__init__(f"ended by signal {number}")


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Let a polite kill end the body as Ctrl-C does: once, so that it can tidy up.

    What is ignored stays so (`nohup`).

    :raises Terminated: where the signal comes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int) -> None:
        raise Terminated(number)

    wishes = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    heard = [each for each in wishes if signal.getsignal(each) not in (signal.SIG_IGN, None)]
    with _hearing(heard, end):
        yield


@contextmanager
def waiting_for_signals() -> Iterator[Callable[[], int]]:
    """What waits for SIGTERM or Ctrl-C, and returns the number of the signal."""
    # Not an Event: a handler that sets one deadlocks where it interrupts the middle of a wait.
    came: SimpleQueue[int] = SimpleQueue()
    with _hearing((signal.SIGTERM, signal.SIGINT), came.put):
        yield came.get


@contextmanager
def _hearing(numbers: Iterable[signal.Signals], first: Callable[[int], object]) -> Iterator[None]:
    """Do something at the first of these signals; one that comes later ends the process at once.

    Not a second one at the same moment: `timeout` and terminals signal the whole process group,
    wrappers pass the signal on, and so one wish may arrive twice.
    """
    since: float | None = None

    def on_signal(number: int, _frame: FrameType | None) -> None:
        nonlocal since
        if since is None:
            since = time.monotonic()
            first(number)
        elif time.monotonic() - since > _PATIENCE:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    before = {each: signal.signal(each, on_signal) for each in numbers}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
