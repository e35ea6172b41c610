"""A real server as an agent finds it: address, rights, prefixes, and what it keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from central.asking import ACME, HEAD, SPIKE, in_task, in_thread
from etcd_server import wait_for
from ratectl import Agent, FakeClock
from ratectl.errors import UsageError
from support import once

if TYPE_CHECKING:
    from valkey_server import ValkeyServer

pytestmark = [once, pytest.mark.valkey]


def test_a_user_with_few_rights_is_enough(agent_of: Any, valkey: ValkeyServer) -> None:
    rights = (
        "+eval +evalsha +time +get +set +del +zadd +zrem +zcard +zrevrange +zremrangebyscore "
        "+pexpire +pexpireat"
    )
    valkey.command("ACL", "SETUSER", "ratectl", "on", ">pw", "~ratectl:*", *rights.split())
    url = valkey.url.replace("redis://", "redis://ratectl:pw@")
    agent = agent_of(
        SPIKE + "  window: {algorithm: sliding-window, rate: 9/min, across: redis}\n"
        "  day: {algorithm: quota, rate: 9/day, across: redis}\n"
        "  slots: {algorithm: concurrency, max: 9, across: redis}\n",
        redis=url,
    )
    for ask in (in_task, in_thread):
        decision = ask(agent, "/", ACME)
        decision.settle(2)
        decision.release()
    wait_for(lambda: agent._central._service.keeper.is_idle, "the corrections")
    valkey.command("ACL", "DELUSER", "ratectl")
    assert agent._central._service.breaker._failures == 0
    assert dict(agent.status.problems) == {}
    assert agent_of(SPIKE).check_blocking("/", {"tenant": "acme"}, 0).remaining == 0


def test_a_fake_clock_asks_no_server(monkeypatch: pytest.MonkeyPatch, valkey: ValkeyServer) -> None:
    monkeypatch.setenv("RATECTL_REDIS_URL", valkey.url)
    with Agent.from_policies(SPIKE, clock=FakeClock()) as agent:
        assert [agent.check_blocking("/", ACME).allowed for _ in range(4)] == [True] * 3 + [False]
        agent.clock.advance(3600)
        assert agent.check_blocking("/", ACME).allowed
        assert dict(agent.status.problems) == {}
    with pytest.raises(UsageError, match="a fake clock moves no server"):
        Agent.from_policies(SPIKE, clock=FakeClock(), redis=valkey.url)


def test_the_address_may_come_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, valkey: ValkeyServer, agent_of: Any
) -> None:
    monkeypatch.setenv("RATECTL_REDIS_URL", valkey.url + "?prefix=shop")
    agent_of(SPIKE, redis=None).check_blocking("/", ACME)
    assert (
        valkey.command(
            "EXISTS", 'ratectl:{shop}:["token","/","spike",false,[],["tenant"],"requests",["acme"]]'
        )
        == b":1"
    )


def test_without_an_address_this_process_counts_and_says_so() -> None:
    with Agent.from_policies(SPIKE) as agent:
        assert "RATECTL_REDIS_URL" in agent.status.problems["redis"]
        assert [agent.check_blocking("/", ACME).allowed for _ in range(4)] == [True] * 3 + [False]
        with pytest.raises(UsageError, match="acheck"):
            agent.check("/", ACME)


def test_two_environments_on_one_server_have_counts_of_their_own(
    valkey: ValkeyServer, agent_of: Any
) -> None:
    one = agent_of(SPIKE, redis=valkey.url + "?prefix=a")
    other = agent_of(SPIKE, redis=valkey.url + "?prefix=b")
    assert not [one.check_blocking("/", ACME) for _ in range(4)][-1].allowed
    assert other.check_blocking("/", ACME).allowed


def test_counts_expire_by_themselves(valkey: ValkeyServer, agent_of: Any) -> None:
    agent = agent_of(
        HEAD + "limits:\n"
        "  a: {rate: 10/s, burst: 20, across: redis}\n"
        "  b: {algorithm: sliding-window, rate: 9/min, across: redis}\n"
        "  c: {algorithm: quota, rate: 9/day, across: redis}\n"
        "  d: {algorithm: concurrency, max: 9, hold: 10s, across: redis}\n"
    )
    agent.check_blocking("/")
    client = valkey.client()
    lives = {name.split(b'"')[1]: client.pttl(name) for name in client.keys("*") if b"[" in name}
    assert lives.keys() == {b"token", b"sliding", b"quota", b"slots"}
    assert all(life > 0 for life in lives.values())
    assert 59_000 < lives[b"token"] < 61_000
    assert 59_000 < lives[b"sliding"] <= 60_010
    assert lives[b"quota"] <= (86_400 + 60) * 1000 + 10
    assert 9_000 < lives[b"slots"] <= 10_010
