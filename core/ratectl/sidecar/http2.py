"""Calls of gRPC over HTTP/2, without a socket: bytes that arrive to bytes to send.

libnghttp2 does HTTP/2: frames, compression of headers, windows, and bounds against hostile callers.
Two modules bring it: ``http2_native`` uses the library of the system, in C, and ``http2_ngh2`` that
of the package ngh2, in Python. Sources: RFC 9113; github.com/grpc/grpc, doc/PROTOCOL-HTTP2.md.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from ratectl.agent.log import log
from ratectl.sidecar.grpc_frames import TYPE
from ratectl.sidecar.loop_connection import Speaker
from ratectl.sidecar.methods import MOST_BYTES
from ratectl.sidecar.statuses import INTERNAL, RESOURCE_EXHAUSTED, UNIMPLEMENTED, CallError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from ratectl.sidecar.grpc_frames import Fields
    from ratectl.sidecar.methods import Answer, Method

    Later = Callable[[Method, bytes, "GrpcConnection", int], Answer | None]
    """Function that calls a method, or begins to; None: it gives the answer later."""

__all__ = [
    "Answering", "CommonParts", "GrpcConnection", "MakeConnection", "always", "split",
    "tell_of_headers",
]  # fmt: skip

MOST_WAITING: Final = 1024 * 1024
"""Bytes of messages of one connection that have not arrived whole."""
RESETS: Final = (20_000, 5_000)
"""Calls that a peer may reset at once, and per second. Envoy resets each call that times out: a
slow moment must not end the connection."""
TYPES: Final = (TYPE, TYPE + b"+proto")
DRAINING: Final = b"draining"
LONGEST_CALL: Final = 90.0
"""Seconds that a connection may have open calls of which none ends."""
LONGEST_IDLE: Final = 3_600.0
"""Seconds that a connection may be open without a call."""

WRONG_TYPE: Final[Fields] = ((b":status", b"415"),)
NO_METHOD: Final = CallError(UNIMPLEMENTED, "there is no such method here")
COMPRESSED: Final = CallError(UNIMPLEMENTED, "compressed messages are not read")
NOT_WHOLE: Final = CallError(INTERNAL, "the call has not one whole message")
TOO_LARGE: Final = CallError(RESOURCE_EXHAUSTED, f"a message has {MOST_BYTES} bytes at most")
TOO_MANY: Final = CallError(RESOURCE_EXHAUSTED, "too many messages are not whole")


class GrpcConnection(Speaker, Protocol):
    """One connection of a server. Not for several threads."""

    def is_open(self, stream: int, /) -> bool:
        """Return True if the peer still waits for an answer."""

    def answer(self, stream: int, answer: Answer, /) -> None:
        """End a call; nothing happens if the peer has ended it."""


class CommonParts:
    """Parts of a connection that are the same in all modules."""

    is_mute: Final = False
    ended: int

    @property
    def calls(self) -> int:
        """Calls that are open."""
        raise NotImplementedError

    @property
    def patience(self) -> float:
        """Seconds that the connection may stay as it is."""
        return LONGEST_CALL if self.calls else LONGEST_IDLE

    @property
    def state(self) -> tuple[int, bool]:
        """Value that changes when a call ends, and when the first one begins."""
        return self.ended, bool(self.calls)

    def end_of_input(self) -> bool:
        """Return False: a peer that sends no more acknowledges nothing."""
        return False


def split(
    methods: Mapping[str, Method], streams: Collection[str]
) -> tuple[dict[bytes, Method], dict[bytes, Method]]:
    """Return the methods with one message, and those with many, by the bytes of their paths."""
    by_path = {path.encode(): method for path, method in methods.items()}
    return by_path, {path.encode(): by_path.pop(path.encode()) for path in streams}


class MakeConnection(Protocol):
    """Type of connections."""

    def __call__(
        self,
        methods: Mapping[str, Method],
        streams: Collection[str] = ...,
        later: Later | None = ...,
        may_wait: Callable[[], bool] = ...,
    ) -> GrpcConnection:
        """Begin a connection.

        :param methods: by their paths.
        :param streams: paths of methods with many messages in a call, of which each is answered.
        :param later: called with a method instead of the method itself, while it may have to wait.
        :param may_wait: returns True if so. Asked whenever bytes arrive.
        """


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


def always() -> bool:
    """Return True."""
    return True


@cache  # once in a process: anybody can send such headers
def tell_of_headers() -> None:
    """Log that nghttp2 has refused the headers of a call, which no method has seen."""
    log.warning(
        "a call with invalid headers was refused, and others may be. Envoy sends the name of its "
        "cluster as :authority, where `|` and `/` are invalid: write `authority` in envoy_grpc"
    )
