"""`ratectl cluster run` beside processes that share a limit: it owns, hands over, and is killed."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from agent.cluster_fleet import RATE, SECOND, UNLESS_STALLED, Fleet, admitted_between, excess
from etcd_server import wait_for
from ratectl.cluster.sharding import SHARD_NAMES
from ratectl.health.usage_report import read_usage_report
from ratectl.stores import open_store
from support import hint_of, once

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [once, UNLESS_STALLED, pytest.mark.xdist_group("cluster processes")]

PROGRAM = [sys.executable, "-c", "from ratectl_cli.app import main; main()", "cluster", "run"]


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path)
    yield fleet
    fleet.end()


@contextmanager
def dedicated(fleet: Fleet, name: str) -> Iterator[subprocess.Popen[str]]:
    """Start a dedicated owner, and wait until it is ready."""
    process = subprocess.Popen(
        [*PROGRAM, "--store", fleet.store, "--id", name], stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stderr is not None
        assert f"ready: member {name}." in process.stderr.readline()
        yield process
    finally:
        process.kill()
        process.communicate()


def owners(fleet: Fleet) -> set[str]:
    """Return what the ids of the shards' owners begin with."""
    with open_store(fleet.store) as store:
        hints = [hint_of(store, name).owner for name in SHARD_NAMES]
    return {hint.member.partition(".")[0] for hint in hints if hint is not None}


def end(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Send SIGTERM; return the exit code and the log."""
    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=20)
    return process.returncode, log


def run(fleet: Fleet, process: subprocess.Popen[str], number: int) -> tuple[list[int], float]:
    """Send a signal to the owner under load; return what was admitted, and when, in seconds."""
    fleet.start(3, 7)
    fleet.go()
    wait_for(lambda: owners(fleet) == {"owner-a"}, "a dedicated owner")
    time.sleep(3)
    at = time.monotonic_ns()
    process.send_signal(number)
    admitted = fleet.wait()
    return admitted, (at - admitted[0]) / SECOND


def test_it_shares_the_shards_with_another_and_hands_over_to_it_and_then_to_an_application(
    fleet: Fleet,
) -> None:
    with dedicated(fleet, "owner-a") as first:
        fleet.start(3, 8)
        fleet.go()
        wait_for(lambda: owners(fleet) == {"owner-a"}, "a dedicated owner")
        with dedicated(fleet, "owner-b") as second:
            wait_for(lambda: owners(fleet) == {"owner-a", "owner-b"}, "both own a shard")
            code, log = end(first)
            assert code == 0
            assert "stopped" in log
            assert owners(fleet) == {"owner-b"}
            time.sleep(1)
            assert end(second)[0] == 0
        assert all(name.startswith("worker-") for name in owners(fleet))
    admitted = fleet.wait()
    assert excess(admitted) == 0


def test_it_hands_over_without_a_gap(fleet: Fleet, tmp_path: Path) -> None:
    """Machines of tests are busy: the best of three runs counts for liveness."""
    parts = []
    for number in range(3):
        part = tmp_path / f"run-{number}"
        part.mkdir()
        one = Fleet(part)
        try:
            with dedicated(one, "owner-a") as process:
                admitted, at = run(one, process, signal.SIGTERM)
        finally:
            one.end()
        assert excess(admitted) == 0
        parts.append(admitted_between(admitted, at, at + 1) / RATE)
        if parts[-1] >= 0.9:
            return
    pytest.fail(f"admitted in the second of the hand-over: {parts} of the rate")


def test_it_is_killed(fleet: Fleet) -> None:
    with dedicated(fleet, "owner-a") as process:
        admitted, at = run(fleet, process, signal.SIGKILL)
    assert excess(admitted) == 0
    assert all(name.startswith("worker-") for name in owners(fleet))
    fleet.admits(admitted, at + 2, at + 3, 0.4 * RATE)  # bench cluster measures


def test_usage_is_what_it_reports_and_it_is_no_agent(fleet: Fleet) -> None:
    with dedicated(fleet, "owner-a") as process, open_store(fleet.store) as store:
        fleet.start(2, 9)
        fleet.go()

        def usage() -> object:
            report = read_usage_report(store, None, print)
            pools = [row.total.pool for row in report.rows if row.total and row.total.pool]
            if not pools or report.totals.reporting != 2:
                return None
            assert {reporter.agent for reporter in pools[0].owners} == {"owner-a"}
            assert report.silent == ()
            return pools[0].members == 2

        wait_for(usage, "a report of the owner, and of both agents", 20)
        assert end(process)[0] == 0
        assert store.get("usage/owner-a") is None
