"""Forking with gRPC in the process: let go of it before, begin anew after.

gRPC does not survive a fork while it works: children were seen to abort and to hang, whatever
GRPC_ENABLE_FORK_SUPPORT said. It does once it is shut down, and it shuts down when its last
channel is gone. So before any ``os.fork`` (``multiprocessing``'s too; ``subprocess`` does not fork
in this sense) calls under way are waited for, streams and channels are closed, and gRPC's threads
are seen to end. The parent connects again with its next call, and its watches go on where they
were without an ``Interrupted``. The child cannot use inherited stores and opens its own.
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
"""The longest that a fork waits for calls under way."""


SHUTDOWN_SECONDS: Final = 0.3
"""The longest that a fork waits for gRPC's threads; others in the process may keep them."""

_THREADS: Final = ("event_engine", "grpc_", "lifeguard", "default-executo", "resolver-execut")


class Suspendable(Protocol):
    """What holds streams or channels."""

    def suspend(self) -> None:
        """Close them; they will be needed again after a fork."""


class Gate:
    """Lets calls through, except while the process forks."""

    def __init__(self) -> None:
        self._open = threading.Condition()
        self._calls = 0
        self._forks = 0
        self._mine = threading.local()
        self._streams: weakref.WeakSet[Suspendable] = weakref.WeakSet()
        self._links: weakref.WeakSet[Suspendable] = weakref.WeakSet()
        self._armed = False

    def add_stream(self, stream: Suspendable) -> None:
        """Have an open stream closed before a fork."""
        with self._open:
            self._streams.add(stream)
            self._arm()

    def add_link(self, link: Suspendable) -> None:
        """Have an open channel closed before a fork, after the streams."""
        with self._open:
            self._links.add(link)
            self._arm()

    @contextmanager
    def passing(self) -> Iterator[None]:
        """Around everything that uses gRPC for a moment; waits while the process forks."""
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
        """Have the interpreter call us; once, and not before gRPC has done the same.

        What was registered last is called first before a fork. gRPC registers with its first
        channel (where its fork support is on), and closing channels after its turn would hang.
        """
        if not self._armed and hasattr(os, "register_at_fork"):
            self._armed = True
            os.register_at_fork(
                before=self.before_fork,
                after_in_parent=self.after_fork_in_parent,
                after_in_child=self.after_fork_in_child,
            )

    def before_fork(self) -> None:
        """Let no more calls in, wait for those inside, close everything."""
        with self._open:
            self._forks += 1
            self._open.wait_for(lambda: not self._calls, DRAIN_SECONDS)
            parts = [*self._streams, *self._links]
        for part in parts:
            part.suspend()
        del parts
        _wait_for_shutdown()

    def after_fork_in_parent(self) -> None:
        """Go on."""
        with self._open:
            self._forks -= 1
            self._open.notify_all()

    def after_fork_in_child(self) -> None:
        """Begin anew: the threads that hold locks or count as calls do not exist here."""
        self.__init__()  # type: ignore[misc]
        self._armed = True


def _wait_for_shutdown() -> None:
    """Let gRPC's own threads end, as they do when its last channel is gone.

    After that nothing of gRPC can be caught in the middle by a fork, whether or not its own fork
    handlers work in this version.
    """
    tasks = Path("/proc/self/task")
    end = time.monotonic() + SHUTDOWN_SECONDS
    while time.monotonic() < end:
        time.sleep(0.001)
        with contextlib.suppress(OSError):  # a thread that ends while it is looked at
            names = [(task / "comm").read_text() for task in tasks.iterdir()]
            if not any(name.startswith(_THREADS) for name in names):
                return


GATE: Final = Gate()
