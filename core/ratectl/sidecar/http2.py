"""Unary calls of gRPC over HTTP/2, without a socket: bytes that arrive to bytes to send.

nghttp2 (through ngh2) does HTTP/2: frames, compression of headers, windows, and bounds against
hostile callers. Sources: RFC 9113; github.com/grpc/grpc, doc/PROTOCOL-HTTP2.md.
"""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import quote

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
from ratectl.sidecar.methods import (
    INTERNAL,
    MOST_BYTES,
    MOST_HEADERS,
    MOST_STREAMS,
    RESOURCE_EXHAUSTED,
    UNIMPLEMENTED,
    CallError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ngh2 import Event

    from ratectl.sidecar.methods import Method

    Answer = bytes | CallError
    Run = Callable[[Method, bytes, "Answering"], None]

__all__ = ["Answering", "GrpcConnection", "answer_of", "run_here"]

_MOST_WAITING: Final = 1024 * 1024
"""Bytes of messages of one connection that have not arrived whole."""
_PREFIX: Final = 5
"""Bytes before a message: a flag of compression, and the length."""

_CONFIGURATION: Final = Configuration(
    max_inbound_header_list_size=MOST_HEADERS,
    # Envoy resets each call that times out: a slow moment must not end the connection.
    stream_reset_rate_limit=(20_000, 5_000),
)
_SETTINGS: Final = {
    Setting.MAX_CONCURRENT_STREAMS: MOST_STREAMS,
    Setting.MAX_HEADER_LIST_SIZE: MOST_HEADERS,
}
_TYPE: Final = b"application/grpc"
_TYPES: Final = (_TYPE, b"application/grpc+proto")
_HEADERS: Final = ((b":status", b"200"), (b"content-type", _TYPE))
_TRAILERS: Final = ((b"grpc-status", b"0"),)
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


class _Call(NamedTuple):
    """A call whose message has not arrived whole."""

    method: Method
    message: bytearray


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


def run_here(method: Method, message: bytes, answering: Answering) -> None:
    """Answer a call at once."""
    answering(answer_of(method, message))


def answer_of(method: Method, message: bytes) -> Answer:
    """Return the answer of a method, or its error."""
    try:
        return method(message)
    except CallError as error:
        return error


class GrpcConnection:
    """One connection of a server. Not for several threads."""

    is_mute: Final = False
    """True if nothing more is sent, and the peer may still send."""

    def __init__(self, methods: Mapping[str, Method], run: Run = run_here) -> None:
        """``run``: calls a method and answers the call, perhaps later."""
        self._methods = {path.encode(): method for path, method in methods.items()}
        self._run = run
        self._connection = Connection(Role.SERVER, _CONFIGURATION)
        self._connection.initiate_connection(_SETTINGS)
        self._arriving: dict[int, _Call] = {}
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
            self._on_event(event)
        wants = self._connection.want_read or self._connection.want_write
        self.is_over = self.is_over or not wants

    def _on_event(self, event: Event) -> None:
        if isinstance(event, RequestReceived):
            self._begin(event)
        elif isinstance(event, DataReceived):
            self._add(event.stream_id, event.data, whole=event.end_stream)
        elif isinstance(event, TrailersReceived):
            self._add(event.stream_id, b"", whole=True)
        elif isinstance(event, StreamClosed):
            if event.error_code == ErrorCode.PROTOCOL_ERROR and event.stream_id not in self._open:
                _tell_of_headers()
            self._arriving.pop(event.stream_id, None)
            self._open.discard(event.stream_id)
            self.ended += 1
        elif isinstance(event, PingAcknowledged) and event.opaque_data == _DRAIN:
            self._connection.send_goaway()
        elif isinstance(event, ConnectionClosed):
            self.is_over = True

    def _begin(self, event: RequestReceived) -> None:
        stream = event.stream_id
        self._open.add(stream)
        headers = dict(event.headers)
        if headers.get(b"content-type", b"").partition(b";")[0] not in _TYPES:
            with suppress(StreamProtocolError):
                self._connection.send_response(stream, _WRONG_TYPE, end_stream=True)
            return
        method = self._methods.get(headers.get(b":path", b""))
        if method is None or headers.get(b":method") != b"POST":
            self.answer(stream, CallError(UNIMPLEMENTED, "there is no such method here"))
            return
        self._arriving[stream] = _Call(method, bytearray())
        if event.end_stream:
            self._add(stream, b"", whole=True)

    def _add(self, stream: int, data: bytes, *, whole: bool) -> None:
        call = self._arriving.get(stream)
        if call is None:
            return  # it has been answered
        call.message.extend(data)
        if len(call.message) > MOST_BYTES + _PREFIX:
            problem = f"a message has {MOST_BYTES} bytes at most"
            self._refuse(stream, CallError(RESOURCE_EXHAUSTED, problem))
        elif not whole and self._waiting_bytes() > _MOST_WAITING:
            self._refuse(stream, CallError(RESOURCE_EXHAUSTED, "too many messages are not whole"))
        elif whole:
            self._answer_whole(stream, call)

    def _waiting_bytes(self) -> int:
        """Return the bytes of messages that have not arrived whole."""
        return sum([len(call.message) for call in self._arriving.values()])

    def _answer_whole(self, stream: int, call: _Call) -> None:
        message = call.message
        if message[:1] == b"\x01":
            self._refuse(stream, CallError(UNIMPLEMENTED, "compressed messages are not read"))
        elif message[:_PREFIX] != _prefix(len(message) - _PREFIX):
            self._refuse(stream, CallError(INTERNAL, "the call has not one whole message"))
        else:
            del self._arriving[stream]
            self._run(call.method, bytes(message[_PREFIX:]), Answering(self, stream))

    def _refuse(self, stream: int, error: CallError) -> None:
        del self._arriving[stream]
        self.answer(stream, error)

    # Answers ------------------------------------------------------------------------------------

    def is_open(self, stream: int) -> bool:
        """Return True if the peer still waits for an answer."""
        return stream in self._open and not self.is_over

    def answer(self, stream: int, answer: Answer) -> None:
        """End a call; nothing happens if the peer has ended it."""
        if not self.is_open(stream):
            return
        connection = self._connection
        with suppress(StreamProtocolError):  # the peer's reset is here, and not heard of yet
            if isinstance(answer, CallError):
                connection.send_response(stream, _error_headers(answer), end_stream=True)
                return
            connection.send_response(stream, _HEADERS)
            connection.send_data(stream, _prefix(len(answer)) + answer)
            connection.send_trailers(stream, _TRAILERS)


def _prefix(length: int) -> bytes:
    """Return what comes before a message that is not compressed."""
    return b"\0" + max(0, length).to_bytes(_PREFIX - 1)


def _error_headers(error: CallError) -> tuple[tuple[bytes, bytes], ...]:
    message = quote(str(error), safe=" !#$&'()*+,/:;=?@[]<>^`{|}~\"").encode()
    status = str(error.code).encode()
    return (*_HEADERS, (b"grpc-status", status), (b"grpc-message", message))
