"""Bytes of callers, damaged by chance: messages, and whole connections."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import hpack
from google.protobuf.message import DecodeError
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from ratectl.sidecar.methods import MOST_BYTES
from ratectl.sidecar.statuses import CallError
from ratectl.sidecar.wire import WireError, decode_request
from sidecar.envoys_messages import descriptor, request
from sidecar.protobuf_oracle import message
from sidecar.servers import connection as new_connection
from sidecar.test_rls_attacks import HEADERS, MESSAGE, PREFACE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sidecar.test_rls_core import Twins

__all__ = ["connection", "messages"]

DOMAINS = ("shop", "shop/windows", "shadow", "slots", "daily", "none", "")
KEYS = ("client", "item", "tier", "x")
VALUES = ("a", "gold", "", "é", "long" * 40)


def damage(rnd: random.Random, data: bytes) -> bytes:
    """Return bytes with a few changes: of single bytes, of parts, and of the length."""
    found = bytearray(data)
    for _ in range(rnd.choice((0, 1, 1, 2, 5))):
        at = rnd.randrange(len(found) + 1)
        kind = rnd.randrange(5)
        if kind == 0 and at < len(found):
            found[at] = rnd.choice((0, 1, 0x7F, 0x80, 0xFF, rnd.randrange(256)))
        elif kind == 1:
            del found[at : at + rnd.randrange(1, 9)]
        elif kind == 2:
            found[at:at] = rnd.randbytes(rnd.randrange(1, 9))
        elif kind == 3:
            found[at:at] = found[at : at + rnd.randrange(40)]
        elif kind == 4:
            del found[at:]
    return bytes(found)


def messages(seed: int, twins: Twins, count: int) -> int:
    """Require that damaged requests mean the same to all; return how many were still requests."""
    rnd = random.Random(seed)
    raw, understood = message("Request", "raw"), 0
    for _ in range(count):
        entries = [(rnd.choice(KEYS), rnd.choice(VALUES)) for _ in range(rnd.randrange(4))]
        hits = rnd.choice((None, None, 0, 3, 2**63))
        whole = request(
            rnd.choice(DOMAINS),
            *[descriptor(*entries, hits=hits) for _ in range(rnd.choice((1, 1, 1, 2)))],
            hits=rnd.choice((0, 0, 2)),
        )
        data = damage(rnd, whole.SerializeToString())
        twins.agree(data)
        try:
            raw.FromString(data)
        except DecodeError:
            try:
                decode_request(data)
            except WireError:
                continue
            raise AssertionError(f"seed {seed}: {data!r} is no message") from None
        understood += 1
        if rnd.random() < 0.1:
            twins.clock.advance(rnd.choice((0.01, 1, 100)))
    return understood


def connection(seed: int, server: str) -> int:
    """Feed a damaged connection in pieces, which must not raise; return the calls it has made."""
    rnd = random.Random(seed)
    made = []

    def method(data: bytes) -> bytes:
        made.append(data)
        if len(data) % 3 == 0:
            raise CallError(3, "no")
        return data

    path = HEADERS[3][1]
    streams = [path] if rnd.random() < 0.3 else ()
    http2 = new_connection(server, {path: method}, streams=streams)
    parts = [PREFACE, SettingsFrame(0, settings=_settings(rnd)).serialize()]
    parts += [part.serialize() for part in _frames(rnd)]
    if rnd.random() < 0.7:
        at = rnd.randrange(1, len(parts))
        parts[at] = damage(rnd, parts[at])
    data = b"".join(parts)
    while data and not http2.is_over:
        size = rnd.choice((1, 5, 9, 40, 10_000))
        http2.feed(data[:size])
        data = data[size:]
        if rnd.random() < 0.05:
            http2.drain()
        if rnd.random() < 0.8:
            http2.to_send()
    http2.to_send()
    assert http2.calls <= 256
    assert 0 <= http2.waiting <= http2.calls * (MOST_BYTES + 5)
    assert len(http2._streamed) <= http2.calls
    return len(made)


def _settings(rnd: random.Random) -> dict[int, int]:
    return {4: rnd.choice((0, 1, 100, 65_535, 2**31 - 1)), 1: rnd.choice((0, 4_096))}


def _frames(rnd: random.Random) -> Iterator[Any]:
    """Yield the frames of calls, most of them whole, and others in between."""
    stream = 1
    for _ in range(rnd.randrange(1, 30)):
        yield _headers(rnd, stream)
        if rnd.random() < 0.3:
            yield _other(rnd, rnd.choice((stream, stream, max(1, stream - 2))))
        content = rnd.choice((MESSAGE, MESSAGE, MESSAGE, MESSAGE[:7], MESSAGE[7:], b""))
        for part in (content[:9], content[9:]) if rnd.random() < 0.3 else (content,):
            frame = DataFrame(stream, part)
            _flag(rnd, frame, "END_STREAM", 0.1 if part is not content else 0.9)
            yield frame
        if rnd.random() < 0.1:
            yield _other(rnd, stream)
        stream += rnd.choice((2, 2, 2, 2, 4, 2, 2, 2, 2, 2, 1, 0))


def _headers(rnd: random.Random, stream: int) -> HeadersFrame:
    pairs = [pair for pair in HEADERS if rnd.random() < 0.995]
    frame = HeadersFrame(stream, hpack.Encoder().encode(pairs, huffman=False))
    _flag(rnd, frame, "END_HEADERS", 0.995)
    _flag(rnd, frame, "END_STREAM", 0.05)
    return frame


def _other(rnd: random.Random, stream: int) -> Frame:
    return rnd.choice(  # type: ignore[no-any-return]
        (
            RstStreamFrame(stream, error_code=rnd.randrange(20)),
            RstStreamFrame(stream, error_code=8),
            WindowUpdateFrame(rnd.choice((0, stream)), window_increment=1_000),
            WindowUpdateFrame(stream, window_increment=2**31 - 1),
            PingFrame(0, opaque_data=b"draining"),
            PingFrame(0, opaque_data=b"draining"),
            SettingsFrame(0, settings=_settings(rnd)),
            PriorityFrame(stream, depends_on=0, stream_weight=3),
            _headers(rnd, stream),
            ContinuationFrame(stream, b"x"),
        )
    )


def _flag(rnd: random.Random, frame: Frame, name: str, chance: float) -> None:
    if rnd.random() < chance:
        frame.flags.add(name)
