"""Messages and headers of gRPC over HTTP/2: github.com/grpc/grpc, doc/PROTOCOL-HTTP2.md."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import quote

if TYPE_CHECKING:
    from ratectl.sidecar.statuses import CallError

__all__ = [
    "HEADERS", "PREFIX", "TRAILERS", "TYPE", "Fields", "error_headers", "error_trailers",
    "framed", "prefix",
]  # fmt: skip

Fields = tuple[tuple[bytes, bytes], ...]

TYPE: Final = b"application/grpc"
HEADERS: Final[Fields] = ((b":status", b"200"), (b"content-type", TYPE))
TRAILERS: Final[Fields] = ((b"grpc-status", b"0"),)
_LONGEST_TEXT: Final = 1_000
"""Characters of an error: headers have a bound."""
PREFIX: Final = 5
"""Bytes before a message: a flag of compression, and the length."""


def prefix(length: int) -> bytes:
    """Return what comes before a message that is not compressed."""
    return b"\0" + length.to_bytes(PREFIX - 1) if length > 0 else bytes(PREFIX)


def framed(message: bytes) -> bytes:
    """Return a message as it is sent."""
    return prefix(len(message)) + message


def error_trailers(error: CallError) -> Fields:
    """Return the end of a call whose headers were sent."""
    message = quote(str(error)[:_LONGEST_TEXT], safe=" !#$&'()*+,/:;=?@[]<>^`{|}~\"").encode()
    return (b"grpc-status", str(error.code).encode()), (b"grpc-message", message)


def error_headers(error: CallError) -> Fields:
    """Return the answer to a call that ends without one."""
    return (*HEADERS, *error_trailers(error))
