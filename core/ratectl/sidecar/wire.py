"""Messages of the Rate Limit Service as bytes: protobuf, read and written without generated code.

``rls.proto`` has the numbers and types of the fields. Unknown fields pass. Source: the encoding of
protocol buffers, protobuf.dev/programming-guides/encoding. Two things differ from other readers:

- A text that is not UTF-8 is read all the same, its other bytes as lone surrogates. Envoy passes
  the bytes of headers on as they are: an error here would let clients evade their limits where
  Envoy admits on errors.
- Messages have bounds: see ``MOST_DESCRIPTORS`` and ``MOST_ENTRIES``.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from ratectl.sidecar.messages import Descriptor, Override, Request
from ratectl.sidecar.statuses import INVALID_ARGUMENT, CallError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ratectl.sidecar.messages import Limit, Response, Status

__all__ = [
    "MOST_DESCRIPTORS",
    "MOST_ENTRIES",
    "WireError",
    "decode_request",
    "decode_text",
    "encode_metadata",
    "encode_response",
    "encode_text",
]

MOST_DESCRIPTORS: Final = 64
"""Most descriptors of a request."""
MOST_ENTRIES: Final = 64
"""Most entries of a descriptor."""

_VARINT, _FIXED64, _BYTES, _GROUP, _END_GROUP, _FIXED32 = range(6)
_MOST_NESTED: Final = 100
"""Most groups in one another."""
_MASK32: Final = (1 << 32) - 1
_MASK64: Final = (1 << 64) - 1


class WireError(CallError):
    """Bytes that are no message."""

    def __init__(self, message: str) -> None:
        super().__init__(INVALID_ARGUMENT, message)


# Reading ----------------------------------------------------------------------------------------


def decode_request(data: bytes) -> Request:
    """Read a request.

    :raises WireError: the bytes are no such message, or it is too large.
    """
    domain, hits = "", 0
    descriptors: list[Descriptor] = []
    for number, kind, value, end in _fields(data, 0, len(data)):
        if number == 1 and kind == _BYTES:
            domain = _text(data, value, end)
        elif number == 2 and kind == _BYTES:
            if len(descriptors) == MOST_DESCRIPTORS:
                raise WireError(f"more than {MOST_DESCRIPTORS} descriptors")
            descriptors.append(_descriptor(data, value, end))
        elif number == 3 and kind == _VARINT:
            hits = value & _MASK32
    return Request(domain, tuple(descriptors), hits)


def decode_text(data: bytes) -> str:
    """Read a message whose field 1 is a text.

    :raises WireError: the bytes are no such message.
    """
    text = ""
    for number, kind, value, end in _fields(data, 0, len(data)):
        if number == 1 and kind == _BYTES:
            text = _text(data, value, end)
    return text


def _descriptor(data: bytes, at: int, end: int) -> Descriptor:
    entries: list[tuple[str, str]] = []
    hits: int | None = None
    override: Override | None = None
    is_negative = False
    for number, kind, value, stop in _fields(data, at, end):
        if number == 1 and kind == _BYTES:
            if len(entries) == MOST_ENTRIES:
                raise WireError(f"more than {MOST_ENTRIES} entries of a descriptor")
            entries.append(_entry(data, value, stop))
        elif number == 2 and kind == _BYTES:
            override = _override(data, value, stop, override)
        elif number == 3 and kind == _BYTES:
            hits = _wrapped(data, value, stop, hits)
        elif number == 4 and kind == _VARINT:
            is_negative = value != 0
    return Descriptor(tuple(entries), hits, is_negative, override)


def _entry(data: bytes, at: int, end: int) -> tuple[str, str]:
    key = text = ""
    for number, kind, value, stop in _fields(data, at, end):
        if number == 1 and kind == _BYTES:
            key = _text(data, value, stop)
        elif number == 2 and kind == _BYTES:
            text = _text(data, value, stop)
    return key, text


def _override(data: bytes, at: int, end: int, before: Override | None) -> Override:
    """Read an override into the one before: parts of one message may come apart."""
    requests, unit, multiplier = before or Override(0, 0)
    for number, kind, value, stop in _fields(data, at, end):
        if number == 1 and kind == _VARINT:
            requests = value & _MASK32
        elif number == 2 and kind == _VARINT:
            unit = _signed32(value)
        elif number == 3 and kind == _BYTES:
            wrapped = _wrapped(data, value, stop, multiplier)
            multiplier = wrapped & _MASK32
    return Override(requests, unit, multiplier)


def _wrapped(data: bytes, at: int, end: int, before: int | None) -> int:
    """Read a number in a message of its own."""
    found = before or 0
    for number, kind, value, _ in _fields(data, at, end):
        if number == 1 and kind == _VARINT:
            found = value
    return found


def _fields(data: bytes, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield the fields of a message: number, kind, and its value; or its begin and end.

    Groups and numbers of fixed size are passed over: no message here has such fields.
    """
    while at < end:
        tag, at = _varint(data, at, end, 5)
        number, kind = tag >> 3, tag & 7
        if not number or tag > _MASK32:
            raise WireError("a field without a number")
        if kind == _VARINT:
            value, at = _varint(data, at, end)
            yield number, kind, value, at
        elif kind == _BYTES:
            begin, at = _span(data, at, end)
            yield number, kind, begin, at
        else:
            at = _after(data, at, end, number, kind)


