"""Calls of gRPC on one connection, by the system's libnghttp2: see csrc/_http2.c."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ratectl.sidecar._http2 import LONGEST_PATH, Connection
from ratectl.sidecar.grpc_frames import error_headers
from ratectl.sidecar.http2 import (
    COMPRESSED,
    MOST_WAITING,
    NO_METHOD,
    NOT_WHOLE,
    TOO_LARGE,
    TOO_MANY,
    WRONG_TYPE,
    CommonParts,
    always,
    split,
    tell_of_headers,
)
from ratectl.sidecar.methods import MOST_BYTES, MOST_HEADERS, MOST_STREAMS, error_of
from ratectl.sidecar.statuses import CallError
from ratectl.sidecar.streamed_calls import StreamedCalls

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from typing import Self

    from ratectl.sidecar.http2 import Later
    from ratectl.sidecar.methods import Answer, Method

__all__ = ["NativeConnection"]

_REFUSALS: Final = {
    "compressed": COMPRESSED,
    "not whole": NOT_WHOLE,
    "too large": TOO_LARGE,
    "too many": TOO_MANY,
}


class NativeConnection(Connection, CommonParts):
    """One connection of a server: see ``ratectl.sidecar.http2.GrpcConnection``.

    C answers the usual calls. It calls the methods with an underscore for all others.
    """

    _streamed: StreamedCalls

    def __new__(
        cls,
        methods: Mapping[str, Method],
        streams: Collection[str] = (),
        later: Later | None = None,
        may_wait: Callable[[], bool] = always,
    ) -> Self:
        by_path, streamed = split(methods, streams)
        if any(len(path) > LONGEST_PATH for path in (*by_path, *streamed)):
            raise ValueError(f"a path has {LONGEST_PATH} bytes at most")
        self = super().__new__(
            cls, by_path, later, may_wait, MOST_BYTES, MOST_HEADERS, MOST_STREAMS, MOST_WAITING
        )
        self._streamed = StreamedCalls(self, streamed)
        return self

    def answer(self, stream: int, answer: Answer) -> None:
        """End a call; nothing happens if the peer has ended it."""
        if isinstance(answer, CallError):
            self.send_headers(stream, error_headers(answer))
        else:
            self.send(stream, answer)

    # Called by C --------------------------------------------------------------------------------

    def _begin(self, stream: int, path: bytes, is_post: bool, is_grpc: bool, is_end: bool) -> bool:
        """Begin an unusual call. Return True if it has many messages."""
        if not is_grpc:
            self.send_headers(stream, WRONG_TYPE)
        elif is_post and self._streamed.begin(stream, path, is_end=is_end):
            return True
        else:
            self.answer(stream, NO_METHOD)
        return False

    def _add(self, stream: int, data: bytes) -> None:
        self._streamed.add(stream, data, is_end=False)

    def _end(self, stream: int) -> None:
        self._streamed.end(stream)

    def _closed(self, stream: int) -> None:
        self._streamed.closed(stream)

    def _failed(self, stream: int, error: Exception) -> None:
        self.answer(stream, error_of(error))

    def _refuse(self, stream: int, why: str) -> None:
        self.answer(stream, _REFUSALS[why])

    def _refused_headers(self, _stream: int) -> None:
        tell_of_headers()
