"""Worker processes with agents, and what they have admitted together."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ratectl.cluster.pools import _pool_name
from ratectl.cluster.sharding import SHARD_NAMES, SHARDS, shard_of_pool
from ratectl.stores import open_store
from support import hint_of, policies, publish_policies

if TYPE_CHECKING:
    from ratectl.engine.limit_plan import GroupName

RATE, BURST = 200, 200
WORKER = Path(__file__).with_name("cluster_worker.py")
SECOND = 10**9
FLEET: GroupName = ("/", "fleet", True, (), (), "requests")
"""Name of the budget's bucket."""
STALLED = SECOND // 10
UNLESS_STALLED = pytest.mark.flaky(reruns=2, only_rerun=["Stalled"])
"""For tests of figures."""


class Stalled(AssertionError):
    """A figure that a busy machine has spoilt."""


def limits(rate: int = RATE, burst: int = BURST) -> Any:
    fleet = {"rate": f"{rate}/s", "burst": burst, "across": "cluster"}
    return policies(**{"/": {"budgets": {"fleet": fleet}}})


def windows(count: int, window: int) -> Any:
    """Return a limit of so many requests in any window of so many seconds."""
    fleet = {"algorithm": "sliding-window", "rate": f"{count}/{window}s", "across": "cluster"}
    return policies(**{"/": {"budgets": {"fleet": fleet}}})


def by_tenant(rate: int, burst: int) -> Any:
    """Return a limit of each tenant."""
    each = {"rate": f"{rate}/s", "burst": burst, "per": "tenant", "across": "cluster"}
    return policies(**{"/": {"limits": {"each": each}}})


class Fleet:
    """Worker processes that follow one store, by default SQLite."""

    def __init__(self, folder: Path, store: str = "") -> None:
        self.folder = folder
        self.store = store or f"sqlite:///{folder}/rates.db"
        self.variables: list[dict[str, str]] = []
        """Variables of the environment of each worker, where it has some of its own."""
        self.workers: list[subprocess.Popen[str]] = []
        self.stall = 0
        """The longest time (ns) for which a process that has ended was kept from running."""
        self.publish(limits())

    def publish(self, tree: Any) -> None:
        with open_store(self.store) as store:
            publish_policies(store, tree)

    def start(
        self, count: int, seconds: float, pace: float = 400, tenants: int = 1, cost: int = 1,
        used: int = 1,
    ) -> None:  # fmt: skip
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        for number in range(len(self.workers), len(self.workers) + count):
            own = self.variables[number] if number < len(self.variables) else {}
            self.workers.append(
                subprocess.Popen(
                    [sys.executable, str(WORKER), self.store, str(self.folder / f"worker-{number}"),
                     str(self.folder / f"out-{number}"), str(pace), str(seconds), str(tenants),
                     str(cost), str(used)],
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**env, **own},
                )
            )  # fmt: skip
        for worker in self.workers[-count:]:
            assert _line(worker).startswith("ready")

    def go(self, *numbers: int) -> None:
        for number in numbers or range(len(self.workers)):
            _say(self.workers[number])

    def wait(self, *numbers: int) -> list[int]:
        """Wait until workers are done; return the instants of all that was admitted."""
        return sorted(
            now for instants in self.wait_by_tenant(*numbers).values() for now in instants
        )

    def wait_by_tenant(self, *numbers: int) -> dict[str, list[int]]:
        """Wait until workers are done; return the instants by tenant."""
        for number in numbers or range(len(self.workers)):
            assert _line(self.workers[number]) == "done"  # and no problems
        found: dict[str, list[int]] = {}
        for out in self.folder.glob("out-*"):
            stall, *lines = out.read_text("utf-8").splitlines()
            self.stall = max(self.stall, int(stall))
            for line in lines:
                now, tenant = line.split()
                found.setdefault(tenant, []).append(int(now))
        return {tenant: sorted(instants) for tenant, instants in found.items()}

    def admits(self, admitted: list[int], begin: float, end: float, least: float) -> None:
        """Require that enough was admitted between two times, in seconds after the first one.

        Leases lapse where a busy machine keeps processes from running: then the test runs again.

        :raises Stalled: too little was admitted, and a process did not run for 100 ms.
        """
        found = admitted_between(admitted, begin, end)
        figures = f"{found} of {least:.0f} admitted; the longest stall: {self.stall / 1e6:.0f} ms"
        if found <= least and self.stall >= STALLED:
            raise Stalled(figures)
        assert found > least, figures

    def kill_owner(self) -> list[int]:
        """Kill the process that owns the limits; return the numbers of the others."""
        owner = self.owner()
        owner.kill()
        return [number for number, each in enumerate(self.workers) if each is not owner]

    def owner(self) -> subprocess.Popen[str]:
        """Return the process that owns the budget, or one that owns some of it."""
        with open_store(self.store) as store:
            hint = hint_of(store, SHARD_NAMES[shard_of_pool(_pool_name(FLEET), SHARDS)]).owner
        assert hint is not None
        return self.workers[int(hint.member.partition(".")[0].removeprefix("worker-"))]

    def end(self) -> None:
        for worker in self.workers:
            if worker.poll() is None:
                worker.send_signal(signal.SIGCONT)
                worker.kill()
            worker.communicate()


def _line(worker: subprocess.Popen[str]) -> str:
    assert worker.stdout is not None
    return worker.stdout.readline().strip()


def _say(worker: subprocess.Popen[str]) -> None:
    assert worker.stdin is not None
    worker.stdin.write("\n")
    worker.stdin.flush()


def excess(admitted: list[int], rate: int = RATE, burst: int = BURST, cost: int = 1) -> float:
    """Return the tokens beyond burst + rate · window in the worst window."""
    level, at, worst = float(burst), admitted[0], 0.0
    for now in admitted:
        level = min(burst, level + rate * (now - at) / SECOND) - cost
        at, worst = now, min(worst, level)
    return -worst


def most_in_a_window(admitted: list[int], window: int) -> int:
    """Return how many were admitted in the fullest window of so many seconds."""
    first = most = 0
    for last, now in enumerate(admitted):
        while admitted[first] <= now - window * SECOND:
            first += 1
        most = max(most, last + 1 - first)
    return most


def admitted_between(admitted: list[int], begin: float, end: float) -> int:
    """Return how many were admitted between two times, in seconds after the first one."""
    first = admitted[0]
    return sum(begin <= (now - first) / SECOND < end for now in admitted)
