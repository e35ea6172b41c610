"""Callers that mean harm: each is held or cut off, and others are served meanwhile."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import hpack
import pytest
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from etcd_server import wait_for
from ratectl import Agent
from ratectl.sidecar import Sidecar
from ratectl.sidecar.methods import MOST_BYTES, MOST_STREAMS
from ratectl.sidecar.service import METHOD
from sidecar.envoys_messages import descriptor, request
from sidecar.servers import ON_THE_LOOP, needed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

POLICIES = """
apiVersion: ratectl/v1
scope: /shop
limits:
  each: {rate: 1000/s, per: client}
"""
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADERS = [
    (":method", "POST"),
    (":scheme", "http"),
    (":authority", "sidecar"),
    (":path", METHOD),
    ("content-type", "application/grpc"),
    ("te", "trailers"),
]
ASKED = request("shop", descriptor(("client", "a"))).SerializeToString()
MESSAGE = b"\0" + len(ASKED).to_bytes(4, "big") + ASKED


@pytest.fixture(params=ON_THE_LOOP)
def server(request: pytest.FixtureRequest) -> Any:
    return needed(request.param)


@pytest.fixture
def sidecar(server: Any) -> Iterator[Sidecar]:
    with (
        Agent.from_policies(POLICIES) as agent,
        Sidecar(agent, "127.0.0.1:0", server=server) as sidecar,
    ):
        yield sidecar


def headers(
    stream: int, more: list[tuple[str, str]] | None = None, end: bool = True
) -> HeadersFrame:
    # Names and values are spelled out, so that no table is needed.
    block = hpack.Encoder().encode([*HEADERS, *(more or [])], huffman=False)
    frame = HeadersFrame(stream, block)
    if end:
        frame.flags.add("END_HEADERS")
    return frame


def data(stream: int, content: bytes, end: bool = True) -> DataFrame:
    frame = DataFrame(stream, content)
    if end:
        frame.flags.add("END_STREAM")
    return frame


class Caller:
    """A connection whose frames are written by hand."""

    def __init__(self, sidecar: Sidecar, settings: dict[int, int] | None = None) -> None:
        address = sidecar.rls
        self.socket = socket.create_connection((address.host, address.port), timeout=20)
        self.send(PREFACE, SettingsFrame(0, settings=settings or {}))
        self._read = b""

    def send(self, *parts: bytes | Frame) -> None:
        data = b"".join([p if isinstance(p, bytes) else p.serialize() for p in parts])
        self.socket.sendall(data)

    def frames(self) -> Iterator[Frame]:
        """Yield what arrives, until the connection ends."""
        while True:
            while len(self._read) < 9:
                if not self._more():
                    return
            frame, length = Frame.parse_frame_header(memoryview(self._read[:9]))
            while len(self._read) < 9 + length:
                if not self._more():
                    return
            frame.parse_body(memoryview(self._read[9 : 9 + length]))
            self._read = self._read[9 + length :]
            yield frame

    def _more(self) -> bool:
        try:
            found = self.socket.recv(65_536)
        except ConnectionResetError:
            return False
        self._read += found
        return bool(found)

    def answer(self, stream: int) -> bytes:
        """Return the message of one answer."""
        found = b""
        for frame in self.frames():
            if frame.stream_id == stream and isinstance(frame, DataFrame):
                found += frame.data
            if frame.stream_id == stream and "END_STREAM" in frame.flags:
                return found[5:]
        raise AssertionError("the connection ended")

    def is_cut(self) -> bool:
        """Read until the connection ends; return True."""
        for _ in self.frames():
            pass
        return True

    def status(self, stream: int) -> dict[str, str]:
        """Return the headers of an answer without a message."""
        for frame in self.frames():
            if frame.stream_id == stream and isinstance(frame, HeadersFrame):
                return dict(hpack.Decoder().decode(frame.data))
        raise AssertionError("the connection ended")


@pytest.fixture
def connect(sidecar: Sidecar) -> Iterator[Callable[..., Caller]]:
    """Connections. Whatever they do, others are served afterwards."""
    callers: list[Caller] = []

    def connect(settings: dict[int, int] | None = None) -> Caller:
        callers.append(Caller(sidecar, settings))
        return callers[-1]

    yield connect
    for caller in callers:
        caller.socket.close()
    other = Caller(sidecar)
    with other.socket:
        other.send(headers(1), data(1, MESSAGE))
        assert other.answer(1)[:2] == b"\x08\x01"


@pytest.fixture
def caller(connect: Callable[..., Caller]) -> Caller:
    return connect()


def test_a_call(caller: Caller) -> None:
    caller.send(headers(1), data(1, MESSAGE))
    assert caller.answer(1)[:2] == b"\x08\x01"


def test_bytes_that_come_one_by_one(caller: Caller) -> None:
    whole = headers(1).serialize() + data(1, MESSAGE).serialize()
    caller.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for byte in whole:
        caller.send(bytes([byte]))
    assert caller.answer(1)[:2] == b"\x08\x01"


def test_headers_in_parts(caller: Caller) -> None:
    block = headers(1).data
    first = HeadersFrame(1, block[:20])
    last = ContinuationFrame(1, block[20:])
    last.flags.add("END_HEADERS")
    caller.send(first, last, data(1, MESSAGE))
    assert caller.answer(1)[:2] == b"\x08\x01"


def test_a_flood_of_continuations(caller: Caller) -> None:
    caller.send(headers(1, end=False), *[ContinuationFrame(1, b"")] * 1_000)
    assert caller.is_cut()


def test_headers_that_grow(caller: Caller) -> None:
    """A small block that means many large headers."""
    encoder = hpack.Encoder()
    encoder.encode([("x", "y" * 4_000)])
    bomb = hpack.Encoder().encode([*HEADERS, ("x", "y" * 4_000)], huffman=False)
    bomb += b"\xbe" * 4_000  # each names the header that was added last
    frame = HeadersFrame(1, bomb)
    frame.flags.add("END_HEADERS")
    caller.send(frame)
    assert caller.is_cut()


@pytest.mark.parametrize(
    "frame",
    [
        headers(2),
        data(1, b"x"),
        WindowUpdateFrame(0, window_increment=2**31 - 1),
        ContinuationFrame(1, b""),
    ],
    ids=["even number of a stream", "data of no call", "window overflow", "lone continuation"],
)
def test_frames_that_must_not_be(caller: Caller, frame: Frame) -> None:
    caller.send(frame)
    assert caller.is_cut()


@pytest.mark.parametrize(
    "first", [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", b"\0" * 100]
)
def test_another_protocol(sidecar: Sidecar, first: bytes) -> None:
    address = sidecar.rls
    with socket.create_connection((address.host, address.port), timeout=20) as connection:
        connection.sendall(first.ljust(64, b"\r"))
        while connection.recv(1_000):
            pass


def test_tls_where_there_is_none(sidecar: Sidecar) -> None:
    address = sidecar.rls
    connection = socket.create_connection((address.host, address.port), timeout=20)
    with connection, pytest.raises((ssl.SSLError, ConnectionError)):
        ssl._create_unverified_context().wrap_socket(connection)


def test_resets_of_many_calls(caller: Caller) -> None:
    """Envoy resets calls that time out: a few thousand are borne, a flood is not."""
    pairs = [(headers(n), RstStreamFrame(n, error_code=8)) for n in range(1, 2 * 5_000, 2)]
    for pair in pairs:
        caller.send(*pair)
    caller.send(headers(20_001), data(20_001, MESSAGE))
    assert caller.answer(20_001)[:2] == b"\x08\x01"
    flood = b"".join(
        headers(n).serialize() + RstStreamFrame(n, error_code=8).serialize()
        for n in range(20_003, 20_003 + 2 * 60_000, 2)
    )
    with suppress(ConnectionError):
        caller.send(flood)
    assert caller.is_cut()


@pytest.mark.parametrize("last", [data(1, MESSAGE), data(1, b"none"), data(1, b"", end=False)])
def test_a_call_that_is_reset_in_the_same_breath_ends_no_other(caller: Caller, last: Frame) -> None:
    reset = RstStreamFrame(1, error_code=8)
    caller.send(headers(1), last, reset, headers(3), data(3, MESSAGE))
    assert caller.answer(3)[:2] == b"\x08\x01"


def test_a_request_with_trailers(caller: Caller) -> None:
    trailers = HeadersFrame(1, hpack.Encoder().encode([("x", "y")], huffman=False))
    trailers.flags.add("END_HEADERS")
    trailers.flags.add("END_STREAM")
    caller.send(headers(1), data(1, MESSAGE, end=False), trailers)
    assert caller.answer(1)[:2] == b"\x08\x01"


def test_more_calls_at_once_than_allowed(caller: Caller) -> None:
    last = 2 * MOST_STREAMS + 1
    caller.send(*[headers(n) for n in range(1, last + 1, 2)])
    refused = [f for f in _until(caller, RstStreamFrame) if isinstance(f, RstStreamFrame)]
    assert [(frame.stream_id, frame.error_code) for frame in refused] == [(last, 7)]
    caller.send(data(1, MESSAGE))
    assert caller.answer(1)[:2] == b"\x08\x01"


def _until(caller: Caller, kind: type[Frame]) -> list[Frame]:
    found = []
    for frame in caller.frames():
        found.append(frame)
        if isinstance(frame, kind):
            return found
    raise AssertionError("the connection ended")


def test_a_peer_whose_window_is_shut(connect: Callable[..., Caller]) -> None:
    """Its answers wait; nothing more is kept than those of the calls that may be open at once."""
    shut = connect({SettingsFrame.INITIAL_WINDOW_SIZE: 0})
    for n in range(1, 2 * 3 * MOST_STREAMS, 2):
        shut.send(headers(n), data(n, MESSAGE))
    refused = [f for f in _until(shut, RstStreamFrame) if isinstance(f, RstStreamFrame)]
    assert refused[0].stream_id == 2 * MOST_STREAMS + 1
    for n in range(1, 2 * MOST_STREAMS, 2):
        shut.send(WindowUpdateFrame(n, window_increment=1_000))
    assert shut.answer(1)[:2] == b"\x08\x01"


def _sent(caller: Caller, parts: Iterable[bytes]) -> int:
    """Send until the peer takes no more; return how many parts it took."""
    number = -1
    for number, part in enumerate(parts):
        try:
            caller.send(part)
        except OSError:
            return number
    return number + 1


def test_a_peer_that_does_not_read_is_not_read(
    sidecar: Sidecar, connect: Callable[..., Caller]
) -> None:
    """Or it is cut off, as it does not know how many of its calls are still open."""
    deaf = connect({SettingsFrame.INITIAL_WINDOW_SIZE: 2**31 - 1})
    deaf.send(WindowUpdateFrame(0, window_increment=2**30))
    deaf.socket.settimeout(0.5)
    calls = (headers(n).serialize() + data(n, MESSAGE).serialize() for n in range(1, 2**30, 2))
    assert _sent(deaf, calls) > 1_000
    for connection in sidecar._servers[0].listeners[0].connections:  # type: ignore[union-attr]
        assert connection._transport.get_write_buffer_size() < 1_000_000


@pytest.mark.parametrize("frame", [PingFrame(0, opaque_data=b"12345678"), SettingsFrame(0)])
def test_floods_that_want_acknowledgements(
    sidecar: Sidecar, connect: Callable[..., Caller], frame: Frame
) -> None:
    flood = frame.serialize() * 1_000
    deaf = connect()
    deaf.socket.settimeout(0.5)
    assert _sent(deaf, [flood] * 10_000) < 10_000
    for connection in sidecar._servers[0].listeners[0].connections:  # type: ignore[union-attr]
        assert connection._transport.get_write_buffer_size() < 1_000_000


# Messages ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "status"),
    [
        (b"", "13"),
        (b"\0\0\0\0", "13"),
        (b"\0\0\0\0\5abc", "13"),
        (MESSAGE + MESSAGE, "13"),
        (b"\1" + MESSAGE[1:], "12"),
        (b"\2" + MESSAGE[1:], "13"),
        (b"\0\xff\xff\xff\xff", "13"),
    ],
)
def test_messages_that_are_none(caller: Caller, message: bytes, status: str) -> None:
    caller.send(headers(1), data(1, message))
    assert caller.status(1)["grpc-status"] == status


def test_a_message_that_is_too_large(caller: Caller) -> None:
    caller.send(headers(1))
    for _ in range(MOST_BYTES // 16_384 + 1):
        caller.send(data(1, b"\0" * 16_384, end=False))
    assert caller.status(1)["grpc-status"] == "8"


@pytest.mark.parametrize("kind", ["text/html", "application/grpc-web", "application/grpc+json", ""])
def test_another_kind_of_content(caller: Caller, kind: str) -> None:
    frame = HeadersFrame(1, hpack.Encoder().encode([*HEADERS[:4], ("content-type", kind)]))
    frame.flags.add("END_HEADERS")
    frame.flags.add("END_STREAM")
    caller.send(frame)
    assert caller.status(1) == {":status": "415"}


def test_beyond_the_bound_the_oldest_connection_that_has_ended_no_call_makes_room(
    sidecar: Sidecar, connect: Callable[..., Caller]
) -> None:
    """A begun call keeps no place: otherwise a few callers could keep Envoy out."""
    server: Any = sidecar._servers[0]
    server.listeners[0]._most = 3
    good, begun, idle = (connect() for _ in range(3))
    good.send(headers(1), data(1, MESSAGE))
    assert good.answer(1)
    begun.send(headers(1))
    wait_for(
        lambda: sum(each.speaker.calls for each in server.listeners[0].connections) == 1, "a call"
    )
    more = [connect()]
    assert begun.is_cut()
    more.append(connect())
    assert idle.is_cut()
    for caller in (good, *more):
        caller.send(headers(3), data(3, MESSAGE))
        assert caller.answer(3)
    last = connect()
    assert good.is_cut(), "all others are as good, and it is the oldest"
    last.send(headers(1), data(1, MESSAGE))
    assert last.answer(1)


def test_calls_that_do_not_go_on_are_cut_off(
    sidecar: Sidecar, connect: Callable[..., Caller]
) -> None:
    slow, idle = connect(), connect()
    slow.send(headers(1))
    server: Any = sidecar._servers[0]
    wait_for(
        lambda: sum(each.speaker.calls for each in server.listeners[0].connections) == 1, "a call"
    )

    def later(seconds: float) -> None:
        for connection in list(server.listeners[0].connections):
            server._loop.call_soon_threadsafe(connection.look, time.monotonic() + seconds)

    later(0)
    later(60)
    slow.send(data(1, MESSAGE[:3], end=False))
    later(91)
    assert slow.is_cut()
    idle.send(headers(1), data(1, MESSAGE))
    assert idle.answer(1)
    wait_for(lambda: len(server.listeners[0].connections) == 1, "the slow one to end")
    later(0)
    later(3_700)
    assert idle.is_cut()


def test_a_call_after_a_long_silence_has_its_time(
    sidecar: Sidecar, connect: Callable[..., Caller]
) -> None:
    late = connect()
    late.send(headers(1), data(1, MESSAGE))
    assert late.answer(1)
    server: Any = sidecar._servers[0]

    def look(seconds: float) -> None:
        done = threading.Event()

        def work() -> None:
            server.listeners[0].look(time.monotonic() + seconds)
            done.set()

        server._loop.call_soon_threadsafe(work)
        assert done.wait(20)

    look(0)
    late.send(headers(3))
    wait_for(lambda: sum(each.speaker.calls for each in server.listeners[0].connections), "a call")
    look(3_000)
    late.send(data(3, MESSAGE))
    assert late.answer(3)
