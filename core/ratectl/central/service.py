"""The server as one process uses it: connections, a breaker, a thread, and the server's clock."""

from __future__ import annotations

import asyncio
import threading
import weakref
from contextlib import suppress
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from ratectl.central.clients import check_installed
from ratectl.central.failure import Breaker
from ratectl.central.keeper import Keeper
from ratectl.central.keys import PREFIX
from ratectl.central.server import TaskServer

if TYPE_CHECKING:
    from collections.abc import Callable

    from ratectl.central.address import ServerAddress

__all__ = ["Service"]

_DEFAULT_PREFIX: Final = "default"


class Service:
    """One server. Thread-safe."""

    def __init__(self, address: ServerAddress, deadline: float, clock: Callable[[], int]) -> None:
        """``deadline``: seconds for one decision. ``clock``: nanoseconds since 1970.

        :raises UsageError: redis-py is not installed.
        """
        check_installed()
        self._address = address
        self._deadline = deadline
        self._clock = clock
        self.problem: Callable[[str | None], object] = _ignored
        """Told of failures, and with None of their end."""
        self.prefix = address.prefix or _DEFAULT_PREFIX
        self._offset_us = 0
        """How far the server's clock is ahead of this machine's, in microseconds."""
        self._inherited: list[object] = []
        """Connections of a parent process: to close them here would end them there."""
        self._closed = False
        self._begin()

    def _begin(self) -> None:
        self.breaker = Breaker(self._changed, self._deadline)
        self.keeper = Keeper(self._address, self._deadline, self.breaker, self.wall_us)
        self._loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, TaskServer] = (
            weakref.WeakKeyDictionary()
        )
        self._changing = threading.Lock()

    def belong_to(self, environment: str | None) -> None:
        """Count for an environment, apart from others, unless the address names a prefix."""
        if self._address.prefix is None and environment:
            usable = PREFIX.fullmatch(environment) is not None
            self.prefix = environment if usable else sha256(environment.encode()).hexdigest()

    def needed(self, is_needed: bool) -> None:
        """Start the thread once there are central limits."""
        if is_needed and not self._closed:
            self.keeper.start(self.prefix)

    def for_tasks(self) -> TaskServer:
        """Return the server for the running event loop."""
        loop = asyncio.get_running_loop()
        server = self._loops.get(loop)
        if server is None:
            with self._changing:
                server = self._loops.setdefault(loop, TaskServer(self._address, self._deadline))
        return server

    def _changed(self, failure: str | None) -> None:
        self.keeper.wake()
        if failure is None:
            self.problem(None)
            return
        self.problem(
            "limits across: redis count in this process alone (its part of each limit), because "
            f"the server fails: {failure}"
        )

    # The server's clock -------------------------------------------------------------------------

    def wall_us(self) -> int:
        """Return about the server's time, in microseconds since 1970."""
        return self._clock() // 1000 + self._offset_us

    def heard(self, now_us: int) -> None:
        """Note the server's time."""
        self._offset_us = now_us - self._clock() // 1000

    # The end ------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close all connections. Decisions go on in this process. Safe to repeat."""
        if self._closed:
            return
        self._closed = True
        self.keeper.close()
        self.breaker.stay_open()
        with self._changing:
            loops = list(self._loops.items())
        for loop, server in loops:
            with suppress(RuntimeError):  # the loop is closed, and so are its connections
                loop.call_soon_threadsafe(_close_in_loop, loop, server)

    def in_child(self) -> None:
        """Begin with new connections in a forked child."""
        self._inherited += [self.keeper, self._loops]
        if not self._closed:
            needed = self.keeper.started
            self._begin()
            self.needed(needed)


def _ignored(_: str | None) -> None:
    """Take no note of a problem."""


def _close_in_loop(loop: asyncio.AbstractEventLoop, server: TaskServer) -> None:
    task = loop.create_task(server.close())
    _closing.add(task)
    task.add_done_callback(_closing.discard)


_closing: set[asyncio.Task[None]] = set()
