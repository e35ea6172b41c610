"""A wake-up for one waiting thread, with a time limit that always holds.

``queue.SimpleQueue.get(timeout)`` can wait for ever in CPython 3.11: where a signal handler returns
after the time limit, the time left is negative, which means "no limit" there. Waiting for a
``threading.Lock`` does not have this defect.
"""

from __future__ import annotations

import threading
from contextlib import suppress

__all__ = ["Wakeup"]


class Wakeup:
    """A flag that one thread waits for. ``set`` takes no lock: any thread or handler may call it.

    A flag that was set before ``wait`` ends that wait at once.
    """

    def __init__(self) -> None:
        self._unset = threading.Lock()
        self._unset.acquire()

    def set(self) -> None:
        """Wake the waiting thread, or the next that waits."""
        with suppress(RuntimeError):  # it is set already
            self._unset.release()

    def wait(self, seconds: float) -> bool:
        """Wait until the flag is set, and unset it. Return False after ``seconds`` without."""
        return self._unset.acquire(timeout=min(max(0.0, seconds), threading.TIMEOUT_MAX))
