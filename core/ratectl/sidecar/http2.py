"""Unary calls of gRPC over HTTP/2, without a socket: bytes that arrive to bytes to send.

nghttp2 (through ngh2) does HTTP/2: frames, compression of headers, windows, and bounds against
hostile callers. Sources: RFC 9113; github.com/grpc/grpc, doc/PROTOCOL-HTTP2.md.
"""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple

from ngh2 import (
    Configuration,
    Connection,
    ConnectionClosed,
    DataReceived,
    ErrorCode,
    NGH2Error,
    PingAcknowledged,
    RequestReceived,
    Role,
    Setting,
    StreamClosed,
    StreamProtocolError,
    TrailersReceived,
)

from ratectl.agent.log import log
from ratectl.sidecar.grpc_frames import (
    HEADERS,
    PREFIX,
    TRAILERS,
    TYPE,
    error_headers,
    framed,
    prefix,
)
from ratectl.sidecar.methods import (
    INTERNAL,
    MOST_BYTES,
    MOST_HEADERS,
    MOST_STREAMS,
    RESOURCE_EXHAUSTED,
    UNIMPLEMENTED,
    CallError,
    answer_of,
)
from ratectl.sidecar.streamed_calls import StreamedCalls

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from ratectl.sidecar.methods import Answer, Method

    Run = Callable[[Method, bytes, "GrpcConnection", int], Answer | None]

__all__ = ["Answering", "GrpcConnection", "run_here"]

_MOST_WAITING: Final = 1024 * 1024
"""Bytes of messages of one connection that have not arrived whole."""

_CONFIGURATION: Final = Configuration(
    max_inbound_header_list_size=MOST_HEADERS,
    # Envoy resets each call that times out: a slow moment must not end the connection.
    stream_reset_rate_limit=(20_000, 5_000),
)
_SETTINGS: Final = {
    Setting.MAX_CONCURRENT_STREAMS: MOST_STREAMS,
    Setting.MAX_HEADER_LIST_SIZE: MOST_HEADERS,
}
_TYPES: Final = (TYPE, TYPE + b"+proto")
_WRONG_TYPE: Final = ((b":status", b"415"),)
_DRAIN: Final = b"draining"
_LONGEST_CALL: Final = 90.0
"""Seconds that a connection may have open calls of which none ends."""
_LONGEST_IDLE: Final = 3_600.0
"""Seconds that a connection may be open without a call."""


@cache  # once in a process: anybody can send such headers
def _tell_of_headers() -> None:
    """Log that nghttp2 has refused the headers of a call, which no method has seen."""
    log.warning(
        "a call with invalid headers was refused, and others may be. Envoy sends the name of its "
        "cluster as :authority, where `|` and `/` are invalid: write `authority` in envoy_grpc"
    )


class Answering(NamedTuple):
    """A call that has arrived whole."""

    connection: GrpcConnection
    stream: int

    @property
    def is_wanted(self) -> bool:
        """True if the peer still waits for the answer."""
        return self.connection.is_open(self.stream)

    def __call__(self, answer: Answer) -> None:
        """Send the answer."""
        self.connection.answer(self.stream, answer)


def run_here(
    method: Method, message: bytes, _connection: GrpcConnection, _stream: int
) -> Answer | None:
    """Answer a call at once."""
    return answer_of(method, message)


