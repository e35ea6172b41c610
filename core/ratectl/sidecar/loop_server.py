"""A server of the sidecar's methods on asyncio, in a thread of its own."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from resource import RLIM_INFINITY, RLIMIT_NOFILE, getrlimit
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, cast

from ratectl.agent.log import log
from ratectl.runtime.address import Address, remove_socket
from ratectl.sidecar.certificate import FileCertificate
from ratectl.sidecar.http2 import GrpcConnection, answer_of, run_here
from ratectl.sidecar.methods import INTERNAL, UNAVAILABLE, CallError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from ratectl.agent.serving.tls import Tls
    from ratectl.sidecar.http2 import Answer, Answering
    from ratectl.sidecar.methods import Method

__all__ = ["LoopServer"]

_MOST_CONNECTIONS: Final = 10_000
_FEW: Final = 100
_OTHER_FILES: Final = 100
"""Files that the process may need for other things."""
_MOST_WAITING: Final = 1_000
"""Calls that wait for a thread, or in one."""
_MOST_THREADS: Final = 16
_LONGEST_CALL: Final = 90.0
"""Seconds that a connection may have open calls of which none ends."""
_LONGEST_IDLE: Final = 3_600.0
"""Seconds that a connection may be open without a call."""
_LONGEST: Final = 86_400.0
"""Seconds until callers are told to connect again, so that they meet new sidecars."""
_LONGEST_HANDSHAKE: Final = 10.0
_LAST_MOMENT: Final = 0.5
_LOOK_EVERY: Final = 1.0


class LoopServer:
    """Listens until it is closed.

    Methods that may wait run in threads; all others in the loop's own.
    """

    def __init__(
        self,
        methods: Mapping[str, Method],
        address: Address,
        tls: Tls | None,
        waiting: Collection[str],
        may_wait: Callable[[], bool],
    ) -> None:
        """Listen.

        :param waiting: paths of methods that may wait for somebody.
        :param may_wait: whether they may do so now.
        :raises UsageError: the address or a certificate cannot be used.
        """
        self._certificate = None if tls is None else FileCertificate(tls, "--rls")
        self._methods = {path: _guarded(method) for path, method in methods.items()}
        self._may_wait_for = {self._methods[path] for path in waiting}
        self._may_wait = may_wait
        self._connections: dict[_Connection, None] = {}
        """The oldest first."""
        self._waiting = 0
        """Calls that wait for a thread, or in one."""
        self._closing = threading.Lock()
        self._threads = ThreadPoolExecutor(_MOST_THREADS, "ratectl-rls")
        self._listener = address.listen()
        self._loop = asyncio.new_event_loop()
        self._stopped = False
        self._most = _most_connections()
        self.address = address
        self._file = os.lstat(address.path) if address.path else None
        if not address.path:
            self.address = Address(address.host, self._listener.getsockname()[1])
        serving = self._loop.create_server(
            lambda: _Connection(self),
            sock=self._listener,
            ssl=None if self._certificate is None else self._certificate.context,
            ssl_handshake_timeout=None if self._certificate is None else _LONGEST_HANDSHAKE,
        )
        self._server = self._loop.run_until_complete(serving)
        self._thread = threading.Thread(target=self._serve, name="ratectl-rls", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._look()
        self._loop.run_forever()
        self._loop.close()

    def close(self, grace: float) -> None:
        """Take no more calls; wait at most ``grace`` seconds for those that are being answered."""
        with self._closing:
            if self._stopped:
                return
            self._stopped = True
            if self._file is not None:  # while it is in use: then no other server can have it
                remove_socket(self.address.path, self._file)
            try:
                asyncio.run_coroutine_threadsafe(self._drain(grace), self._loop).result()
            finally:
                self._threads.shutdown(wait=False, cancel_futures=True)
                self._loop.call_soon_threadsafe(self._loop.stop)
                self._thread.join()

    def in_child(self) -> None:
        """Leave addresses and connections to the parent: a forked child has no such thread."""
        self._stopped = True
        self._listener.close()
        for connection in self._connections:
            connection.in_child()

    async def _drain(self, grace: float) -> None:
        until = monotonic() + grace
        self._loop.remove_reader(self._listener)
        # Connections that were accepted just now: asyncio cannot begin them after the server's end.
        beginning = asyncio.all_tasks() - {asyncio.current_task()}
        if beginning:
            _, pending = await asyncio.wait(beginning, timeout=_LAST_MOMENT)
            for task in pending:
                task.cancel()
        self._server.close()
        for connection in list(self._connections):
            connection.drain()
        while self._connections and monotonic() < until:
            await asyncio.sleep(0.01)
        for connection in list(self._connections):
            connection.abort()
        await asyncio.sleep(0)  # the sockets close in the next round of the loop

    # Connections --------------------------------------------------------------------------------

    def join(self, connection: _Connection) -> None:
        """Take note of a new connection; the oldest one that has ended no call makes room for it.

        If all have, the oldest without an open call does.
        """
        if len(self._connections) >= self._most:
            silent = (each for each in self._connections if not each.ended)
            idle = (each for each in self._connections if not each.calls)
            next(silent, next(idle, connection)).abort()
        self._connections[connection] = None
        if self._stopped:
            connection.drain()

    def leave(self, connection: _Connection) -> None:
        """Forget a connection that has ended."""
        self._connections.pop(connection, None)

    def _look(self) -> None:
        """End what has lasted too long; follow the certificate's files."""
        self._loop.call_later(_LOOK_EVERY, self._look)
        now = monotonic()
        if self._certificate is not None:
            self._certificate.has_changed()
        for connection in list(self._connections):
            connection.look(now)

    def connection(self, answered_later: Callable[[], None]) -> GrpcConnection:
        """Return what speaks HTTP/2 on one connection."""

        def run(method: Method, message: bytes, answering: Answering) -> None:
            if method not in self._may_wait_for or not self._may_wait():
                run_here(method, message, answering)
            elif self._waiting >= _MOST_WAITING:
                answering(CallError(UNAVAILABLE, "too many calls wait"))
            else:
                self._waiting += 1
                work = partial(_answer_if_wanted, method, message, answering)
                future = self._loop.run_in_executor(self._threads, work)
                future.add_done_callback(partial(done, answering))

        def done(answering: Answering, future: asyncio.Future[Answer | None]) -> None:
            self._waiting -= 1
            answer = None if future.cancelled() else future.result()
            if answer is not None:
                answering(answer)
                answered_later()

        return GrpcConnection(self._methods, run)


