"""Calls of gRPC on one connection, by the package ngh2, which brings a libnghttp2 of its own."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar, Final

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

from ratectl.sidecar.grpc_frames import HEADERS, PREFIX, TRAILERS, error_headers, framed, prefix
from ratectl.sidecar.http2 import (
    COMPRESSED,
    DRAINING,
    MOST_WAITING,
    NO_METHOD,
    NOT_WHOLE,
    RESETS,
    TOO_LARGE,
    TOO_MANY,
    TYPES,
    WRONG_TYPE,
    CommonParts,
    always,
    split,
    tell_of_headers,
)
from ratectl.sidecar.methods import MOST_BYTES, MOST_HEADERS, MOST_STREAMS, answer_of
from ratectl.sidecar.statuses import CallError
from ratectl.sidecar.streamed_calls import StreamedCalls

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from ratectl.sidecar.grpc_frames import Fields
    from ratectl.sidecar.http2 import Later
    from ratectl.sidecar.methods import Answer, Method

__all__ = ["Ngh2Connection"]

_CONFIGURATION: Final = Configuration(
    max_inbound_header_list_size=MOST_HEADERS, stream_reset_rate_limit=RESETS
)
_SETTINGS: Final = {
    Setting.MAX_CONCURRENT_STREAMS: MOST_STREAMS,
    Setting.MAX_HEADER_LIST_SIZE: MOST_HEADERS,
}


class Ngh2Connection(CommonParts):
    """One connection of a server: see ``ratectl.sidecar.http2.GrpcConnection``."""

    def __init__(
        self,
        methods: Mapping[str, Method],
        streams: Collection[str] = (),
        later: Later | None = None,
        may_wait: Callable[[], bool] = always,
    ) -> None:
        self._methods, streamed = split(methods, streams)
        self._later, self._may_wait = later, may_wait
        self._waits = False
        self._connection = Connection(Role.SERVER, _CONFIGURATION)
        self._connection.initiate_connection(_SETTINGS)
        self._streamed = StreamedCalls(self, streamed)
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

    def feed(self, data: bytes) -> None:
        """Take bytes that have arrived; answer the calls that are complete.

        The peer's bytes may be wrong in any way: then ``is_over`` becomes true.
        """
        self._waits = self._may_wait()
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
            self._connection.ping(DRAINING)

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
        if kind not in TYPES and kind.partition(b";")[0] not in TYPES:
            self.send_headers(stream, WRONG_TYPE)
            return
        path = headers.get(b":path", b"")
        is_post = headers.get(b":method") == b"POST"
        method = self._methods.get(path)
        if method is None or not is_post:
            if not is_post or not self._streamed.begin(stream, path, is_end=event.end_stream):
                self.answer(stream, NO_METHOD)
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
                if self.waiting > MOST_WAITING:
                    self._refuse(stream, TOO_MANY)
                return
            data = bytes(parts)
        if len(data) > MOST_BYTES + PREFIX:
            self._refuse(stream, TOO_LARGE)
            return
        self._forget(stream)
        self._answer_whole(stream, method, data)

    @property
    def waiting(self) -> int:
        """Bytes of messages that have not arrived whole."""
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
            tell_of_headers()
        self._forget(stream)
        self._streamed.closed(stream)
        self._open.discard(stream)
        self.ended += 1

    def _drained(self, event: PingAcknowledged) -> None:
        if event.opaque_data == DRAINING:
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
            answer = COMPRESSED
        elif message[:PREFIX] != prefix(len(message) - PREFIX):
            answer = NOT_WHOLE
        else:
            answer = self._run(method, message[PREFIX:], stream)
        if answer is not None:
            self.answer(stream, answer)

    def _run(self, method: Method, message: bytes, stream: int) -> Answer | None:
        if self._later is not None and self._waits:
            return self._later(method, message, self, stream)
        return answer_of(method, message)

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
        if isinstance(answer, CallError):
            self.send_headers(stream, error_headers(answer))
            return
        with suppress(StreamProtocolError):  # the peer's reset is here, and not heard of yet
            self._connection.send_response(stream, HEADERS)
            self._connection.send_data(stream, framed(answer))
            self._connection.send_trailers(stream, TRAILERS)

    def send_headers(self, stream: int, headers: Fields) -> None:
        """Answer with headers alone."""
        with suppress(StreamProtocolError):
            self._connection.send_response(stream, headers, end_stream=True)

    def begin_messages(self, stream: int) -> None:
        """Begin an answer with many messages."""
        with suppress(StreamProtocolError):
            self._connection.send_response(stream, HEADERS)

    def send_message(self, stream: int, message: bytes) -> None:
        """Send one of many messages."""
        with suppress(StreamProtocolError):
            self._connection.send_data(stream, framed(message))

    def end_messages(self, stream: int, trailers: Fields) -> None:
        """End an answer with many messages."""
        with suppress(StreamProtocolError):
            self._connection.send_trailers(stream, trailers)

    _HANDLERS: ClassVar[Mapping[type, Callable[[Ngh2Connection, Any], None]]] = {
        RequestReceived: _begin,
        DataReceived: _add,
        TrailersReceived: _end_message,
        StreamClosed: _end,
        PingAcknowledged: _drained,
        ConnectionClosed: _close,
    }
