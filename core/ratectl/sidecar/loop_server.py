"""A server on asyncio, in a thread of its own: addresses, connections and their ends.

A ``Speaker`` speaks on a connection: HTTP/2 for Envoy, HTTP/1 for others.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from contextlib import suppress
from resource import RLIM_INFINITY, RLIMIT_NOFILE, getrlimit
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, cast

from ratectl.agent.log import log
from ratectl.agent.serving.certificate import FileCertificate
from ratectl.runtime.address import Address, remove_socket
from ratectl.sidecar.waiting_calls import WaitingCalls

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ratectl.agent.serving.tls import Tls

__all__ = ["Endpoint", "LoopServer", "Speaker"]

_MOST_CONNECTIONS: Final = 10_000
_FEW: Final = 100
_OTHER_FILES: Final = 100
"""Files that the process may need for other things."""
_LONGEST: Final = 86_400.0
"""Seconds until callers are told to connect again, so that they meet new sidecars."""
_LONGEST_DEAF: Final = 90.0
"""Seconds that a peer may leave its answers unread."""
_LONGEST_HANDSHAKE: Final = 10.0
_BACKLOG: Final = 1_024
"""Connections that wait to be accepted: a burst of new ones must not wait for a second attempt."""
_LAST_MOMENT: Final = 0.5
_LOOK_EVERY: Final = 1.0


class Speaker(Protocol):
    """Protocol of one connection: turns bytes that arrive into bytes to send."""

    is_over: bool
    """True if the connection should be closed, after the bytes are sent."""
    ended: int
    """Calls that have ended."""

    @property
    def calls(self) -> int:
        """Calls that are open."""

    @property
    def patience(self) -> float:
        """Seconds that the connection may stay as it is."""

    @property
    def state(self) -> object:
        """Value that changes with every progress."""

    @property
    def is_mute(self) -> bool:
        """True if nothing more will be sent, though the peer may still send."""

    def feed(self, data: bytes) -> None:
        """Take bytes that have arrived. They may be wrong in any way."""

    def to_send(self) -> bytes:
        """Return the bytes to send."""

    def end_of_input(self) -> bool:
        """Take note that the peer sends no more. Return True if answers are still to come."""

    def drain(self) -> None:
        """Tell the peer to make its next calls elsewhere."""


class Endpoint(NamedTuple):
    """An address, and what is spoken there."""

    name: str
    """Option of the command line that names the address, without its dashes."""
    address: Address
    tls: Tls | None
    protocol: str
    """Name of the protocol in TLS."""
    speaker: Callable[[WaitingCalls, Callable[[], None]], Speaker]
    """Makes the speaker of a connection; its second argument sends what a later answer adds."""


class LoopServer:
    """Listens on all endpoints until it is closed."""

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        """Listen.

        :raises UsageError: an address or a certificate cannot be used.
        """
        self._closing = threading.Lock()
        self._stopped = False
        self._loop = asyncio.new_event_loop()
        self._waiting = WaitingCalls(self._loop)
        self.listeners: list[Listener] = []
        """One for each endpoint, in their order."""
        most = _most_connections() // len(endpoints)
        try:
            for endpoint in endpoints:
                self.listeners.append(Listener(endpoint, self._loop, self._waiting, most))
        except BaseException:
            for listener in self.listeners:
                listener.stop_listening()
            self._loop.run_until_complete(asyncio.sleep(0))
            self._loop.close()
            raise
        self._thread = threading.Thread(target=self._serve, name="ratectl-sidecar", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._look()
        self._loop.run_forever()
        self._loop.close()

    def _look(self) -> None:
        self._loop.call_later(_LOOK_EVERY, self._look)
        now = monotonic()
        for listener in self.listeners:
            listener.look(now)

    def close(self, grace: float) -> None:
        """Take no more calls; wait at most ``grace`` seconds for those that are being answered."""
        with self._closing:
            if self._stopped:
                return
            self._stopped = True
            for listener in self.listeners:
                listener.remove_file()  # while it is in use: then no other server can have it
            try:
                asyncio.run_coroutine_threadsafe(self._drain(grace), self._loop).result()
            finally:
                self._waiting.close()
                self._loop.call_soon_threadsafe(self._loop.stop)
                self._thread.join()

    def in_child(self) -> None:
        """Leave addresses and connections to the parent: a forked child has no such thread."""
        self._stopped = True
        for listener in self.listeners:
            listener.in_child()

    async def _drain(self, grace: float) -> None:
        until = monotonic() + grace
        for listener in self.listeners:
            listener.accept_no_more()
        # Connections that were accepted just now: asyncio cannot begin them after the server's end.
        beginning = asyncio.all_tasks() - {asyncio.current_task()}
        if beginning:
            _, pending = await asyncio.wait(beginning, timeout=_LAST_MOMENT)
            for task in pending:
                task.cancel()
        for listener in self.listeners:
            listener.drain()
        while any(listener.connections for listener in self.listeners) and monotonic() < until:
            await asyncio.sleep(0.01)
            for listener in self.listeners:
                listener.look(monotonic())
        for listener in self.listeners:
            listener.abort()
        await asyncio.sleep(0)  # the sockets close in the next round of the loop


class Listener:
    """One address, and its connections."""

    def __init__(
        self, endpoint: Endpoint, loop: asyncio.AbstractEventLoop, waiting: WaitingCalls, most: int
    ) -> None:
        """Listen.

        :param most: connections that may be open.
        :raises UsageError: the address or the certificate cannot be used.
        """
        tls = endpoint.tls
        self._certificate = (
            None if tls is None else FileCertificate(tls, f"--{endpoint.name}", endpoint.protocol)
        )
        self._speaker = endpoint.speaker
        self._loop = loop
        self._waiting = waiting
        self._most = most
        self._is_draining = False
        self.connections: dict[_Connection, None] = {}
        """The oldest first."""
        address = endpoint.address
        self._socket = address.listen()
        self._file = os.lstat(address.path) if address.path else None
        if not address.path:
            address = Address(address.host, self._socket.getsockname()[1])
        self.address = address
        serving = loop.create_server(
            lambda: _Connection(self),
            sock=self._socket,
            backlog=_BACKLOG,
            ssl=None if self._certificate is None else self._certificate.context,
            ssl_handshake_timeout=None if self._certificate is None else _LONGEST_HANDSHAKE,
        )
        self._server = loop.run_until_complete(serving)

    # Connections --------------------------------------------------------------------------------

    def speaker(self, flush: Callable[[], None]) -> Speaker:
        """Return what speaks on a new connection."""
        return self._speaker(self._waiting, flush)

    def join(self, connection: _Connection) -> None:
        """Take note of a new connection; the oldest one that has ended no call makes room for it.

        If all have, the oldest without an open call does.
        """
        if len(self.connections) >= self._most:
            silent = (each for each in self.connections if not each.speaker.ended)
            idle = (each for each in self.connections if not each.speaker.calls)
            next(silent, next(idle, connection)).abort()
        self.connections[connection] = None
        if self._is_draining:
            connection.drain()

    def leave(self, connection: _Connection) -> None:
        """Forget a connection that has ended."""
        self.connections.pop(connection, None)

    def look(self, now: float) -> None:
        """End what has lasted too long; follow the certificate's files."""
        if self._certificate is not None:
            self._certificate.has_changed()
        for connection in list(self.connections):
            connection.look(now)

    # Ends ---------------------------------------------------------------------------------------

    def stop_listening(self) -> None:
        """Give the address back."""
        self.remove_file()
        self._server.close()

    def remove_file(self) -> None:
        """Remove the file of a Unix socket."""
        if self._file is not None:
            remove_socket(self.address.path, self._file)

    def accept_no_more(self) -> None:
        """Leave new connections in the queue of the system."""
        self._loop.remove_reader(self._socket)

    def drain(self) -> None:
        """Tell all peers to make their next calls elsewhere."""
        self._is_draining = True
        self._server.close()
        for connection in list(self.connections):
            connection.drain()

    def abort(self) -> None:
        """End all connections at once."""
        for connection in list(self.connections):
            connection.abort()

    def in_child(self) -> None:
        """Leave the address and the connections to the parent."""
        self._socket.close()
        for connection in self.connections:
            connection.in_child()


