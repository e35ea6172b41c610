"""Agents while a real etcd is killed, frozen, compacted and wiped.

In every case: no decision fails or blocks, and the agent is on the live generation within 5 s of
the fault's end.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from etcd_server import EtcdServer, wait_for
from ratectl.stores import open_store
from support import Link, publish_policies, simple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import ratectl

    Make = Callable[..., ratectl.Agent]

pytestmark = [pytest.mark.etcd, pytest.mark.faults]

RECOVERY_SECONDS = 5.0
ACME = {"tenant": "acme"}


class Traffic:
    """Steady decisions in a thread; records failures and the slowest one."""

    def __init__(self, agent: ratectl.Agent) -> None:
        self._agent = agent
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.decisions = 0
        self.failed = 0
        self.slowest = 0.0
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            started = time.perf_counter()
            decision = self._agent.check("/shop", ACME)
            self.slowest = max(self.slowest, time.perf_counter() - started)
            self.decisions += 1
            self.failed += decision.reason not in ("ok", "limited")
            time.sleep(0.0005)

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()


@pytest.fixture
def server() -> Iterator[EtcdServer]:
    server = EtcdServer.start(faults=True)
    yield server
    server.stop()


@pytest.fixture
def agent(server: EtcdServer, make_agent: Make) -> ratectl.Agent:
    with open_store(server.store_url("prod")) as store:
        publish_policies(store, simple("1000/s", burst=10))
    agent = make_agent(server.store_url("prod"))
    assert agent.wait_ready(10)
    return agent


@pytest.fixture
def traffic(agent: ratectl.Agent) -> Iterator[Traffic]:
    traffic = Traffic(agent)
    yield traffic
    traffic.stop()
    assert traffic.decisions > 100
    assert traffic.failed == 0, "no decision failed"
    assert traffic.slowest < 1.0, "no decision waited on I/O (a whole second: machines are shared)"


def publish(server: EtcdServer, rate: str) -> int:
    with open_store(server.store_url("prod"), timeout=10) as store:
        return publish_policies(store, simple(rate, burst=10)).generation


def recovered(agent: ratectl.Agent, generation: int, record: Callable[[str, object], None]) -> None:
    started = time.monotonic()
    assert agent.wait_for_generation(generation, RECOVERY_SECONDS)
    record("recovery_seconds", round(time.monotonic() - started, 3))


def test_after_a_kill_and_restart(
    server: EtcdServer, agent: ratectl.Agent, traffic: Traffic, record_property
):
    server.kill()
    wait_for(lambda: not agent.status.connected, "the outage is noticed", 20)
    server.restart()
    recovered(agent, publish(server, "900/s"), record_property)
    wait_for(lambda: agent.status.error is None, "all is well again")


def test_after_a_freeze_of_twenty_seconds(
    server: EtcdServer, agent: ratectl.Agent, traffic: Traffic, record_property
):
    server.freeze()
    frozen = time.monotonic()
    wait_for(lambda: not agent.status.connected, "the freeze is noticed", 15)
    record_property("noticed_seconds", round(time.monotonic() - frozen, 3))
    time.sleep(max(0.0, frozen + 20 - time.monotonic()))  # the fault itself
    server.thaw()
    recovered(agent, publish(server, "900/s"), record_property)


def test_after_compaction_while_cut_off(server: EtcdServer, make_agent: Make, record_property):
    with open_store(server.store_url("prod")) as store:
        publish_policies(store, simple("1000/s", burst=10))
    link = Link(server.port)
    agent = make_agent(f"etcd://127.0.0.1:{link.port}/prod")
    assert agent.wait_ready(10)
    traffic = Traffic(agent)
    try:
        link.cut()
        wait_for(lambda: not agent.status.connected, "the cut is noticed", 20)
        for n in range(5):
            generation = publish(server, f"{900 - n}/s")
        server.compact()
        link.restore()
        recovered(agent, generation, record_property)
    finally:
        traffic.stop()
        agent.close()
        link.close()
    assert traffic.failed == 0


def test_after_all_data_are_wiped(
    server: EtcdServer, agent: ratectl.Agent, traffic: Traffic, record_property
):
    for n in range(3):
        agent.wait_for_generation(publish(server, f"{900 - n}/s"), 5)
    server.wipe()
    wait_for(lambda: "no live generation" in (agent.status.error or ""), "the loss is reported", 10)
    assert agent.generation == 4, "the policies in force stay"
    assert publish(server, "500/s") == 1, "numbers start again in a new environment"
    started = time.monotonic()
    wait_for(lambda: agent.generation == 1, "the new environment is followed", RECOVERY_SECONDS)
    record_property("recovery_seconds", round(time.monotonic() - started, 3))
    wait_for(lambda: agent.status.error is None, "all is well again")
