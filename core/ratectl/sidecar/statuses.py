"""Statuses of calls of gRPC that end without an answer: grpc/grpc, doc/statuscodes.md."""

from __future__ import annotations

from typing import Final

__all__ = [
    "INTERNAL", "INVALID_ARGUMENT", "NOT_FOUND", "RESOURCE_EXHAUSTED", "UNAVAILABLE",
    "UNIMPLEMENTED", "CallError",
]  # fmt: skip

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
