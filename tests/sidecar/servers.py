"""The servers of HTTP/2 that a sidecar may use, for tests of each."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from ratectl.errors import UsageError
from ratectl.sidecar.sidecar import SERVERS, connection_type

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ratectl.sidecar.methods import Method

__all__ = ["ON_THE_LOOP", "connection", "needed"]

ON_THE_LOOP = SERVERS[:-1]
"""Servers that answer on one asyncio loop: all but grpcio."""


def needed(server: Any) -> Any:
    """Return the server. If it is not here, skip the test, or fail it in CI."""
    try:
        if server in ON_THE_LOOP:
            connection_type(server)
    except UsageError as error:
        if os.environ.get("RATECTL_REQUIRE_NGHTTP2") == "1":
            pytest.fail(str(error))
        pytest.skip(str(error))
    return server


def connection(server: Any, methods: Mapping[str, Method], **options: Any) -> Any:
    """Return a new connection, without a socket."""
    return connection_type(needed(server))(methods, **options)
