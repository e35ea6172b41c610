"""Answers to refused calls of gRPC: a status with ``google.rpc.RetryInfo``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import grpc

from ratectl.errors import Limited
from ratectl.stores.protobuf import Messages

if TYPE_CHECKING:
    from ratectl.engine.decision import Decision

__all__ = ["MESSAGES", "refusal_of"]

MESSAGES: Final = Messages(
    "ratectl.contrib.grpc",
    """
Status: code 1 int32, message 2 string, details 3 Any*
Any: type_url 1 string, value 2 bytes
RetryInfo: retry_delay 1 Duration
Duration: seconds 1 int64, nanos 2 int32
""",
)
"""Messages of google.rpc and google.protobuf, with their field numbers."""

_RETRY_INFO: Final = "type.googleapis.com/google.rpc.RetryInfo"
_NS: Final = 1_000_000_000


def refusal_of(decision: Decision) -> tuple[grpc.StatusCode, str, tuple[tuple[str, Any], ...]]:
    """Return the code, the details and the trailing metadata of a refused call."""
    message = str(Limited(decision))
    if decision.reason == "error":
        return grpc.StatusCode.UNAVAILABLE, message, ()
    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    wait = decision.retry_after_ns
    if not wait:
        return code, message, ()
    trailers = (
        ("retry-after", str(-(-wait // _NS))),
        ("grpc-status-details-bin", _status(code.value[0], message, wait)),
    )
    return code, message, trailers


def _status(code: int, message: str, wait: int) -> bytes:
    """Return a google.rpc.Status that tells when to retry. ``wait``: nanoseconds."""
    make: Any = MESSAGES.message_class
    delay = make("Duration")(seconds=wait // _NS, nanos=wait % _NS)
    info = make("RetryInfo")(retry_delay=delay).SerializeToString()
    detail = make("Any")(type_url=_RETRY_INFO, value=info)
    status: bytes = make("Status")(code=code, message=message, details=[detail]).SerializeToString()
    return status
