"""Forks of a process that uses gRPC: shut gRPC down before the fork, start it again after.

gRPC does not survive a fork while it is active: children aborted or hung, whatever the value of
GRPC_ENABLE_FORK_SUPPORT. It survives when it is shut down, and it shuts down when its last channel
is closed. So before any ``os.fork`` (also that of ``multiprocessing``; ``subprocess`` does not call
it) this module waits for the calls under way, closes streams and channels, and waits until gRPC's
threads have ended. The parent connects again with its next call, and its watches continue without
an ``Interrupted``. The child cannot use inherited stores and opens its own.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import weakref
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["GATE", "Gate"]

DRAIN_SECONDS: Final = 5.0
"""Longest wait of a fork for calls under way."""


SHUTDOWN_SECONDS: Final = 0.3
"""Longest wait of a fork for gRPC's threads: other users of gRPC may keep them running."""

_THREADS: Final = ("event_engine", "grpc_", "lifeguard", "default-executo", "resolver-execut")


class Suspendable(Protocol):
    """An owner of a stream or a channel."""

    def suspend(self) -> None:
        """Close it before a fork."""


class Gate:
    """Counts calls that use gRPC, and holds new ones back while the process forks."""

    def __init__(self) -> None:
        self._open = threading.Condition()
        self._calls = 0
        self._forks = 0
        self._mine = threading.local()
        self._streams: weakref.WeakSet[Suspendable] = weakref.WeakSet()
        self._links: weakref.WeakSet[Suspendable] = weakref.WeakSet()
        self._armed = False

    def add_stream(self, stream: Suspendable) -> None:
        """Register an open stream, to be closed before a fork."""
        with self._open:
            self._streams.add(stream)
            self._arm()

    def add_link(self, link: Suspendable) -> None:
        """Register an open channel, to be closed before a fork, after the streams."""
        with self._open:
            self._links.add(link)
            self._arm()

    @contextmanager
    def passing(self) -> Iterator[None]:
        """Surround a short use of gRPC; wait while the process forks."""
        depth = getattr(self._mine, "depth", 0)
        with self._open:
            self._open.wait_for(lambda: depth or not self._forks)
            self._calls += 1
        self._mine.depth = depth + 1
        try:
            yield
        finally:
            self._mine.depth = depth
            with self._open:
                self._calls -= 1
                self._open.notify_all()

    def _arm(self) -> None:
        """Register the fork handlers once, after gRPC has registered its own.

        The handler registered last is called first before a fork. gRPC registers with its first
        channel (if its fork support is on). To close channels after gRPC's handler would hang.
        """
        if not self._armed and hasattr(os, "register_at_fork"):
            self._armed = True
            os.register_at_fork(
                before=self.before_fork,
                after_in_parent=self.after_fork_in_parent,
                after_in_child=self.after_fork_in_child,
            )

    def before_fork(self) -> None:
        """Hold new calls back, wait for those under way, close streams and channels."""
        with self._open:
            self._forks += 1
            self._open.wait_for(lambda: not self._calls, DRAIN_SECONDS)
            parts = [*self._streams, *self._links]
        for part in parts:
            part.suspend()
        del parts
        _wait_for_shutdown()

    def after_fork_in_parent(self) -> None:
        """Let calls through again."""
        with self._open:
            self._forks -= 1
            self._open.notify_all()

    def after_fork_in_child(self) -> None:
        """Start with fresh locks and counts: the parent's other threads do not exist here."""
        self.__init__()  # type: ignore[misc]
        self._armed = True


def _wait_for_shutdown() -> None:
    """Wait until gRPC's threads have ended, which they do when its last channel is closed.

    Then a fork cannot interrupt gRPC, whether or not the fork handlers of its version work.
    """
    tasks = Path("/proc/self/task")
    end = time.monotonic() + SHUTDOWN_SECONDS
    while time.monotonic() < end:
        time.sleep(0.001)
        with contextlib.suppress(OSError):  # a thread ended meanwhile
            names = [(task / "comm").read_text() for task in tasks.iterdir()]
            if not any(name.startswith(_THREADS) for name in names):
                return


GATE: Final = Gate()
