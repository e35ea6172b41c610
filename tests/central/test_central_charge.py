"""Charges of requests that are over, for limits that a server counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pytest

from central.asking import ACME, HEAD
from etcd_server import wait_for
from ratectl import Agent, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from valkey_server import ValkeyServer

pytestmark = pytest.mark.valkey

LIMITS = {
    "bucket": "{rate: 1/h, burst: 10, per: tenant, across: redis}",
    "window": "{algorithm: sliding-window, rate: 10/h, per: tenant, across: redis}",
    "quota": "{algorithm: quota, rate: 10/month, per: tenant, across: redis}",
}


def left(agent: Agent, attributes: dict[str, str] | None = None) -> Any:
    return agent.check_blocking("/", ACME if attributes is None else attributes, 0).remaining


@pytest.mark.parametrize("limit", LIMITS.values(), ids=LIMITS.keys())
def test_all_processes_see_a_charge(agent_of: Callable[..., Agent], limit: str) -> None:
    policies = f"{HEAD}limits:\n  each: {limit}\n"
    one, other = agent_of(policies), agent_of(policies)
    one.charge("/", ACME, 4)
    wait_for(lambda: left(other) == 6, "the charge")
    assert left(other, {"tenant": "else"}) == 10
    one.charge("/", ACME, 9)
    wait_for(lambda: not other.check_blocking("/", ACME, 0), "more than was left is charged")
    assert not other.check_blocking("/", ACME)
    assert one.check_blocking("/", {"tenant": "else"})


def test_a_debt_is_paid_before_requests_pass(agent_of: Callable[..., Agent]) -> None:
    policies = f"{HEAD}limits:\n  each: {{rate: 100/s, burst: 10, across: redis}}\n"
    agent = agent_of(policies)
    agent.charge("/", {}, 310)
    wait_for(lambda: not agent.check_blocking("/", {}, 0), "the charge")
    refusal = agent.check_blocking("/", {}, 1)
    assert 1.5 < (refusal.retry_after or 0) < 3.1


def test_units_that_are_named_and_no_others(agent_of: Callable[..., Agent]) -> None:
    agent = agent_of(
        f"{HEAD}limits:\n"
        "  tokens: {rate: 1/h, burst: 1000, unit: tokens, across: redis}\n"
        "  calls: {rate: 1/h, burst: 10, across: redis}\n"
        "  local: {rate: 1/h, burst: 500, unit: tokens}\n"
    )

    def looks(unit: str) -> Any:
        return agent.check_blocking("/", {}, {"requests": 0, unit: 0}).remaining

    agent.charge("/", {}, {"tokens": 300})
    wait_for(lambda: looks("tokens") == 200, "the local limit has the least left")
    agent.charge("/", {}, {"tokens": 900})
    wait_for(lambda: not agent.check_blocking("/", {}, {"tokens": 0}), "the charge")
    assert agent.check_blocking("/", {}, 1).remaining == 9, "no request was counted"
    agent.charge("/", {}, 2)
    wait_for(lambda: looks("requests") == 7, "the requests")


def test_slots_are_not_held_and_shadow_limits_count(agent_of: Callable[..., Agent]) -> None:
    agent = agent_of(
        f"{HEAD}limits:\n"
        "  slots: {algorithm: concurrency, max: 3, across: redis}\n"
        "  quiet: {rate: 1/h, burst: 5, mode: shadow, across: redis}\n"
    )
    agent.charge("/", {}, 6)
    wait_for(lambda: agent.check_blocking("/", {}, 0).reason == "shadow", "the charge")
    with agent.check_blocking("/", {}, 3) as decision:
        assert decision.allowed, "all slots are free"
    service = agent._central._service
    assert service is not None
    agent.charge("/", {}, 1)
    wait_for(lambda: service.keeper.is_idle, "all is sent")
    assert service.breaker._failures == 0, "the server was asked for nothing that fails"


@pytest.mark.parametrize("is_configured", [False, True])
def test_without_a_server_this_process_is_charged(
    agent_of: Callable[..., Agent], own_valkey: ValkeyServer, is_configured: bool
) -> None:
    url = own_valkey.url if is_configured else None
    policies = f"{HEAD}limits:\n  each: {LIMITS['bucket']}\n"
    agent = agent_of(policies, redis=url, redis_deadline=0.05)
    service = agent._central._service
    if service is not None:
        own_valkey.stop()
        wait_for(lambda: agent.check_blocking("/", ACME, 0) and service.breaker.is_open, "it ends")
    agent.charge("/", ACME, 12)
    assert not agent.check_blocking("/", ACME, 0)
    assert agent.check_blocking("/", {"tenant": "else"}, 10)


def test_wrong_costs(agent_of: Callable[..., Agent]) -> None:
    agent = agent_of(f"{HEAD}limits:\n  each: {LIMITS['bucket']}\n")
    for wrong in (-1, 1.5, None, {"tokens": -1}, "3"):
        with pytest.raises(UsageError):
            agent.charge("/", ACME, wrong)  # type: ignore[arg-type]
    agent.charge("/", ACME, 0)
    agent.charge("/", ACME, {})
    agent.charge("/", {"tenant": 7}, 3)  # type: ignore[dict-item]
    assert left(agent) == 10


def test_a_burst_of_charges_is_counted_in_full(agent_of: Callable[..., Agent]) -> None:
    agent = agent_of(f"{HEAD}limits:\n  each: {LIMITS['bucket'].replace('10', '90_000')}\n")
    for number in range(40_000):
        agent.charge("/", {"tenant": f"t{number % 300}"})
    for _ in range(5_000):
        agent.charge("/", ACME, 7)
    wait_for(lambda: left(agent) == 90_000 - 35_000, "the last charge", 30)
    found = [90_000 - left(agent, {"tenant": f"t{number}"}) for number in range(300)]
    assert sum(found) == 40_000


def test_a_cost_is_read_once(agent_of: Callable[..., Agent]) -> None:
    class Changing(Mapping[str, int]):
        reads = 0

        def __getitem__(self, unit: str) -> int:
            self.reads += 1
            return 2 if self.reads == 1 else 10**6

        def __iter__(self) -> Iterator[str]:
            return iter(["requests"])

        def __len__(self) -> int:
            return 1

    agent = agent_of(f"{HEAD}limits:\n  each: {LIMITS['bucket']}\n")
    agent.charge("/", ACME, Changing())
    wait_for(lambda: left(agent) == 8, "the first value")


def test_a_charge_that_finds_no_room_is_told(
    agent_of: Callable[..., Agent],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("ratectl.central.keeper._MOST_CHARGES", 0)
    agent = agent_of(f"{HEAD}limits:\n  each: {{rate: 1/h, burst: 10, across: redis}}\n")
    for _ in range(2):
        agent.charge("/", {}, 4)
    wait_for(lambda: "too many wait for the server" in caplog.text, "the warning")
    told = [int(found.getMessage().split()[0]) for found in caplog.records]
    assert sum(told) == 2, "each dropped charge is counted once"
    assert left(agent, {}) == 10
