"""A connection of the sidecar's server on asyncio: from its socket to its end."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Final, Protocol, cast

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Callable

__all__ = ["Connection", "Listening", "Speaker", "leave_to_parent"]

_LONGEST: Final = 86_400.0
"""Seconds until callers are told to connect again, so that they meet new sidecars."""
_LONGEST_HANDSHAKE: Final = 10.0
_LONGEST_DEAF: Final = 90.0
"""Seconds that a peer may leave its answers unread."""


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


class Listening(Protocol):
    """Methods of a listener that its connections call."""

    def speaker(self, flush: Callable[[], None], /) -> Speaker:
        """Return what speaks on a new connection."""

    def leave(self, connection: Connection, /) -> None:
        """Forget a connection that has ended."""


def leave_to_parent(shared: socket.socket) -> None:
    """Close a socket in a forked child, where its loop does not run.

    Not by its own ``close``, which uvloop puts off for ever; and nothing may tell the loop, as it
    shares with the parent's what it waits for.
    """
    file = shared.detach()
    if file >= 0:
        os.close(file)


class Connection(asyncio.Protocol):
    """One connection: its socket, and what speaks on it."""

    _transport: asyncio.Transport
    """Missing until it is made."""
    beginning: asyncio.Task[None]
    """What makes it; done when it is made, or has failed."""

    def __init__(self, opened: socket.socket, listener: Listening) -> None:
        """Speak on a socket that was accepted, once a loop has taken it."""
        self.socket = opened
        self._listener = listener
        self.speaker = listener.speaker(self._flush)
        self._began = self._moved = monotonic()
        self._state: object = None
        self._is_made = False
        self._is_draining = False
        self._is_deaf = False

    def begin(self, loop: asyncio.AbstractEventLoop, context: ssl.SSLContext | None) -> None:
        """Have the loop take the socket, and in TLS begin with a handshake."""
        self.beginning = loop.create_task(self._begin(loop, context))
        self.beginning.add_done_callback(self._has_begun)

    async def _begin(self, loop: asyncio.AbstractEventLoop, context: ssl.SSLContext | None) -> None:
        self.socket.setblocking(False)
        with suppress(OSError):  # the peer has gone, or its handshake failed
            await loop.connect_accepted_socket(
                lambda: self,
                self.socket,
                ssl=context,
                ssl_handshake_timeout=None if context is None else _LONGEST_HANDSHAKE,
            )

    def _has_begun(self, _: asyncio.Task[None]) -> None:
        if not self._is_made:
            self._listener.leave(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._is_made = True
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
        """Tell the peer to make its next calls elsewhere. A handshake ends."""
        if not self._is_made:
            self.abort()
            return
        self._is_draining = True
        self.speaker.drain()
        self._flush()

    def abort(self) -> None:
        """End the connection at once."""
        self.speaker.is_over = True
        if self._is_made:
            self._transport.abort()
        else:
            self.beginning.cancel()

    def look(self, now: float) -> None:
        """End the connection if it has lasted too long. A handshake has its own limit."""
        if not self._is_made:
            return
        state = self.speaker.state, self._is_deaf
        if state != self._state:
            self._state, self._moved = state, now
        patience = _LONGEST_DEAF if self._is_deaf else self.speaker.patience
        if now - self._moved > patience:
            self.abort()
        elif now - self._began > _LONGEST and not self._is_draining:
            self.drain()
