"""Fixtures shared by all tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from etcd_server import EtcdServer

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def etcd_server() -> Iterator[EtcdServer]:
    """One healthy etcd per test process: give every test an environment of its own in it."""
    server = EtcdServer.start()
    yield server
    server.stop()
