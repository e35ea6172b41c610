"""Methods of the sidecar's gRPC server, as functions from bytes to bytes, for any server."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Final

from ratectl.agent.log import log
from ratectl.sidecar.health import Health
from ratectl.sidecar.service import METHOD, SERVICE, RateLimitService
from ratectl.sidecar.statuses import INTERNAL, RESOURCE_EXHAUSTED, CallError

if TYPE_CHECKING:
    from ratectl.agent import Agent

__all__ = [
    "MOST_BYTES", "MOST_HEADERS", "MOST_MESSAGES", "MOST_STREAMS", "TOO_MANY_MESSAGES", "Answer",
    "Method", "Methods", "answer_of", "error_of",
]  # fmt: skip

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

TOO_MANY_MESSAGES: Final = CallError(
    RESOURCE_EXHAUSTED, f"a call has {MOST_MESSAGES} messages at most"
)

Answer = bytes | CallError


def answer_of(method: Method, message: bytes) -> Answer:
    """Return the answer of a method, or its error. Never raises."""
    try:
        return method(message)
    except Exception as error:  # noqa: BLE001  the caller decides what a failure means
        return error_of(error)


def error_of(error: Exception) -> CallError:
    """Return how a call ends whose method has raised an error."""
    if isinstance(error, CallError):
        return error
    log.error("a call of the sidecar failed", exc_info=error)
    return CallError(INTERNAL, "the limiter failed: see its log")


class Methods:
    """Methods that a sidecar serves: the Rate Limit Service, health checks, and reflection."""

    def __init__(self, agent: Agent) -> None:
        self.service = RateLimitService(agent)
        self.health = Health(agent, (SERVICE,))
        self.by_path: Mapping[str, Method] = {
            METHOD: self.service.decide,
            Health.METHOD: self.health.check,
            **dict.fromkeys(REFLECTION, _reflect),
        }
        self.streams: Collection[str] = REFLECTION
        """Methods with many messages in a call, of which each is answered."""
        self.waiting: Collection[str] = (METHOD,)
        """Methods that wait for a server where that counts limits (``across: redis``)."""


def _reflect(data: bytes) -> bytes:
    from ratectl.sidecar.reflection import reflect  # most sidecars are never asked

    return reflect(data)
