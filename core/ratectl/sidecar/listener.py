"""An address of the sidecar's server, and the connections that come there."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Final, NamedTuple

from ratectl.agent.log import log
from ratectl.agent.serving.certificate import FileCertificate
from ratectl.runtime.address import Address, remove_socket
from ratectl.sidecar.loop_connection import Connection, leave_to_parent

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from ratectl.agent.serving.tls import Tls
    from ratectl.sidecar.loop_connection import Speaker
    from ratectl.sidecar.waiting_calls import WaitingCalls

__all__ = ["Endpoint", "Listener"]

_BACKLOG: Final = 1_024
"""Connections that wait to be accepted: a burst of new ones must not wait for a second attempt."""
_PAUSE: Final = 1.0
"""Seconds until the next attempt when the system has no more files or memory."""


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
        self.connections: dict[Connection, None] = {}
        """All that were accepted and have not ended, the oldest first."""
        address = endpoint.address
        self._socket = address.listen()
        self._file = os.lstat(address.path) if address.path else None
        if not address.path:
            address = Address(address.host, self._socket.getsockname()[1])
        self.address = address
        self._socket.listen(_BACKLOG)
        self._socket.setblocking(False)
        self._accepts = True
        loop.add_reader(self._socket, self._accept)

    # Connections --------------------------------------------------------------------------------

    def _accept(self) -> bool:
        """Accept a connection; return False if none waits, or none can be accepted.

        One in a turn of the loop: when the next one comes, this one has begun.
        """
        try:
            opened, _ = self._socket.accept()
        except BlockingIOError:
            return False
        except (InterruptedError, ConnectionAbortedError):
            return True  # its caller has gone
        except OSError as error:
            log.warning("%s: no connection can be accepted: %s", self.address, error)
            self._loop.remove_reader(self._socket)
            self._loop.call_later(_PAUSE, self._accept_again)
            return False
        if opened.family != socket.AF_UNIX:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._make_room()
        connection = Connection(opened, self)
        self.connections[connection] = None
        certificate = self._certificate
        connection.begin(self._loop, None if certificate is None else certificate.context)
        return True

    def _accept_again(self) -> None:
        if self._accepts:
            self._loop.add_reader(self._socket, self._accept)

    def _make_room(self) -> None:
        """End connections until there is room for one: the oldest that has ended no call, of which
        one in its handshake is one; if all have, the oldest without an open call.
        """
        while len(self.connections) >= self._most:
            silent = (each for each in self.connections if not each.speaker.ended)
            idle = (each for each in self.connections if not each.speaker.calls)
            ending = next(silent, None) or next(idle, None)
            if ending is None:
                return
            ending.abort()
            self.leave(ending)

    def speaker(self, flush: Callable[[], None]) -> Speaker:
        """Return what speaks on a new connection."""
        return self._speaker(self._waiting, flush)

    def leave(self, connection: Connection) -> None:
        """Forget a connection that has ended."""
        self.connections.pop(connection, None)

    def look(self, now: float) -> None:
        """End what has lasted too long; follow the certificate's files."""
        if self._certificate is not None:
            self._certificate.has_changed()
        for connection in list(self.connections):
            connection.look(now)

    # Ends ---------------------------------------------------------------------------------------

    def remove_file(self) -> None:
        """Remove the file of a Unix socket."""
        if self._file is not None:
            remove_socket(self.address.path, self._file)

    def accept_the_last(self) -> None:
        """Accept what waits, and give the address back."""
        while self._accept():
            pass
        self.stop_listening()

    def stop_listening(self) -> None:
        """Give the address back."""
        self._accepts = False
        self._loop.remove_reader(self._socket)
        self._socket.close()

    def drain(self) -> None:
        """Tell all peers to make their next calls elsewhere."""
        for connection in list(self.connections):
            connection.drain()

    def abort(self) -> None:
        """End all connections at once."""
        for connection in list(self.connections):
            connection.abort()

    def in_child(self) -> None:
        """Leave the address and the connections to the parent."""
        for shared in (self._socket, *(each.socket for each in self.connections)):
            leave_to_parent(shared)
