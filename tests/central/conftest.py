"""Fixtures of the tests of central limits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from valkey_server import ValkeyServer

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def shared_valkey() -> Iterator[ValkeyServer]:
    """One healthy server for each test process."""
    server = ValkeyServer.start()
    yield server
    server.stop()


@pytest.fixture
def valkey(shared_valkey: ValkeyServer) -> ValkeyServer:
    """The healthy server, empty."""
    shared_valkey.command("FLUSHALL")
    return shared_valkey


@pytest.fixture
def own_valkey() -> Iterator[ValkeyServer]:
    """A server that a test may harm."""
    server = ValkeyServer.start()
    yield server
    server.stop()