def _most_connections() -> int:
    files = getrlimit(RLIMIT_NOFILE)[0]
    if files == RLIM_INFINITY:
        return _MOST_CONNECTIONS
    most = min(_MOST_CONNECTIONS, max(files - _OTHER_FILES, files // 4, 1))
    if most < _FEW:
        log.warning("this process may have %d files open: %d connections at a time", files, most)
    return most


def _answer_if_wanted(method: Method, message: bytes, answering: Answering) -> Answer | None:
    """Return the answer; None if the peer has given the call up before it was its turn."""
    return answer_of(method, message) if answering.is_wanted else None


def _guarded(method: Method) -> Method:
    """Return a method whose failures end a call, and not the connection."""

    def guarded(message: bytes) -> bytes:
        try:
            return method(message)
        except CallError:
            raise
        except Exception:  # noqa: BLE001  Envoy decides what a failure means
            log.exception("a call of the sidecar failed")
            raise CallError(INTERNAL, "the limiter failed: see its log") from None

    return guarded


class _Connection(asyncio.Protocol):
    """The socket of one connection."""

    _transport: asyncio.Transport

    def __init__(self, server: LoopServer) -> None:
        self._server = server
        self._http2 = server.connection(self._flush)
        self._began = self._moved = monotonic()
        self._ended = 0
        self._is_draining = False

    @property
    def calls(self) -> int:
        """Calls that are open."""
        return self._http2.calls

    @property
    def ended(self) -> int:
        """Calls that have ended."""
        return self._http2.ended

    def in_child(self) -> None:
        """Close the socket, which the parent has as well."""
        found: Any = self._transport.get_extra_info("socket")
        if found is not None:
            found._sock.close()  # noqa: SLF001  a transport ends in its loop, which is not here

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        found: Any = transport.get_extra_info("socket")
        if found is not None and found.family != socket.AF_UNIX:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._server.join(self)
        self._flush()

    def data_received(self, data: bytes) -> None:
        self._http2.feed(data)
        self._flush()

    def connection_lost(self, _error: Exception | None) -> None:
        self._http2.is_over = True
        self._server.leave(self)

    # A peer that does not read its answers is not read, either.

    def pause_writing(self) -> None:
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        with suppress(RuntimeError):  # it is being closed
            self._transport.resume_reading()

    def _flush(self) -> None:
        data = self._http2.to_send()
        if data:
            self._transport.write(data)
        if self._http2.is_over:
            self._transport.close()

    def drain(self) -> None:
        """Tell the peer to make its next calls elsewhere."""
        self._is_draining = True
        self._http2.drain()
        self._flush()

    def abort(self) -> None:
        """End the connection at once."""
        self._http2.is_over = True
        self._transport.abort()

    def look(self, now: float) -> None:
        """End the connection if it has lasted too long."""
        if self._http2.ended != self._ended:
            self._ended, self._moved = self._http2.ended, now
        if now - self._moved > (_LONGEST_CALL if self.calls else _LONGEST_IDLE):
            self.abort()
        elif now - self._began > _LONGEST and not self._is_draining:
            self.drain()
