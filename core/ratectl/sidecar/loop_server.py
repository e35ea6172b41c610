"""A server on asyncio, in a thread of its own: addresses, connections and their ends.

The loop is uvloop's where that is installed: it takes less CPU for each call.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from resource import RLIM_INFINITY, RLIMIT_NOFILE, getrlimit
from time import monotonic
from typing import TYPE_CHECKING, Final

from ratectl.agent.log import log
from ratectl.sidecar.listener import Listener
from ratectl.sidecar.waiting_calls import WaitingCalls

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ratectl.sidecar.listener import Endpoint

__all__ = ["LoopServer"]

_MOST_CONNECTIONS: Final = 10_000
_FEW: Final = 100
_OTHER_FILES: Final = 100
"""Files that the process may need for other things."""
_LAST_MOMENT: Final = 0.5
_LOOK_EVERY: Final = 1.0


class LoopServer:
    """Listens on all endpoints until it is closed."""

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        """Listen.

        :raises UsageError: an address or a certificate cannot be used.
        """
        self._ending: asyncio.Task[None] | None = None
        self._loop = _new_loop()
        self._waiting = WaitingCalls(self._loop)
        self.listeners: list[Listener] = []
        """One for each endpoint, in their order."""
        most = _most_connections() // len(endpoints)
        try:
            for endpoint in endpoints:
                self.listeners.append(Listener(endpoint, self._loop, self._waiting, most))
        except BaseException:
            for listener in self.listeners:
                listener.remove_file()
                listener.stop_listening()
            self._loop.close()
            raise
        self._thread = threading.Thread(target=self._serve, name="ratectl-sidecar", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._look()
        self._loop.run_forever()
        self._waiting.close()
        self._loop.close()

    def _look(self) -> None:
        self._loop.call_later(_LOOK_EVERY, self._look)
        now = monotonic()
        for listener in self.listeners:
            listener.look(now)

    def end(self, grace: float) -> None:
        """Take no more calls, and end when those that are being answered have ended, in at most
        ``grace`` seconds. Returns at once; safe to repeat, anywhere.
        """
        for listener in self.listeners:
            listener.remove_file()  # while it is in use: then no other server can have it
        with suppress(RuntimeError):  # it has ended
            self._loop.call_soon_threadsafe(self._end_once, grace)

    def wait(self) -> None:
        """Wait for the end, but not in the server's own thread, where a finalizer may run."""
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def in_child(self) -> None:
        """Leave addresses and connections to the parent: a forked child has no such thread."""
        for listener in self.listeners:
            listener.in_child()

    def _end_once(self, grace: float) -> None:
        if self._ending is None:
            self._ending = self._loop.create_task(self._end(grace))

    async def _end(self, grace: float) -> None:
        try:
            await self._drain(grace)
        finally:
            self._loop.stop()

    async def _drain(self, grace: float) -> None:
        until = monotonic() + grace
        for listener in self.listeners:
            listener.accept_the_last()
        connections = [each for listener in self.listeners for each in listener.connections]
        if connections:
            await asyncio.wait([each.beginning for each in connections], timeout=_LAST_MOMENT)
        for listener in self.listeners:
            listener.drain()
        while any(listener.connections for listener in self.listeners) and monotonic() < until:
            await asyncio.sleep(0.01)
            for listener in self.listeners:
                listener.look(monotonic())
        for listener in self.listeners:
            listener.abort()
        if connections:
            await asyncio.wait([each.beginning for each in connections], timeout=_LAST_MOMENT)
        await asyncio.sleep(0)  # the sockets close in the next round of the loop


def _most_connections() -> int:
    files = getrlimit(RLIMIT_NOFILE)[0]
    if files == RLIM_INFINITY:
        return _MOST_CONNECTIONS
    most = min(_MOST_CONNECTIONS, max(files - _OTHER_FILES, files // 4, 1))
    if most < _FEW:
        log.warning("this process may have %d files open: %d connections at a time", files, most)
    return most


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ModuleNotFoundError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()