class GrpcConnection:
    """One connection of a server. Not for several threads."""

    is_mute: Final = False
    """True if nothing more is sent, and the peer may still send."""

    def __init__(
        self,
        methods: Mapping[str, Method],
        run: Run = run_here,
        streams: Collection[str] = (),
    ) -> None:
        """``run``: calls a method and returns the answer; None if it answers later.

        ``streams``: paths of methods with many messages in a call, of which each is answered.
        """
        by_path = {path.encode(): method for path, method in methods.items()}
        streamed = {path.encode(): by_path.pop(path.encode()) for path in streams}
        self._methods = by_path
        self._run = run
        self._connection = Connection(Role.SERVER, _CONFIGURATION)
        self._connection.initiate_connection(_SETTINGS)
        self._streamed = StreamedCalls(self._connection, streamed)
        self._arriving: dict[int, Method] = {}
        """Methods of calls whose messages have not arrived whole."""
        self._parts: dict[int, bytearray] = {}
        """What has arrived of their messages."""
        self._open: set[int] = set()
        self.ended = 0
        """Calls that have ended."""
        self.is_over = False
        """True if the connection should be closed, after the bytes are sent."""

    @property
    def calls(self) -> int:
        """Calls that are open."""
        return len(self._open)

    @property
    def patience(self) -> float:
        """Seconds that the connection may stay as it is."""
        return _LONGEST_CALL if self._open else _LONGEST_IDLE

    @property
    def state(self) -> tuple[int, bool]:
        """Value that changes when a call ends, and when the first one begins."""
        return self.ended, bool(self._open)

    def end_of_input(self) -> bool:
        """Return False: a peer that sends no more acknowledges nothing."""
        return False

    def feed(self, data: bytes) -> None:
        """Take bytes that have arrived; answer the calls that are complete.

        The peer's bytes may be wrong in any way: then ``is_over`` becomes true.
        """
        try:
            self._connection.receive_data(data)
        except NGH2Error:
            self.is_over = True
        else:
            self._take_events()

    def to_send(self) -> bytes:
        """Return the bytes to send."""
        if self.is_over:
            return b""
        try:
            data = self._connection.data_to_send()
        except NGH2Error:
            self.is_over = True
            return b""
        self._take_events()  # calls end when their last bytes are taken
        return data

    def drain(self) -> None:
        """Tell the peer to make its next calls elsewhere; ``is_over`` when the last one has ended.

        The peer may have sent calls before it hears of that. What it sends after a ping's answer,
        it has sent in spite of it.
        """
        if not self.is_over:
            self._connection.send_shutdown_notice()
            self._connection.ping(_DRAIN)

    # Events -------------------------------------------------------------------------------------

    def _take_events(self) -> None:
        for event in self._connection.events():
            handler = self._HANDLERS.get(type(event))
            if handler is not None:
                handler(self, event)
        wants = self._connection.want_read or self._connection.want_write
        self.is_over = self.is_over or not wants

    def _begin(self, event: RequestReceived) -> None:
        stream = event.stream_id
        self._open.add(stream)
        headers = dict(event.headers)
        kind = headers.get(b"content-type", b"")
        if kind not in _TYPES and kind.partition(b";")[0] not in _TYPES:
            with suppress(StreamProtocolError):
                self._connection.send_response(stream, _WRONG_TYPE, end_stream=True)
            return
        path = headers.get(b":path", b"")
        is_post = headers.get(b":method") == b"POST"
        method = self._methods.get(path)
        if method is None or not is_post:
            if not is_post or not self._streamed.begin(stream, path, is_end=event.end_stream):
                self.answer(stream, CallError(UNIMPLEMENTED, "there is no such method here"))
        elif event.end_stream:
            self._answer_whole(stream, method, b"")
        else:
            self._arriving[stream] = method

    def _add(self, event: DataReceived) -> None:
        """Take a part of a message; the usual one is whole."""
        stream, data = event.stream_id, event.data
        method = self._arriving.get(stream)
        if method is None:  # it has been answered, or has many messages
            self._streamed.add(stream, data, is_end=event.end_stream)
            return
        if stream in self._parts or not event.end_stream:
            parts = self._parts.setdefault(stream, bytearray())
            parts.extend(data)
            if len(parts) <= MOST_BYTES + PREFIX and not event.end_stream:
                if self._waiting_bytes() > _MOST_WAITING:
                    problem = "too many messages are not whole"
                    self._refuse(stream, CallError(RESOURCE_EXHAUSTED, problem))
                return
            data = bytes(parts)
        if len(data) > MOST_BYTES + PREFIX:
            problem = f"a message has {MOST_BYTES} bytes at most"
            self._refuse(stream, CallError(RESOURCE_EXHAUSTED, problem))
            return
        self._forget(stream)
        self._answer_whole(stream, method, data)

    def _waiting_bytes(self) -> int:
        """Return the bytes of messages that have not arrived whole."""
        return sum(map(len, self._parts.values()))

    def _end_message(self, event: TrailersReceived) -> None:
        method = self._arriving.get(event.stream_id)
        if method is None:
            self._streamed.end(event.stream_id)
        else:
            data = bytes(self._parts.get(event.stream_id, b""))
            self._forget(event.stream_id)
            self._answer_whole(event.stream_id, method, data)

    def _end(self, event: StreamClosed) -> None:
        stream = event.stream_id
        if event.error_code == ErrorCode.PROTOCOL_ERROR and stream not in self._open:
            _tell_of_headers()
        self._forget(stream)
        self._streamed.closed(stream)
        self._open.discard(stream)
        self.ended += 1

    def _drained(self, event: PingAcknowledged) -> None:
        if event.opaque_data == _DRAIN:
            self._connection.send_goaway()

    def _close(self, _event: ConnectionClosed) -> None:
        self.is_over = True

    def _forget(self, stream: int) -> None:
        """Forget what has arrived of a call."""
        self._arriving.pop(stream, None)
        self._parts.pop(stream, None)

    def _answer_whole(self, stream: int, method: Method, message: bytes) -> None:
        answer: Answer | None
        if message[:1] == b"\x01":
            answer = CallError(UNIMPLEMENTED, "compressed messages are not read")
        elif message[:PREFIX] != prefix(len(message) - PREFIX):
            answer = CallError(INTERNAL, "the call has not one whole message")
        else:
            answer = self._run(method, message[PREFIX:], self, stream)
        if answer is not None:
            self.answer(stream, answer)

    def _refuse(self, stream: int, error: CallError) -> None:
        self._forget(stream)
        self.answer(stream, error)

    # Answers ------------------------------------------------------------------------------------

    def is_open(self, stream: int) -> bool:
        """Return True if the peer still waits for an answer."""
        return stream in self._open and not self.is_over

    def answer(self, stream: int, answer: Answer) -> None:
        """End a call; nothing happens if the peer has ended it."""
        if stream not in self._open or self.is_over:
            return
        connection = self._connection
        try:
            if isinstance(answer, CallError):
                connection.send_response(stream, error_headers(answer), end_stream=True)
                return
            connection.send_response(stream, HEADERS)
            connection.send_data(stream, framed(answer))
            connection.send_trailers(stream, TRAILERS)
        except StreamProtocolError:
            pass  # the peer's reset is here, and not heard of yet

    _HANDLERS: ClassVar[Mapping[type, Callable[[GrpcConnection, Any], None]]] = {
        RequestReceived: _begin,
        DataReceived: _add,
        TrailersReceived: _end_message,
        StreamClosed: _end,
        PingAcknowledged: _drained,
        ConnectionClosed: _close,
    }
