"""Signals that ask a command to end."""

from __future__ import annotations

import signal
import threading
import time
from contextlib import contextmanager
from queue import SimpleQueue
from typing import TYPE_CHECKING, Final

from ratectl_cli.errors import Terminated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import FrameType

__all__ = ["ended_by_signals", "waiting_for_signals"]

_PATIENCE: Final = 1.0
"""Seconds in which a second signal counts as the same request."""


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """End the body by SIGTERM and SIGHUP as by Ctrl-C: once, so that it can clean up.

    Signals that are ignored stay ignored (`nohup`).

    :raises Terminated: where the signal arrives.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int) -> None:
        raise Terminated(number)

    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    handled = [
        number for number in signals if signal.getsignal(number) not in (signal.SIG_IGN, None)
    ]
    with _handling(handled, end):
        yield


@contextmanager
def waiting_for_signals() -> Iterator[Callable[[], int]]:
    """Yield a function that waits for SIGTERM or Ctrl-C, and returns the signal's number."""
    # Not an Event: a handler that sets one deadlocks if it interrupts a wait.
    received: SimpleQueue[int] = SimpleQueue()
    with _handling((signal.SIGTERM, signal.SIGINT), received.put):
        yield received.get


@contextmanager
def _handling(numbers: Iterable[signal.Signals], first: Callable[[int], object]) -> Iterator[None]:
    """Call ``first`` at the first of these signals; a later signal ends the process at once.

    A second signal within a second is ignored: `timeout` and terminals signal the whole process
    group and wrappers pass the signal on, so one request may arrive twice. The copy may arrive
    after the body has ended, so after a signal the former handlers do not come back.
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

    before = {number: signal.signal(number, on_signal) for number in numbers}
    try:
        yield
    finally:
        if since is None:
            for number, handler in before.items():
                signal.signal(number, handler)
