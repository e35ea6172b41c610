"""Real servers with restarts of workers: every worker decides by the live generation."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

from agent.servers import ROUNDS, Service
from etcd_server import wait_for
from ratectl.stores import open_store
from support import once, publish_policies, simple

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [once, pytest.mark.servers]


@pytest.fixture
def service(tmp_path: Path) -> Service:
    url = f"sqlite:///{tmp_path}/rates.db"
    with open_store(url) as store:
        publish_policies(store, simple("1000/s"))
    return Service(tmp_path / "service", url)


def innocent(answers: list[dict[str, Any]]) -> None:
    """Assert that every process decided by the live generation and had no problem."""
    told = [(a["generation"], a["reason"], a["rejected"], a["problems"]) for a in answers]
    assert told == [(1, "ok", None, {})] * len(answers)


def replace_worker(service: Service, signum: signal.Signals) -> None:
    """Send a signal to the youngest worker until another has started in its place.

    A worker that was just forked ignores SIGTERM until it has installed its handlers.
    """
    begun = service.journal()

    def replaced() -> bool:
        with contextlib.suppress(ProcessLookupError):
            os.kill(begun[-1]["pid"], signum)
        return len(service.journal()) > len(begun)

    wait_for(replaced, "another worker", 20, 0.2)


def served(service: Service, stamp: int) -> dict[str, Any] | None:
    """Return an answer of the code with this stamp.

    uvicorn overlooks a file that is saved in the quarter of a second after a restart.
    """
    answer = service.ask()
    if answer["stamp"] == stamp:
        return answer
    time.sleep(0.5)
    service.save(stamp)
    return None


def test_uvicorn_with_reload_always_enforces_the_live_generation(service: Service):
    with service.uvicorn("--reload"):
        for stamp in range(1, 6 * ROUNDS + 2):
            innocent([wait_for(lambda at=stamp: served(service, at - 1), "the code as saved", 20)])
            service.save(stamp)
    assert len(service.journal()) >= 6 * ROUNDS
    innocent(service.journal())


def test_uvicorn_workers_survive_restarts_and_kills(service: Service):
    for _ in range(ROUNDS):
        begun = len(service.journal())
        with service.uvicorn("--workers", "2") as master:
            service.until_started(begun + 2)
            for _ in range(3):
                replace_worker(service, signal.SIGKILL)
            for restart in range(1, 3):
                master.send_signal(signal.SIGHUP)
                service.until_started(begun + 5 + 2 * restart)
            innocent([service.ask()])
    innocent(service.journal())


@pytest.mark.parametrize("loading", [(), ("--preload",)], ids=["own", "preloaded"])
@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGABRT, signal.SIGTERM])
def test_gunicorn_workers_survive_reloads_and_signals(
    service: Service, loading: tuple[str, ...], signum: signal.Signals
):
    # With preload, the master decides as well.
    masters = len(loading)
    with service.gunicorn("--workers", "2", *loading) as master:
        service.until_started(masters + 2)
        for reload in range(1, 1 + 2 * ROUNDS):
            master.send_signal(signal.SIGHUP)
            service.until_started(masters + 2 + 2 * reload)
        for _ in range(4 * ROUNDS):
            replace_worker(service, signum)
        innocent([service.ask()])
    innocent(service.journal())


@pytest.mark.parametrize("loading", [(), ("--preload",)], ids=["own", "preloaded"])
def test_gunicorn_starts_with_the_live_generation_after_repeated_ends(
    service: Service, loading: tuple[str, ...]
):
    for turn in range(4 * ROUNDS):
        begun = len(service.journal())
        with service.gunicorn("--workers", "2", *loading) as master:
            service.until_started(begun + len(loading) + 2)
            innocent([service.ask()])
            master.send_signal([signal.SIGTERM, signal.SIGKILL][turn % 2])
    innocent(service.journal())