def _most_connections() -> int:
    files = getrlimit(RLIMIT_NOFILE)[0]
    if files == RLIM_INFINITY:
        return _MOST_CONNECTIONS
    most = min(_MOST_CONNECTIONS, max(files - _OTHER_FILES, files // 4, 1))
    if most < _FEW:
        log.warning("this process may have %d files open: %d connections at a time", files, most)
    return most


class _Connection(asyncio.Protocol):
    """The socket of one connection."""

    _transport: asyncio.Transport

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self.speaker = listener.speaker(self._flush)
        self._began = self._moved = monotonic()
        self._state: object = None
        self._is_draining = False
        self._is_deaf = False

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
        self._listener.join(self)
        self._flush()

    def data_received(self, data: bytes) -> None:
        self.speaker.feed(data)
        self._flush()

    def eof_received(self) -> bool:
        awaits = self.speaker.end_of_input() and self._transport.can_write_eof()  # not with TLS
        self._flush()
        return awaits

    def connection_lost(self, _error: Exception | None) -> None:
        self.speaker.is_over = True
        self._listener.leave(self)

    # A peer that does not read its answers is not read, either.

    def pause_writing(self) -> None:
        self._is_deaf = True
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._is_deaf = False
        with suppress(RuntimeError):  # it is being closed
            self._transport.resume_reading()

    def _flush(self) -> None:
        data = self.speaker.to_send()
        if data:
            self._transport.write(data)
        if self.speaker.is_over or (self.speaker.is_mute and not self._transport.can_write_eof()):
            self._transport.close()
        elif self.speaker.is_mute and not self._transport.is_closing():
            self._transport.write_eof()

    def drain(self) -> None:
        """Tell the peer to make its next calls elsewhere."""
        self._is_draining = True
        self.speaker.drain()
        self._flush()

    def abort(self) -> None:
        """End the connection at once."""
        self.speaker.is_over = True
        self._transport.abort()

    def look(self, now: float) -> None:
        """End the connection if it has lasted too long."""
        state = self.speaker.state, self._is_deaf
        if state != self._state:
            self._state, self._moved = state, now
        patience = _LONGEST_DEAF if self._is_deaf else self.speaker.patience
        if now - self._moved > patience:
            self.abort()
        elif now - self._began > _LONGEST and not self._is_draining:
            self.drain()
