"""Threads for calls that wait for somebody."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

__all__ = ["Answering", "WaitingCalls"]

_MOST_WAITING: Final = 1_000
"""Calls that wait for a thread, or in one."""
_MOST_THREADS: Final = 16


class Answering(Protocol):
    """A call that is to be answered."""

    @property
    def is_wanted(self) -> bool:
        """True if the peer still waits for the answer."""

    def __call__(self, answer: Any, /) -> None:
        """Send the answer. Only in the thread of the loop."""


class WaitingCalls:
    """Answers calls in threads, and gives the answers to the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._threads = ThreadPoolExecutor(_MOST_THREADS, "ratectl-sidecar")
        self._waiting = 0

    def begin(
        self, work: Callable[[], Any], answering: Answering, sent: Callable[[], None]
    ) -> bool:
        """Answer a call in a thread; return False if too many wait.

        :param work: returns the answer. It is not called if the peer has given the call up.
        :param sent: called after the answer was given to ``answering``.
        """
        if self._waiting >= _MOST_WAITING:
            return False

        def answer() -> Any:
            return work() if answering.is_wanted else None

        def done(future: asyncio.Future[Any]) -> None:
            self._waiting -= 1
            found = None if future.cancelled() else future.result()
            if found is not None:
                answering(found)
                sent()

        self._waiting += 1
        self._loop.run_in_executor(self._threads, answer).add_done_callback(done)
        return True

    def close(self) -> None:
        """Take no more calls, and forget those that wait for a thread."""
        self._threads.shutdown(wait=False, cancel_futures=True)
