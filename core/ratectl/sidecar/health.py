"""gRPC's health checks: github.com/grpc/grpc, doc/health-checking.md."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ratectl.sidecar.statuses import NOT_FOUND, CallError
from ratectl.sidecar.wire import decode_text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ratectl.agent import Agent

__all__ = ["Health", "UnknownService"]

_SERVING: Final = b"\x08\x01"
_NOT_SERVING: Final = b"\x08\x02"


class UnknownService(CallError):
    """A service that this server does not have."""

    def __init__(self, message: str) -> None:
        super().__init__(NOT_FOUND, message)


class Health:
    """Says whether requests are decided by a generation."""

    METHOD: Final = "/grpc.health.v1.Health/Check"

    def __init__(self, agent: Agent, services: Iterable[str]) -> None:
        self._agent = agent
        self._services = frozenset(["", *services])
        self.is_draining = False
        """True if the server is to end: callers should go elsewhere."""

    @property
    def is_serving(self) -> bool:
        """True if a generation is in force, and the server is not to end."""
        return bool(self._agent.generation) and not self.is_draining

    def check(self, data: bytes) -> bytes:
        """Answer a ``HealthCheckRequest``.

        :raises WireError: the bytes are no request.
        :raises UnknownService: it names another service.
        """
        name = decode_text(data)
        if name not in self._services:
            raise UnknownService(f"there is no service {name!r:.100} here")
        return _SERVING if self.is_serving else _NOT_SERVING
