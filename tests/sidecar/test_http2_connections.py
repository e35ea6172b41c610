"""Connections without a socket: bytes that arrive to bytes to send, by each server on the loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import hpack
import pytest
from hyperframe.frame import (
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
)

from ratectl.sidecar.service import METHOD
from ratectl.sidecar.statuses import CallError
from sidecar.servers import ON_THE_LOOP, connection
from sidecar.test_rls_attacks import HEADERS, MESSAGE, PREFACE, data, headers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ratectl.sidecar.methods import Method

each_server = pytest.mark.parametrize("server", ON_THE_LOOP)


def recording(made: list[bytes]) -> Method:
    """Return a method that answers with the message, and puts it into a list."""

    def method(message: bytes) -> bytes:
        made.append(message)
        return message

    return method


def frames_of(sent: bytes) -> Iterator[Frame]:
    while sent:
        frame, length = Frame.parse_frame_header(memoryview(sent[:9]))
        frame.parse_body(memoryview(sent[9 : 9 + length]))
        sent = sent[9 + length :]
        yield frame


def hpacked(sent: bytes) -> bytes:
    """Return the names and values of all headers that were sent."""
    decoder, found = hpack.Decoder(), b""
    for frame in frames_of(sent):
        if isinstance(frame, HeadersFrame):
            found += b"\n".join(b": ".join(each) for each in decoder.decode(frame.data, raw=True))
    return found


@each_server
@pytest.mark.parametrize("at", [0, 1, 5, 6, len(MESSAGE)])
def test_a_message_may_come_in_parts(at: int, server: Any) -> None:
    found: list[bytes] = []

    def method(message: bytes) -> bytes:
        found.append(message)
        return b""

    fed = connection(server, {METHOD: method})
    fed.feed(PREFACE + SettingsFrame(0).serialize() + headers(1).serialize())
    for part, end in ((MESSAGE[:at], False), (MESSAGE[at:], True)):
        assert not found
        fed.feed(data(1, part, end=end).serialize())
    assert found == [MESSAGE[5:]]


@each_server
def test_a_call_that_fails_is_told_and_others_go_on(
    server: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def method(message: bytes) -> bytes:
        if not message:
            raise ZeroDivisionError
        return message

    fed = connection(server, {METHOD: method})
    fed.feed(PREFACE + SettingsFrame(0).serialize())
    fed.feed(headers(1).serialize() + data(1, bytes(5)).serialize())
    assert b"the limiter failed: see its log" in hpacked(fed.to_send())
    fed.feed(headers(3).serialize() + data(3, MESSAGE).serialize())
    assert MESSAGE in fed.to_send()
    (told,) = caplog.records
    assert told.exc_info is not None
    assert told.exc_info[0] is ZeroDivisionError


@each_server
@pytest.mark.parametrize("is_waiting", [False, True])
def test_methods_that_may_wait_are_called_by_another(server: Any, is_waiting: bool) -> None:
    """The connection asks if methods may wait, whenever bytes arrive."""
    asked: list[bytes] = []

    def later(method: Any, message: bytes, _connection: object, _stream: int) -> Any:
        asked.append(message)
        return method(message)

    fed = connection(server, {METHOD: bytes}, later=later, may_wait=lambda: is_waiting)
    fed.feed(PREFACE + SettingsFrame(0).serialize())
    fed.feed(headers(1).serialize() + data(1, MESSAGE).serialize())
    assert MESSAGE in fed.to_send()
    assert asked == [MESSAGE[5:]] * is_waiting


@each_server
def test_an_error_of_any_length_arrives(server: Any) -> None:
    def method(message: bytes) -> bytes:
        raise CallError(3, "ü" * 70_000)

    fed = connection(server, {METHOD: method})
    fed.feed(PREFACE + SettingsFrame(0).serialize())
    fed.feed(headers(1).serialize() + data(1, MESSAGE).serialize())
    assert b"grpc-message: " + b"%C3%BC" * 1_000 in hpacked(fed.to_send())
    assert fed.calls == 0


@each_server
def test_messages_that_are_not_whole_have_a_bound_together(server: Any) -> None:
    """One that is whole is answered all the same."""
    fed = connection(server, {METHOD: bytes})
    fed.feed(PREFACE + SettingsFrame(0).serialize())
    for n in range(1, 2 * 200, 2):
        fed.feed(headers(n).serialize() + data(n, b"\0" * 16_000, end=False).serialize())
        fed.to_send()
    assert 1_000_000 < fed.waiting < 1_100_000
    content = b"\0" + (15_000).to_bytes(4, "big") + b"whole" * 3_000
    fed.feed(headers(401).serialize() + data(401, content).serialize())
    assert content in fed.to_send()
    assert not fed.is_over


@each_server
@pytest.mark.parametrize(
    "field", [("x-note", "a\x01b"), ("x note", "a"), ("connection", "close"), ("host", "a/b")]
)
def test_a_call_with_invalid_headers_is_reset(server: Any, field: tuple[str, str]) -> None:
    """Also one with so many that they would be too many."""
    made: list[bytes] = []
    fed = connection(server, {METHOD: recording(made)})
    fed.feed(PREFACE + SettingsFrame(0).serialize())
    encoder = hpack.Encoder()
    for stream, times in ((1, 1), (3, 600)):
        frame = HeadersFrame(stream, encoder.encode([*HEADERS, *[field] * times]))
        frame.flags.add("END_HEADERS")
        fed.feed(frame.serialize() + data(stream, MESSAGE).serialize())
    resets = [each for each in frames_of(fed.to_send()) if isinstance(each, RstStreamFrame)]
    assert [(each.stream_id, each.error_code) for each in resets] == [(1, 1), (3, 1)]
    assert made == []
    assert not fed.is_over


@each_server
def test_a_call_that_comes_with_the_answer_to_the_drain_is_answered(server: Any) -> None:
    """GOAWAY tells which calls the peer may repeat elsewhere: not one that was charged."""
    made: list[bytes] = []
    fed = connection(server, {METHOD: recording(made)})
    fed.feed(PREFACE + SettingsFrame(0).serialize())
    fed.drain()
    fed.to_send()
    acknowledged = PingFrame(0, opaque_data=b"draining")
    acknowledged.flags.add("ACK")
    fed.feed(b"".join(each.serialize() for each in (acknowledged, headers(3), data(3, MESSAGE))))
    sent = fed.to_send()
    (end,) = (each for each in frames_of(sent) if isinstance(each, GoAwayFrame))
    assert end.last_stream_id == 3
    assert made
    assert MESSAGE in sent


@each_server
def test_a_drained_connection_ends_with_its_last_call(server: Any) -> None:
    """The peer keeps its connection open: the end does not wait for it."""
    fed = connection(server, {METHOD: bytes})
    fed.feed(PREFACE + SettingsFrame(0).serialize() + headers(1).serialize())
    fed.drain()
    fed.to_send()
    acknowledged = PingFrame(0, opaque_data=b"draining")
    acknowledged.flags.add("ACK")
    fed.feed(acknowledged.serialize())
    fed.to_send()
    assert not fed.is_over, "a call is open"
    fed.feed(data(1, MESSAGE).serialize())
    assert fed.to_send()
    assert fed.is_over
