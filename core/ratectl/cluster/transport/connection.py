"""One connection to a peer: its socket, TLS, and the bytes on their way."""

from __future__ import annotations

import errno
import os
import socket
import ssl
from collections import deque
from contextlib import suppress
from enum import Enum
from selectors import EVENT_READ, EVENT_WRITE
from typing import TYPE_CHECKING, Final

from ratectl.cluster.transport.frames import Frames
from ratectl.cluster.transport.identity import why_wrong_user

if TYPE_CHECKING:
    from ratectl.cluster.transport.counters import Counters
    from ratectl.runtime.address import Address

__all__ = ["Connection", "Lost", "Stage", "Unwelcome", "connect"]

_CHUNK: Final = 65_536
"""Most bytes that are read or sent at once."""
_MOST_BEFORE_HELLO: Final = 4_096
"""Most bytes of the first frame."""
_NO_SIGNAL: Final = getattr(socket, "MSG_NOSIGNAL", 0)
"""The application may have set SIGPIPE to its default, which ends the process."""


class Lost(Exception):
    """Raised when a connection is of no use any more."""


class Unwelcome(Exception):
    """Raised when this member refuses the peer. The peer is told why."""


class Stage(Enum):
    """State of a connection, in the order of time."""

    CONNECTING = 1
    SHAKING_HANDS = 2
    """Both sides begin TLS."""
    GREETING = 3
    """The peer has not said hello yet."""
    OPEN = 4
    CLOSED = 5


def connect(address: Address) -> socket.socket:
    """Return a socket that connects, or has connected. It never waits.

    :raises OSError: the address cannot be reached, or names a host: only IP addresses are
        possible, because looking up a name takes time.
    """
    if address.path:
        family, where = socket.AF_UNIX, address.path
    else:
        numeric = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
        family, _, _, _, where = socket.getaddrinfo(  # type: ignore[assignment]
            address.host, address.port, type=socket.SOCK_STREAM, flags=numeric
        )[0]
    connection = socket.socket(family, socket.SOCK_STREAM)
    try:
        connection.setblocking(False)
        connection.connect(where)
    except BlockingIOError as error:
        if error.errno != errno.EINPROGRESS:  # the queue of a Unix socket is full
            connection.close()
            raise
    except BaseException:
        connection.close()
        raise
    return connection


