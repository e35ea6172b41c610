"""Fixtures of the tests of central limits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from valkey_server import ValkeyServer

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def own_valkey() -> Iterator[ValkeyServer]:
    """A server that a test may harm."""
    server = ValkeyServer.start()
    yield server
    server.stop()