def _after(data: bytes, at: int, end: int, number: int, kind: int) -> int:
    """Return where a field ends that is passed over."""
    open_groups: list[int] = []
    while True:
        if kind == _VARINT:
            at = _varint(data, at, end)[1]
        elif kind == _BYTES:
            at = _span(data, at, end)[1]
        elif kind in (_FIXED64, _FIXED32):
            at += 8 if kind == _FIXED64 else 4
        elif kind == _GROUP and len(open_groups) < _MOST_NESTED:
            open_groups.append(number)
        elif kind != _END_GROUP or not open_groups or open_groups.pop() != number:
            raise WireError("a field of no known kind")
        if at > end:
            raise WireError("the message ends within a field")
        if not open_groups:
            return at
        tag, at = _varint(data, at, end, 5)
        number, kind = tag >> 3, tag & 7
        if not number or tag > _MASK32:
            raise WireError("a field without a number")


def encode_text(text: str) -> bytes:
    """Return the bytes of a text that was read."""
    return text.encode("utf-8", "surrogateescape")


def _varint(data: bytes, at: int, end: int, most: int = 10) -> tuple[int, int]:
    """Return a number of at most 64 bits, and where it ends.

    :param most: how many bytes it may have.
    """
    value = shift = 0
    while at < end:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & _MASK64, at
        shift += 7
        if shift == 7 * most:
            raise WireError(f"a number of more than {most} bytes")
    raise WireError("the message ends within a number")


def _span(data: bytes, at: int, end: int) -> tuple[int, int]:
    length, at = _varint(data, at, end, 5)
    if length > end - at:
        raise WireError("the message ends within a field")
    return at, at + length


def _text(data: bytes, at: int, end: int) -> str:
    return data[at:end].decode("utf-8", "surrogateescape")


def _signed32(value: int) -> int:
    value &= _MASK32
    return value - (1 << 32) if value >> 31 else value


# Writing ----------------------------------------------------------------------------------------


def encode_response(response: Response) -> bytes:
    """Write a response."""
    parts = [_number(1, response.code)]
    parts += [_message(2, _status(status)) for status in response.statuses]
    parts += [encode_header(name, value) for name, value in response.headers]
    if response.metadata:
        parts.append(encode_metadata(response.metadata))
    return b"".join(parts)


def _status(status: Status) -> bytes:
    parts = [_number(1, status.code)]
    if status.limit is not None:
        parts.append(encode_limit(status.limit))
    parts.append(_number(3, min(status.remaining, _MASK32)))
    if status.until_reset is not None:
        seconds, nanos = divmod(status.until_reset, 1_000_000_000)
        parts.append(_message(4, _number(1, seconds) + _number(2, nanos)))
    return b"".join(parts)


def encode_header(name: str, value: str) -> bytes:
    """Write a field of a response: a header."""
    return _message(3, _string(1, name) + _string(2, value))


def encode_metadata(metadata: Mapping[str, str | int]) -> bytes:
    """Write a field of a response: what Envoy's log can say."""
    return _message(6, _struct(metadata))


@lru_cache(1_024)
def encode_limit(limit: Limit) -> bytes:
    """Write a field of a status: the limit."""
    parts = [_number(1, min(limit.requests, _MASK32)), _number(2, limit.unit)]
    parts.append(_string(3, limit.name))
    if limit.multiplier is not None:
        parts.append(_message(4, _number(1, limit.multiplier)))
    return _message(2, b"".join(parts))


def _struct(values: Mapping[str, str | int]) -> bytes:
    """Write a ``google.protobuf.Struct`` of texts and numbers."""
    entries = (_string(1, name) + _message(2, _value(value)) for name, value in values.items())
    return b"".join([_message(1, entry) for entry in entries])


def _value(value: Any) -> bytes:
    if isinstance(value, str):
        return _message(3, _utf8(value))
    return b"\x11" + struct.pack("<d", value)


def _number(field: int, value: int) -> bytes:
    return _key(field, _VARINT) + _as_varint(value) if value else b""


def _string(field: int, text: str) -> bytes:
    return _message(field, _utf8(text)) if text else b""


def _message(field: int, content: bytes) -> bytes:
    return _key(field, _BYTES) + _as_varint(len(content)) + content


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "replace")


def _key(field: int, kind: int) -> bytes:
    return bytes((field << 3 | kind,))


def _as_varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)
