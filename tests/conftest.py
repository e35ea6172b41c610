"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import profiles  # noqa: F401 - importing it loads the profile of property tests
from etcd_server import EtcdServer

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def etcd_server() -> Iterator[EtcdServer]:
    """One healthy etcd per test process: give every test an environment of its own in it."""
    server = EtcdServer.start()
    yield server
    server.stop()


@pytest.fixture
def real_log() -> Path:
    """A recorded log that is not ours to ship: tests of it run where it lies beside the project.

    RATECTL_REQUIRE_LOG=1 makes its absence a failure.
    """
    log = Path(__file__).parents[2] / "shared" / "data" / "access-2015-05.log.gz"
    if not log.exists():
        reason = f"the recorded log is not at {log}"
        if os.environ.get("RATECTL_REQUIRE_LOG") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return log
