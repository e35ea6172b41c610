"""Processes of one machine obey one limit (`across: cluster`), whatever happens to some of them."""

from __future__ import annotations

import http.client
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from agent.cluster_fleet import (
    BURST,
    RATE,
    SECOND,
    UNLESS_STALLED,
    Fleet,
    by_tenant,
    excess,
    limits,
    most_in_a_window,
    windows,
)
from agent.servers import Service
from etcd_server import wait_for
from ratectl.stores import open_store
from support import once, publish_policies

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [once, UNLESS_STALLED, pytest.mark.xdist_group("cluster processes")]


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path)
    yield fleet
    fleet.end()


def test_processes_obey_one_limit_and_a_stopped_one_is_one_request_late_at_most(
    fleet: Fleet,
) -> None:
    fleet.start(4, 6)
    fleet.go()
    time.sleep(3)
    stopped = fleet.workers[0]
    before = time.monotonic_ns()
    stopped.send_signal(signal.SIGSTOP)
    time.sleep(2.5)
    stopped.send_signal(signal.SIGCONT)
    admitted = fleet.wait()
    assert excess([now for now in admitted if now < before]) == 0
    # Machines of tests are busy: bench cluster measures.
    fleet.admits(admitted, 1, 3, 0.6 * RATE * 2)
    assert excess(admitted) <= 1  # of its one thread


def test_the_owner_is_killed(fleet: Fleet) -> None:
    fleet.start(3, 6.5)
    fleet.go()
    time.sleep(1)
    admitted = fleet.wait(*fleet.kill_owner())
    assert excess(admitted) == 0
    fleet.admits(admitted, 4.5, 6.5, 0.4 * RATE * 2)


def test_all_are_killed_and_start_again(fleet: Fleet) -> None:
    """The lock of each socket proves that its process has ended: nobody waits for its entry."""
    fleet.start(2, 600)
    fleet.go()
    time.sleep(2)
    for worker in fleet.workers:
        worker.kill()
        worker.wait()
    fleet.start(2, 8)
    fleet.go(2, 3)
    admitted = fleet.wait(2, 3)
    assert excess(admitted) == 0
    fleet.admits(admitted, 2, 4, 0.8 * RATE * 2)


def test_each_tenant_has_one_limit_though_the_owner_is_killed(fleet: Fleet) -> None:
    fleet.publish(by_tenant(40, 40))
    fleet.start(4, 7, tenants=4)
    fleet.go()
    time.sleep(1)
    admitted = fleet.wait_by_tenant(*fleet.kill_owner())
    assert set(admitted) == {"t0", "t1", "t2", "t3"}
    assert [excess(instants, 40, 40) for instants in admitted.values()] == [0] * 4
    for instants in admitted.values():
        fleet.admits(instants, 4.5, 6.5, 0.4 * 40 * 2)


@pytest.mark.parametrize("per", [False, True])
def test_costs_that_were_too_large_are_used_by_others(fleet: Fleet, per: bool) -> None:
    """Ten are charged and four are used. Without refunds, four tenths of the rate would be used."""
    if per:
        fleet.publish(by_tenant(RATE, BURST))
    fleet.start(3, 6, cost=10, used=4)
    fleet.go()
    admitted = fleet.wait()
    assert excess(admitted, cost=4) == 0
    fleet.admits(admitted, 2, 6, 0.7 * RATE)


def test_a_stopped_owner(fleet: Fleet) -> None:
    fleet.start(3, 6)
    fleet.go()
    time.sleep(1)
    owner = fleet.owner()
    owner.send_signal(signal.SIGSTOP)
    time.sleep(4)
    owner.send_signal(signal.SIGCONT)
    admitted = fleet.wait()
    assert excess(admitted) <= 1
    fleet.admits(admitted, 3.5, 5, 0.3 * RATE * 1.5)


def test_processes_come_and_go(fleet: Fleet) -> None:
    """Each leaves as a service that is updated does: it closes its agent."""
    fleet.start(2, 2.5)
    fleet.go()
    fleet.start(2, 5)
    fleet.go(2, 3)
    fleet.wait(0, 1)
    for worker in fleet.workers[:2]:
        worker.communicate("\n", timeout=20)
    admitted = fleet.wait(2, 3)
    assert excess(admitted) == 0
    fleet.admits(admitted, 3, 5, 0.5 * RATE * 2)


def test_a_new_size_under_load(fleet: Fleet) -> None:
    fleet.start(3, 6)
    fleet.go()
    time.sleep(1.5)
    fleet.publish(limits(RATE * 2, BURST * 2))
    time.sleep(1.5)
    fleet.publish(limits(50, 50))
    admitted = fleet.wait()
    assert excess(admitted, RATE * 2, BURST * 2) == 0
    last = [now for now in admitted if now > admitted[0] + 5 * SECOND]
    assert excess(last, 50, 50) == 0


