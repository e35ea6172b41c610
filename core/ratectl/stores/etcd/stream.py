"""One etcd watch stream, readable with a timeout.

gRPC's reply iterator blocks without one, so a thread reads it into an inbox. The thread holds at
most ``_AHEAD`` replies and no reference to the watch; it ends with its call.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Final

import grpc

from ratectl.runtime.wakeup import Wakeup
from ratectl.stores.etcd import messages as m
from ratectl.stores.etcd.fork import GATE
from ratectl.stores.etcd.rpc import WATCH

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ratectl.stores.etcd.client import Client
    from ratectl.stores.etcd.rpc import Call, Scope

__all__ = ["StreamEnded", "StreamSuspended", "WatchStream"]

_AHEAD: Final = 8
_JOIN_SECONDS: Final = 0.5


class StreamEnded(Exception):
    """Raised when the stream has ended without an error of gRPC."""


class StreamSuspended(StreamEnded):
    """Raised when the stream was closed because the process is about to fork."""


class _Inbox:
    """Replies that were read and not received yet, oldest first. ``put`` never blocks."""

    def __init__(self) -> None:
        self._replies: deque[m.WatchResponse | Exception] = deque()
        self._wakeup = Wakeup()

    def put(self, reply: m.WatchResponse | Exception) -> None:
        """Add a reply, or the reason why there will be no more."""
        self._replies.append(reply)
        self._wakeup.set()

    def get(self, seconds: float) -> m.WatchResponse | Exception | None:
        """Take the oldest reply; None if there is none within ``seconds``."""
        deadline = time.monotonic() + seconds
        while True:
            with contextlib.suppress(IndexError):
                return self._replies.popleft()
            if not self._wakeup.wait(deadline - time.monotonic()):
                return None

    def clear(self) -> None:
        """Drop all replies."""
        self._replies.clear()


class WatchStream:
    """A stream with one watcher. ``close`` may be called from any thread, repeatedly."""

    def __init__(self, client: Client, create: m.WatchCreateRequest, scope: Scope) -> None:
        self._requests: queue.SimpleQueue[m.WatchRequest | None] = queue.SimpleQueue()
        self._requests.put(m.WatchRequest(create_request=create))
        self._replies = _Inbox()
        self._room = threading.Semaphore(_AHEAD)
        self.opened = time.monotonic()
        with GATE.passing():
            self._open(client, scope)

    def _open(self, client: Client, scope: Scope) -> None:
        call, replies, self.token = client.stream(WATCH, iter(self._requests.get, None), scope)
        self._call: Call | None = call
        self._reader = threading.Thread(
            target=_read,
            args=(replies, self._replies, self._room),
            name="ratectl-etcd-watch",
            daemon=True,
        )
        self._reader.start()
        GATE.add_stream(self)

    def receive(self, seconds: float) -> m.WatchResponse | None:
        """Return the next reply; None if there is none within ``seconds``.

        :raises grpc.RpcError: the call failed, or was closed.
        :raises StreamEnded: the server ended the stream.
        """
        reply = self._replies.get(seconds)
        if reply is None:
            return None
        if isinstance(reply, Exception):
            self._replies.put(reply)  # the next call raises it as well
            raise reply
        self._room.release()
        return reply

    def ask_progress(self) -> None:
        """Ask for the server's revision. It replies when it has sent all earlier events."""
        self._requests.put(m.WatchRequest(progress_request=m.WatchProgressRequest()))

    def close(self) -> None:
        """End the call and its threads."""
        self._end(StreamEnded())

    def suspend(self) -> None:
        """Close the stream before a fork."""
        self._end(StreamSuspended())

    def _end(self, reason: StreamEnded) -> None:
        self._replies.put(reason)
        call, self._call = self._call, None
        if call is not None:
            call.cancel()
        self._requests.put(None)
        self._room.release(_AHEAD)
        if threading.current_thread() is not self._reader:
            self._reader.join(_JOIN_SECONDS)
        # gRPC's errors refer to their call, and a call to its channel: drop them now.
        self._replies.clear()
        self._replies.put(reason)


def _read(
    replies: Iterator[m.WatchResponse],
    inbox: _Inbox,
    room: threading.Semaphore,
) -> None:
    try:
        for reply in replies:
            inbox.put(reply)
            room.acquire()
    except grpc.RpcError as error:
        inbox.put(error)
    else:
        inbox.put(StreamEnded())