class Connection:
    """A stream of frames to and from one peer.

    Each side sends its hello at once; other frames follow without waiting for the peer's.

    :param address: where this member connected to. None: the peer connected.
    :param most_queued: bytes of frames that may wait while the peer does not read. One frame may
        always wait.
    """

    def __init__(
        self,
        link: socket.socket,
        address: Address | None,
        tls: ssl.SSLContext | None,
        hello: bytes,
        counters: Counters,
        *,
        most_queued: int,
        now: float,
    ) -> None:
        self.socket = link
        self.descriptor = link.fileno()
        self.address = address
        self.stage = Stage.CONNECTING
        self.peer = ""
        """Name of the peer, after its hello."""
        self.since = self.heard_at = now
        self.frames = Frames(_MOST_BEFORE_HELLO)
        self.watched = 0
        """Events that the selector waits for."""
        self._awaited = EVENT_READ
        """Event for which the handshake of TLS waits."""
        self._tls = tls
        self._counters = counters
        self._most_queued = most_queued
        self._out = bytearray(hello)
        self._sent = 0
        self._ends: deque[int] = deque()
        """Where each frame ends that waits, in bytes since the connection began."""

    # Beginning ----------------------------------------------------------------------------------

    def advance(self) -> bool:
        """Take the next steps until frames can be sent. Return False if the peer is awaited.

        :raises Lost: the connection or TLS failed.
        :raises Unwelcome: the peer runs as another user.
        """
        if self.stage is Stage.CONNECTING:
            if not self._has_connected():
                return False
            self._begin()
        if self.stage is Stage.SHAKING_HANDS:
            assert isinstance(self.socket, ssl.SSLSocket)
            try:
                self.socket.do_handshake()
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as wait:
                wants_write = isinstance(wait, ssl.SSLWantWriteError)
                self._awaited = EVENT_WRITE if wants_write else EVENT_READ
                return False
            except (OSError, ValueError) as error:
                raise Lost(f"TLS failed: {_told(error)}") from None
            self.stage = Stage.GREETING
        return True

    def _has_connected(self) -> bool:
        problem = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if problem:
            raise Lost(f"no connection: {os.strerror(problem)}")
        try:
            self.socket.getpeername()
        except OSError as error:
            if error.errno == errno.ENOTCONN and self.address is not None:
                return False
            raise Lost(f"no connection: {_told(error)}") from None
        return True

    def _begin(self) -> None:
        """Check the user of a Unix socket, or begin TLS."""
        if self.socket.family == socket.AF_UNIX:
            if (reason := why_wrong_user(self.socket)) is not None:
                raise Unwelcome(reason)
            self.stage = Stage.GREETING
            return
        assert self._tls is not None
        try:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.socket = self._tls.wrap_socket(
                self.socket,
                server_side=self.address is None,
                do_handshake_on_connect=False,
                server_hostname=None if self.address is None else self.address.host,
            )
        except (OSError, ValueError) as error:
            raise Lost(f"TLS failed: {_told(error)}") from None
        self.stage = Stage.SHAKING_HANDS

    # Frames -------------------------------------------------------------------------------------

    def greeted(self, peer: str, most: int) -> None:
        """Take over the peer's name. From now on its frames may have ``most`` bytes."""
        self.peer, self.stage, self.frames.most = peer, Stage.OPEN, most

    def push(self, frame: bytes) -> bool:
        """Send a frame, or let it wait. Return False if too much is waiting: it is dropped.

        :raises Lost: the peer has closed the connection.
        """
        if self._out and self._ends and len(self._out) + len(frame) > self._most_queued:
            return False
        self._out += frame
        self._ends.append(self._sent + len(self._out))
        self.flush()
        return True

    def flush(self) -> None:
        """Send what is waiting, as much as the peer takes now.

        :raises Lost: the peer has closed the connection.
        """
        if self.stage not in (Stage.GREETING, Stage.OPEN):
            return
        while self._out:
            sent = self._send()
            if not sent:
                break
            del self._out[:sent]
            self._sent += sent
            self._counters.bytes_sent += sent
        while self._ends and self._ends[0] <= self._sent:
            self._ends.popleft()
            self._counters.sent += 1

    def _send(self) -> int:
        try:
            with memoryview(self._out)[:_CHUNK] as part:
                if isinstance(self.socket, ssl.SSLSocket):
                    return self.socket.send(part)
                return self.socket.send(part, _NO_SIGNAL)
        except (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return 0
        except (OSError, ValueError) as error:
            raise Lost(f"the connection broke: {_told(error)}") from None

    def fill(self, now: float) -> bool:
        """Read the next bytes. Return False if there are none now.

        :raises Lost: the peer has closed the connection.
        """
        try:
            chunk = self.socket.recv(_CHUNK)
        except (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return False
        except (OSError, ValueError) as error:
            raise Lost(f"the connection broke: {_told(error)}") from None
        if not chunk:
            raise Lost("the peer has closed the connection")
        self.heard_at = now
        self._counters.bytes_received += len(chunk)
        self.frames.feed(chunk)
        return True

    @property
    def holds_more(self) -> bool:
        """Return True if TLS has bytes that the selector does not know of."""
        return isinstance(self.socket, ssl.SSLSocket) and self.socket.pending() > 0

    @property
    def wanted(self) -> int:
        """Return the events that the selector should wait for."""
        if self.stage is Stage.CONNECTING:
            return EVENT_WRITE
        if self.stage is Stage.SHAKING_HANDS:
            return self._awaited
        return EVENT_READ | EVENT_WRITE if self._out else EVENT_READ

    # End ----------------------------------------------------------------------------------------

    def say_farewell(self, frame: bytes) -> None:
        """Send a last frame, if the peer takes it now."""
        self._out += frame
        with suppress(Lost):
            self.flush()

    def close(self) -> int:
        """End the connection; return how many frames were not sent."""
        with suppress(OSError):
            # The peer must see the end although a child process may hold the descriptor.
            self.socket.shutdown(socket.SHUT_RDWR)
        self.abandon()
        return len(self._ends)

    def abandon(self) -> None:
        """Close the descriptor. The connection goes on if another process holds it."""
        self.stage = Stage.CLOSED
        with suppress(OSError):
            self.socket.close()


def _told(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    if isinstance(error, ssl.SSLError):
        return error.reason or str(error)
    return (isinstance(error, OSError) and error.strerror) or str(error)
