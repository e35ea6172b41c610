"""Fixtures shared by all tests."""

from __future__ import annotations

import gc
import os
import signal
import uuid
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import profiles  # noqa: F401 - importing it loads the profile of property tests
from etcd_server import EtcdServer
from ratectl.stores import open_store
from valkey_server import ValkeyServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ratectl.stores.base import Store


def pytest_configure(config: pytest.Config) -> None:
    # A shell that starts the tests in the background makes them and their children ignore these.
    for number, usual in (
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGQUIT, signal.SIG_DFL),
        (signal.SIGHUP, signal.SIG_DFL),
    ):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, usual)


def pytest_collection_finish() -> None:
    # 18,000 tests are half a million objects, which every later collection would visit.
    gc.collect()
    gc.freeze()


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print what tests have measured: see ``figure``."""
    figures = [
        text
        for report in terminalreporter.getreports("passed")
        for name, text in report.user_properties
        if name == "figure"
    ]
    if figures:
        terminalreporter.section("figures")
        for text in figures:
            terminalreporter.line(text)


@pytest.fixture
def figure(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Have a sentence with a figure printed when all tests have ended."""
    return partial(record_property, "figure")


@pytest.fixture(scope="session")
def etcd_server() -> Iterator[EtcdServer]:
    """One healthy etcd per test process; each test uses its own environment in it."""
    server = EtcdServer.start()
    yield server
    server.stop()


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
def real_log() -> Path:
    """A recorded log that this project must not distribute: its tests run if the log exists.

    RATECTL_REQUIRE_LOG=1 makes a missing log a failure.
    """
    log = Path(__file__).parents[2] / "shared" / "data" / "access-2015-05.log.gz"
    if not log.exists():
        reason = f"the recorded log is not at {log}"
        if os.environ.get("RATECTL_REQUIRE_LOG") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return log


@pytest.fixture(params=["sqlite", pytest.param("etcd", marks=pytest.mark.etcd)])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A fresh environment, in each kind of store."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/rates.db"
    url: str = request.getfixturevalue("etcd_server").store_url(f"test-{uuid.uuid4().hex[:12]}")
    return url


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    with open_store(store_url, timeout=30) as store:  # a busy machine may pause the server
        yield store
