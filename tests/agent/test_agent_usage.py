"""``agent.usage()``: what an agent tells the program about itself."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

import pytest

import ratectl
from given_counts import GivenMeter
from ratectl import Agent, FakeClock
from ratectl.agent.usage.record import usage_record

if TYPE_CHECKING:
    from pathlib import Path

POLICIES = """
apiVersion: ratectl/v1
scope: /mail
limits:
  spike: {rate: 1/s, burst: 10, per: tenant}
  probe: {rate: 1/s, burst: 2, per: tenant, mode: shadow}
budgets:
  fleet: {rate: 100/s}
overrides:
- {name: gold, match: {tier: gold}, limits: {spike: {burst: 50}}}
"""


def mail() -> Agent:
    return Agent.from_policies(POLICIES, clock=FakeClock())


def by_name(usage: ratectl.AgentUsage) -> dict[tuple[str, tuple[str, ...]], Any]:
    return {(limit.limit, limit.overrides): limit for limit in usage.limits}


def test_counts_and_shares() -> None:
    with mail() as agent:
        for _ in range(12):
            agent.check("/mail", {"tenant": "acme"})
        agent.check("/mail", {"tenant": "zeta", "tier": "gold"}, 45)
        agent.check("/mail")
        agent.check("/other")
        usage = agent.usage()
    limits = by_name(usage)
    spike, gold = limits["spike", ()], limits["spike", ("gold@/mail",)]
    assert (spike.allowed, spike.refused, spike.capacity, spike.per) == (11, 2, 10, ("tenant",))
    assert (spike.keys, spike.near_keys, spike.keys_by_use) == (2, 1, (1, 0, 0, 0, 1))
    assert (spike.absent, spike.peak) == (1, 1.0)
    assert spike.top_refused == (("acme", 2),)
    assert (gold.allowed, gold.capacity, gold.keys_by_use) == (1, 50, (0, 0, 0, 1, 0))
    probe = limits["probe", ()]
    assert (probe.shadow, probe.shadow_refused) == (True, 11)
    assert limits["fleet", ()].budget
    assert (usage.generation, usage.no_policy, usage.id) == (1, 1, agent.id)


def test_reading_often_loses_nothing() -> None:
    """The peak of the last minute, and its requests, are the same for every reader."""
    with mail() as agent:
        agent.check("/mail", {"tenant": "acme"}, 9)
        for _ in range(50):
            found = by_name(agent.usage())["spike", ()]
            assert (found.peak, found.recent_allowed) == (0.9, 1)
            agent.clock.advance(0.01)
        agent.clock.advance(70)
        found = by_name(agent.usage())["spike", ()]
        assert (found.peak, found.recent_allowed, found.allowed) == (None, 0, 1)


def test_a_thousand_readings_in_one_second_keep_few_samples() -> None:
    with mail() as agent:
        for _ in range(1_000):
            agent.check("/mail", {"tenant": "acme"}, 0)
            agent.usage()
            agent.clock.advance(0.001)
        histories = agent._meter._histories.values()
        assert max(len(history.samples) for history in histories) <= 3


def test_idle_limits_keep_no_samples() -> None:
    with mail() as agent:
        for _ in range(30):
            agent.usage()
            agent.clock.advance(2)
        assert not any(history.samples for history in agent._meter._histories.values())


def test_failed_decisions_are_counted_by_their_answer(tmp_path: Path) -> None:
    with Agent(f"sqlite:///{tmp_path}/none.db", state_dir=tmp_path, ready_timeout=0) as agent:
        assert agent.check("/mail")
        usage = agent.usage()
    assert (usage.failed_allowed, usage.failed_refused, usage.generation) == (1, 0, 0)


def test_waiting_requests_are_counted() -> None:
    with Agent.from_policies(POLICIES.replace("burst: 10", "burst: 1")) as agent:
        agent.check("/mail")
        waiting = threading.Thread(target=agent.acquire_sync, args=("/mail",), kwargs={"wait": 30})
        waiting.daemon = True
        waiting.start()
        while not agent.usage().waiting:
            waiting.join(0.01)
        assert agent.usage().waiting == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_forked_child_counts_from_the_fork_on() -> None:
    with mail() as agent:
        for _ in range(5):
            agent.check("/mail", {"tenant": "acme"})
        read, write = os.pipe()
        child = os.fork()
        if not child:
            agent.check("/mail", {"tenant": "acme"})
            found = by_name(agent.usage())["spike", ()]
            os.write(write, f"{found.allowed} {found.recent_allowed} {found.keys}".encode())
            os._exit(0)
        os.waitpid(child, 0)
        assert os.read(read, 100) == b"1 1 1"
        os.close(read)
        os.close(write)
        assert by_name(agent.usage())["spike", ()].allowed == 5


def test_usage_as_plain_data() -> None:
    with mail() as agent:
        agent.check("/mail", {"tenant": "acme"})
        data = agent.usage().as_dict()
    assert data["limits"][0]["scope"] == "/mail"
    assert set(data["timings"]) == {"counts", "sum_ns"}


def test_threads_may_read_and_decide_at_once() -> None:
    with mail() as agent:
        done = threading.Event()
        problems: list[BaseException] = []

        def read() -> None:
            try:
                while not done.is_set():
                    agent.usage()
            except Exception as error:  # noqa: BLE001  shown below
                problems.append(error)

        readers = [threading.Thread(target=read) for _ in range(3)]
        for reader in readers:
            reader.start()
        for number in range(3_000):
            agent.check("/mail", {"tenant": str(number % 7)})
        done.set()
        for reader in readers:
            reader.join()
        assert not problems
        usage = by_name(agent.usage())
        assert usage["spike", ()].allowed + usage["spike", ()].refused == 3_000


def test_record_of_a_usage_reading() -> None:
    meter = GivenMeter()
    record = usage_record(meter.usage(2.0))
    assert (record.id, record.limits, record.omitted) == ("edge", [], 0)
