"""Methods of the sidecar's gRPC server, as functions from bytes to bytes, for any server."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Final

from ratectl.agent.log import log
from ratectl.sidecar.health import Health, UnknownService
from ratectl.sidecar.questions import InvalidRequest
from ratectl.sidecar.service import METHOD, SERVICE, RateLimitService
from ratectl.sidecar.wire import WireError

if TYPE_CHECKING:
    from ratectl.agent import Agent

__all__ = [
    "INTERNAL",
    "INVALID_ARGUMENT",
    "MOST_BYTES",
    "MOST_HEADERS",
    "MOST_MESSAGES",
    "MOST_STREAMS",
    "NOT_FOUND",
    "RESOURCE_EXHAUSTED",
    "TOO_MANY_MESSAGES",
    "UNAVAILABLE",
    "UNIMPLEMENTED",
    "Answer",
    "CallError",
    "Method",
    "Methods",
    "answer_of",
]

Method = Callable[[bytes], bytes]

MOST_BYTES: Final = 64 * 1024
"""Largest message that servers read."""
MOST_HEADERS: Final = 16 * 1024
"""Most bytes of the headers of a call."""
MOST_STREAMS: Final = 256
"""Calls of one connection that may be open at once."""
MOST_MESSAGES: Final = 32
"""Messages of one call, for methods with many."""

REFLECTION: Final = tuple(
    f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo"
    for version in ("v1", "v1alpha")
)

INVALID_ARGUMENT: Final = 3
NOT_FOUND: Final = 5
RESOURCE_EXHAUSTED: Final = 8
UNIMPLEMENTED: Final = 12
INTERNAL: Final = 13
UNAVAILABLE: Final = 14


class CallError(Exception):
    """A call that ends without an answer.

    :param code: status of gRPC.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


TOO_MANY_MESSAGES: Final = CallError(
    RESOURCE_EXHAUSTED, f"a call has {MOST_MESSAGES} messages at most"
)

Answer = bytes | CallError


def answer_of(method: Method, message: bytes) -> Answer:
    """Return the answer of a method, or its error. Never raises."""
    try:
        return method(message)
    except CallError as error:
        return error
    except Exception:  # noqa: BLE001  the caller decides what a failure means
        log.exception("a call of the sidecar failed")
        return CallError(INTERNAL, "the limiter failed: see its log")


class Methods:
    """Methods that a sidecar serves: the Rate Limit Service, health checks, and reflection."""

    def __init__(self, agent: Agent) -> None:
        self.service = RateLimitService(agent)
        self.health = Health(agent, (SERVICE,))
        self.by_path: Mapping[str, Method] = {
            METHOD: self._decide,
            Health.METHOD: self._check,
            **dict.fromkeys(REFLECTION, _reflect),
        }
        self.streams: Collection[str] = REFLECTION
        """Methods with many messages in a call, of which each is answered."""
        self.waiting: Collection[str] = (METHOD,)
        """Methods that wait for a server where that counts limits (``across: redis``)."""

    def _decide(self, data: bytes) -> bytes:
        try:
            return self.service.decide(data)
        except (WireError, InvalidRequest) as error:
            raise CallError(INVALID_ARGUMENT, str(error)) from None

    def _check(self, data: bytes) -> bytes:
        try:
            return self.health.check(data)
        except WireError as error:
            raise CallError(INVALID_ARGUMENT, str(error)) from None
        except UnknownService as error:
            raise CallError(NOT_FOUND, str(error)) from None


def _reflect(data: bytes) -> bytes:
    from ratectl.sidecar.reflection import reflect  # most sidecars are never asked

    return reflect(data)
