"""Calls of gRPC with many messages, of one connection: each message is answered when it is whole.

A client may leave its answers unread, so both calls and messages have bounds. A call counts until
its stream is closed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from ratectl.sidecar.grpc_frames import PREFIX, TRAILERS, error_headers, error_trailers
from ratectl.sidecar.methods import MOST_BYTES, MOST_MESSAGES, TOO_MANY_MESSAGES, answer_of
from ratectl.sidecar.statuses import INTERNAL, RESOURCE_EXHAUSTED, UNIMPLEMENTED, CallError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ratectl.sidecar.grpc_frames import Fields
    from ratectl.sidecar.methods import Method

__all__ = ["MOST_CALLS", "Sender", "StreamedCalls"]

MOST_CALLS: Final = 8
"""Open calls of one connection."""


class Sender(Protocol):
    """A connection that sends answers. Of a stream that the peer has closed, it sends nothing."""

    def send_headers(self, stream: int, headers: Fields, /) -> None:
        """Answer with headers alone."""

    def begin_messages(self, stream: int, /) -> None:
        """Begin an answer with many messages."""

    def send_message(self, stream: int, message: bytes, /) -> None:
        """Send one of many messages."""

    def end_messages(self, stream: int, trailers: Fields, /) -> None:
        """End an answer with many messages."""


@dataclass(slots=True)
class _Call:
    method: Method
    answered: int = 0
    """Messages that were answered."""
    parts: bytearray = field(default_factory=bytearray)
    """What has arrived of the next message."""
    is_over: bool = False
    """True if its last answer was sent; the peer may still send."""


class StreamedCalls:
    """Open calls, by the numbers of their streams."""

    def __init__(self, connection: Sender, methods: Mapping[bytes, Method]) -> None:
        """``methods``: by their paths."""
        self._connection = connection
        self._methods = methods
        self._calls: dict[int, _Call] = {}

    def __len__(self) -> int:
        return len(self._calls)

    def begin(self, stream: int, path: bytes, *, is_end: bool) -> bool:
        """Begin a call. Return False if there is no such method here."""
        method = self._methods.get(path)
        if method is None:
            return False
        if len(self._calls) == MOST_CALLS:
            error = CallError(RESOURCE_EXHAUSTED, f"{MOST_CALLS} calls of this method are open")
            self._connection.send_headers(stream, error_headers(error))
            return True
        self._connection.begin_messages(stream)
        self._calls[stream] = _Call(method)
        if is_end:
            self.end(stream)
        return True

    def add(self, stream: int, data: bytes, *, is_end: bool) -> None:
        """Take a part of the messages of a stream; answer those that are whole."""
        call = self._calls.get(stream)
        if call is None or call.is_over:
            return
        call.parts.extend(data)
        while not call.is_over and len(call.parts) >= PREFIX:
            end = PREFIX + int.from_bytes(call.parts[1:PREFIX])
            error = _wrong(call, end - PREFIX)
            if error is not None:
                self._end(stream, call, error)
            elif len(call.parts) < end:
                break
            else:
                message = bytes(call.parts[PREFIX:end])
                del call.parts[:end]
                self._answer(stream, call, message)
        if is_end:
            self.end(stream)

    def _answer(self, stream: int, call: _Call, message: bytes) -> None:
        answer = answer_of(call.method, message)
        if isinstance(answer, CallError):
            self._end(stream, call, answer)
            return
        call.answered += 1
        self._connection.send_message(stream, answer)

    def end(self, stream: int) -> None:
        """Take note that the peer sends no more on a stream."""
        call = self._calls.get(stream)
        if call is not None and not call.is_over:
            is_whole = not call.parts
            error = None if is_whole else CallError(INTERNAL, "the last message is not whole")
            self._end(stream, call, error)

    def _end(self, stream: int, call: _Call, error: CallError | None) -> None:
        call.is_over = True
        call.parts = bytearray()
        self._connection.end_messages(stream, TRAILERS if error is None else error_trailers(error))

    def closed(self, stream: int) -> None:
        """Forget a stream that is closed."""
        self._calls.pop(stream, None)


def _wrong(call: _Call, length: int) -> CallError | None:
    """Return what is wrong with the next message, of which the prefix is here."""
    if call.parts[0]:
        return CallError(UNIMPLEMENTED, "compressed messages are not read")
    if length > MOST_BYTES:
        return CallError(RESOURCE_EXHAUSTED, f"a message has {MOST_BYTES} bytes at most")
    return TOO_MANY_MESSAGES if call.answered == MOST_MESSAGES else None