def test_no_window_holds_too_many_though_processes_are_killed_and_stopped(fleet: Fleet) -> None:
    fleet.publish(windows(300, 2))
    fleet.start(3, 11)
    fleet.go()
    time.sleep(4)
    stopped = fleet.workers[0]
    stopped.send_signal(signal.SIGSTOP)
    time.sleep(1)
    stopped.send_signal(signal.SIGCONT)
    time.sleep(1)
    admitted = fleet.wait(*fleet.kill_owner())
    assert most_in_a_window(admitted, 2) <= 300 + 1  # the one of the stopped thread
    before = [now for now in admitted if now < admitted[0] + 4 * SECOND]
    assert most_in_a_window(before, 2) <= 300
    fleet.admits(admitted, 0, 4, 300)
    fleet.admits(admitted, 9, 11, 0.4 * 300)


def test_the_owner_of_a_window_leaves(fleet: Fleet) -> None:
    """The next owner knows what was spent, and when it is free again."""
    fleet.publish(windows(300, 2))
    fleet.start(3, 4.5)
    fleet.go()
    time.sleep(4.2)
    owner = fleet.owner()
    fleet.start(2, 4)
    fleet.go(3, 4)
    fleet.wait(0, 1, 2)
    owner.communicate("\n", timeout=20)
    admitted = fleet.wait(3, 4)
    assert most_in_a_window(admitted, 2) <= 300
    fleet.admits(admitted, 6, 8, 0.4 * 300)


FORKING = """
import os, sys, time
from ratectl import Agent
agent = Agent({store!r}, state_dir={state!r}, ready_timeout=10)
deadline = time.monotonic() + 5
while not agent.check("/", {{}}).allowed and time.monotonic() < deadline: pass
child = os.fork()
out, until = {out!r} + ("child" if child == 0 else "parent"), time.monotonic_ns() + 2 * 10**9
admitted = []
while (now := time.monotonic_ns()) < until:
    if agent._engine.check("/", {{}}, 1, now).allowed:
        admitted.append(now)
    time.sleep(0.001)
open(out, "w").write("\\n".join(map(str, admitted)))
if child:
    os.waitpid(child, 0)
agent.close()
"""


def test_a_fork_shares_the_limit_and_no_token(fleet: Fleet) -> None:
    code = FORKING.format(
        store=fleet.store, state=str(fleet.folder / "s"), out=str(fleet.folder / "out-")
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    both = {
        name: [int(line) for line in (fleet.folder / f"out-{name}").read_text().split()]
        for name in ("parent", "child")
    }
    assert excess(sorted(both["parent"] + both["child"])) == 0
    assert both["child"]


APP = """
import os
from ratectl import Agent

agent = Agent(os.environ["STORE"], state_dir=os.environ["STATE"])


async def asgi(scope, receive, send):
    if scope["type"] != "http":
        return
    status = 200 if agent.check("/", {}) else 429
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": str(os.getpid()).encode()})
"""


class FourWorkers(Service):
    """An application with four processes. There is nothing in it about the cluster."""

    def save(self, stamp: int, app: str = "") -> None:
        (self.folder / "service.py").write_text(APP)

    def serve(self) -> Any:
        return self.uvicorn("--workers", "4", "--no-access-log")

    def get(self) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=20)
        connection.request("GET", "/")
        response = connection.getresponse()
        body = response.read().decode()
        connection.close()
        return response.status, body

    def answers(self) -> bool:
        try:
            return self.get()[0] in {200, 429}
        except OSError:
            return False


def test_uvicorn_with_four_workers(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path}/rates.db"
    with open_store(store) as opened:
        publish_policies(opened, limits(20, 20))
    service = FourWorkers(tmp_path, store)
    with service.serve():
        wait_for(service.answers, "an answer", 30)
        wait_for(lambda: len({service.get()[1] for _ in range(40)}) == 4, "four workers", 30)
        admitted, pids = [], set()
        until = time.monotonic() + 4
        lock = threading.Lock()

        def ask() -> None:
            while time.monotonic() < until:
                before = time.monotonic_ns()
                status, pid = service.get()
                with lock:
                    pids.add(pid)
                    if status == 200:
                        admitted.append(before)

        threads = [threading.Thread(target=ask) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(pids) == 4
    # Instants are those before the request was sent: a decision comes a little later.
    assert len(admitted) <= 20 + 20 * 4.5
    assert len(admitted) > 0.6 * 20 * 3
