"""The server fails: decisions go on in each process, and the server counts again afterwards."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any

import pytest
import redis
import trustme

import ratectl
from etcd_server import free_port, wait_for
from ratectl import Agent
from support import once
from valkey_server import ValkeyServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = [once, pytest.mark.valkey]

HEAD = "apiVersion: ratectl/v1\nscope: /\n"
SPIKE = HEAD + "limits:\n  spike: {rate: 1/h, burst: 8, per: tenant, across: redis}\n"


@pytest.fixture
def agent_of() -> Iterator[Callable[..., Agent]]:
    agents: list[Agent] = []

    def make(redis: str, policies: str = SPIKE, **given: Any) -> Agent:
        agents.append(
            Agent.from_policies(policies, redis=redis, **{"redis_deadline": 5.0, **given})
        )
        return agents[-1]

    yield make
    for agent in agents:
        agent.close()


def ask(agent: Agent, tenant: str = "acme", cost: int = 1) -> ratectl.Decision:
    return agent.check_blocking("/", {"tenant": tenant}, cost)


def is_counted(server: ValkeyServer, agent: Agent) -> bool:
    """Return True if the server decides."""
    before = len(server.client().keys("*"))
    ask(agent, f"new-{time.monotonic_ns()}")
    return len(server.client().keys("*")) > before


def drain(agent: Agent, tenant: str) -> int:
    """Return how many requests are admitted at once."""
    return sum(ask(agent, tenant).allowed for _ in range(20))


def is_alone(agent: Agent) -> bool:
    ask(agent, "probe")
    return "redis" in agent.status.problems


def test_a_killed_server_is_replaced_by_counting_here_until_it_is_back(
    own_valkey: ValkeyServer, agent_of: Any, caplog: pytest.LogCaptureFixture
) -> None:
    agent = agent_of(own_valkey.url, redis_deadline=0.1)
    wait_for(lambda: agent._central._service.keeper.live == 1, "the first beat")
    assert not ask(agent, cost=9).allowed
    with caplog.at_level(logging.WARNING):
        own_valkey.kill()
        wait_for(lambda: is_alone(agent), "the breaker to open")
        began = time.monotonic()
        assert drain(agent, "here") == 8
        assert time.monotonic() - began < 1  # no request waits for the server any more
        own_valkey.run()
        wait_for(lambda: "redis" not in agent.status.problems, "the breaker to close")
    assert is_counted(own_valkey, agent)
    messages = [record.getMessage() for record in caplog.records if "redis" in record.getMessage()]
    assert [message.split(":")[0] for message in messages] == ["limits across", "resolved"]


def test_each_process_uses_its_part_of_a_limit_meanwhile(
    own_valkey: ValkeyServer, agent_of: Any
) -> None:
    policies = SPIKE + (
        "  window: {algorithm: sliding-window, rate: 9/h, per: tenant, across: redis}\n"
        "  day: {algorithm: quota, rate: 9/day, per: tenant, across: redis}\n"
        "  slots: {algorithm: concurrency, max: 9, per: tenant, across: redis}\n"
        "  one: {rate: 1/h, burst: 1, unit: tokens, across: redis}\n"
    )
    agents = [agent_of(own_valkey.url, policies, redis_deadline=0.1) for _ in range(3)]
    wait_for(lambda: all(each._central._service.keeper.live == 3 for each in agents), "the beats")
    own_valkey.kill()
    wait_for(lambda: all(is_alone(each) for each in agents), "the breakers to open")
    assert [drain(each, "a") for each in agents] == [2, 2, 2]  # 8 // 3
    too_large = ask(agents[0], "b", 5)
    assert (too_large.allowed, too_large.reason, too_large.retry_after) == (False, "limited", None)
    assert ask(agents[0], "b", {"tokens": 1, "requests": 0}).allowed  # at least 1


def test_a_paused_server_is_waited_for_until_the_deadline_and_then_no_more(
    own_valkey: ValkeyServer, agent_of: Any
) -> None:
    agent = agent_of(own_valkey.url, redis_deadline=0.2)
    ask(agent)
    own_valkey.pause()
    try:
        began = time.monotonic()
        assert ask(agent, "first").allowed
        assert 0.15 < time.monotonic() - began < 5
        wait_for(lambda: is_alone(agent), "the breaker to open")
        began = time.monotonic()
        for _ in range(100):
            ask(agent, "many")
        assert time.monotonic() - began < 0.2
        asyncio.run(_asks_at_once(agent))
    finally:
        own_valkey.resume()
    wait_for(lambda: "redis" not in agent.status.problems, "the breaker to close", 20)
    assert is_counted(own_valkey, agent)


async def _asks_at_once(agent: Agent) -> None:
    began = time.monotonic()
    await asyncio.gather(*[agent.acheck("/", {"tenant": "task"}) for _ in range(100)])
    assert time.monotonic() - began < 0.2


def test_tasks_wait_for_a_paused_server_until_the_deadline(
    own_valkey: ValkeyServer, agent_of: Any
) -> None:
    agent = agent_of(own_valkey.url, redis_deadline=0.2)
    own_valkey.pause()

    async def asks() -> float:
        began = time.monotonic()
        answers = await asyncio.gather(*[agent.acheck("/", {"tenant": "x"}) for _ in range(10)])
        assert sum(answer.allowed for answer in answers) == 8
        return time.monotonic() - began

    try:
        assert 0.15 < asyncio.run(asks()) < 5
    finally:
        own_valkey.resume()


def test_flushed_scripts_are_sent_again(own_valkey: ValkeyServer, agent_of: Any) -> None:
    agent = agent_of(own_valkey.url)

    async def in_tasks() -> int:
        answers = await asyncio.gather(*[agent.acheck("/", {"tenant": "x"}) for _ in range(9)])
        return sum(answer.allowed for answer in answers)

    assert ask(agent).remaining == 7
    own_valkey.command("SCRIPT", "FLUSH")
    assert ask(agent).remaining == 6
    own_valkey.command("SCRIPT", "FLUSH")
    assert asyncio.run(in_tasks()) == 8
    assert dict(agent.status.problems) == {}


def test_a_server_that_starts_empty_counts_from_the_beginning(
    own_valkey: ValkeyServer, agent_of: Any
) -> None:
    agent = agent_of(own_valkey.url)
    assert drain(agent, "x") == 8
    own_valkey.kill()
    own_valkey.run()
    wait_for(lambda: is_counted(own_valkey, agent), "the server to count")
    assert drain(agent, "x") in (7, 8)  # one request may have found the old connection


def test_sentinels_that_do_not_answer_are_told_in_short(agent_of: Any) -> None:
    one, other = free_port(), free_port()
    agent = agent_of(
        f"redis+sentinel://127.0.0.1:{one},127.0.0.1:{other}/shop", redis_deadline=0.05
    )
    wait_for(lambda: is_alone(agent), "a problem")
    problem = agent.status.problems["redis"]
    assert "because the server fails: " in problem
    assert "No master found for 'shop' : " in problem
    assert problem.count("ConnectionError") == 2
    assert "<redis" not in problem


def _counted_in_task(server: ValkeyServer, agent: Agent, tenant: str) -> int | None:
    """Return what a task has left; None if the server did not decide.

    On a busy machine, the sentinel may take the new primary for dead for a moment.
    """
    (key,) = server.client().keys(f"*{tenant}*")
    before = server.client().get(key)
    decision = asyncio.run(agent.acheck("/", {"tenant": tenant}))
    return None if server.client().get(key) == before else decision.remaining


def test_a_failover_by_sentinels_keeps_the_counts(agent_of: Any) -> None:
    primary = ValkeyServer.start()
    replica = ValkeyServer.start("--replicaof", "127.0.0.1", str(primary.port))
    lines = [
        f"sentinel monitor shop 127.0.0.1 {primary.port} 1",
        "sentinel down-after-milliseconds shop 500",
        "sentinel failover-timeout shop 2000",
    ]
    wait_for(
        lambda: b"state=online" in _info(primary) or b"'state': 'online'" in _info(primary),
        "the replica",
    )
    sentinel = ValkeyServer.start(kind="sentinel", config="\n".join(lines) + "\n")
    try:
        url = f"redis+sentinel://127.0.0.1:{sentinel.port}/shop"
        agent = agent_of(url)
        assert ask(agent, "x", 5).allowed
        assert asyncio.run(agent.acheck("/", {"tenant": "y"})).remaining == 7
        wait_for(lambda: _offset(replica) == _offset(primary), "replication")
        primary.kill()
        wait_for(lambda: b"role:master" in _info(replica), "the new primary", 30)
        wait_for(lambda: "redis" not in agent.status.problems and is_counted(replica, agent),
                 "the new primary to count", 60)  # fmt: skip
        assert drain(agent, "x") == 3
        assert wait_for(lambda: _counted_in_task(replica, agent, "y"), "a task to be counted") == 6
    finally:
        for server in (sentinel, replica, primary):
            server.stop()


def _offset(server: ValkeyServer) -> int:
    offset: int = server.client().info("replication")["master_repl_offset"]
    return offset


def _info(server: ValkeyServer) -> bytes:
    """Return the server's replication state; nothing while it changes its role."""
    try:
        found = server.client().info("replication")
    except redis.ConnectionError:
        return b""
    return "".join(f"{key}:{value}\n" for key, value in found.items()).encode()


def test_a_replica_refuses_to_count_and_this_process_does(
    own_valkey: ValkeyServer, agent_of: Any
) -> None:
    replica = ValkeyServer.start("--replicaof", "127.0.0.1", str(own_valkey.port))
    try:
        agent = agent_of(replica.url, redis_deadline=0.5)
        wait_for(lambda: is_alone(agent), "the breaker to open")
        assert "replica" in agent.status.problems["redis"]
        replica.command("REPLICAOF", "NO", "ONE")
        wait_for(lambda: "redis" not in agent.status.problems, "the breaker to close")
        assert is_counted(replica, agent)
    finally:
        replica.stop()


def test_a_wrong_password_is_a_problem_that_does_not_show_it(agent_of: Any) -> None:
    server = ValkeyServer.start(password="s3cret-right")
    try:
        assert is_counted(server, agent_of(server.url))
        agent = agent_of(server.url.replace("right", "wrong"), redis_deadline=0.2)
        wait_for(lambda: is_alone(agent), "the breaker to open")
        shown = f"{agent.status} {agent!r} {vars(agent)} {agent._central._service._address!r}"
        assert "s3cret" not in shown
        assert "…@127.0.0.1" in agent.status.problems["redis"]
    finally:
        server.stop()


def test_a_count_that_another_program_wrote_is_an_error_and_this_process_counts(
    own_valkey: ValkeyServer, agent_of: Any
) -> None:
    agent = agent_of(own_valkey.url, redis_deadline=0.2)
    ask(agent)
    (name,) = [key for key in own_valkey.client().keys("*") if b"acme" in key]
    own_valkey.client().set(name, b"\xff\x00 no MessagePack")
    assert ask(agent).remaining == 7  # as if there was none
    own_valkey.client().delete(name)
    own_valkey.client().lpush(name, "x")
    assert ask(agent).allowed
    assert "WRONGTYPE" in str(_error_of(agent))


def _error_of(agent: Agent) -> Exception:
    central = agent._central
    asked = central.met_by("/", {"tenant": "acme"}, 1, 1)
    local = agent._engine.check("/", {})
    with pytest.raises(Exception) as caught:  # noqa: PT011  its text is what is tested
        central._decided(local, asked, central._service)
    return caught.value


def test_a_server_of_another_kind_is_a_failure(agent_of: Any) -> None:
    from http.server import BaseHTTPRequestHandler, HTTPServer
    from threading import Thread

    http = HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    Thread(target=http.serve_forever, daemon=True).start()
    try:
        agent = agent_of(f"redis://127.0.0.1:{http.server_address[1]}", redis_deadline=0.2)
        wait_for(lambda: is_alone(agent), "the breaker to open")
        assert drain(agent, "x") == 8
    finally:
        http.shutdown()
        http.server_close()


def test_nobody_listens_and_this_process_counts(agent_of: Any) -> None:
    agent = agent_of(f"redis://127.0.0.1:{free_port()}", redis_deadline=0.05)
    assert drain(agent, "x") == 8
    assert asyncio.run(agent.acheck("/", {"tenant": "y"})).allowed


def test_cluster_mode(agent_of: Any) -> None:
    server = ValkeyServer.start("--cluster-enabled", "yes", "--cluster-announce-ip", "127.0.0.1")
    try:
        assert server.command("CLUSTER", "ADDSLOTSRANGE", "0", "16383") == b"+OK"
        wait_for(lambda: server.client().cluster("info")["cluster_state"] == "ok", "the cluster")
        policies = SPIKE + "budgets:\n  all: {rate: 1/h, burst: 100, across: redis}\n"
        agent = agent_of(f"redis+cluster://127.0.0.1:{server.port}", policies)
        assert ask(agent).remaining == 7
        server.command("SCRIPT", "FLUSH")

        async def twice() -> list[int | None]:
            return [(await agent.acheck("/", {"tenant": "acme"})).remaining for _ in range(2)]

        assert asyncio.run(twice()) == [6, 5]
        assert ask(agent).remaining == 4
        assert dict(agent.status.problems) == {}
    finally:
        server.stop()


def test_unix_socket_and_tls(agent_of: Any, tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    issued = authority.issue_cert("localhost", "127.0.0.1")
    issued.private_key_pem.write_to_path(tmp_path / "key.pem")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    port = free_port()
    server = ValkeyServer.start(
        "--unixsocket", f"{tmp_path}/s", "--tls-port", str(port), "--tls-auth-clients", "no",
        "--tls-cert-file", f"{tmp_path}/cert.pem", "--tls-key-file", f"{tmp_path}/key.pem",
        "--tls-ca-cert-file", f"{tmp_path}/ca.pem",
    )  # fmt: skip
    try:
        left = []
        for url in (f"unix://{tmp_path}/s", f"rediss://127.0.0.1:{port}?ca={tmp_path}/ca.pem"):
            agent = agent_of(url)
            left += [
                ask(agent).remaining,
                asyncio.run(agent.acheck("/", {"tenant": "acme"})).remaining,
            ]
        assert left == [7, 6, 5, 4]
        unknown = agent_of(f"rediss://127.0.0.1:{port}", redis_deadline=0.5)
        assert ask(unknown, cost=4).remaining == 4  # not the server: it does not know the authority
    finally:
        server.stop()


@pytest.mark.parametrize("mode", ["open", "shadow"])
def test_the_kill_switch_waives_limits_on_the_server(
    own_valkey: ValkeyServer, agent_of: Any, mode: Any
) -> None:
    agent = agent_of(own_valkey.url, redis_deadline=0.5)
    agent._engine.waive({"/": mode})
    answers = [ask(agent) for _ in range(10)]
    assert all(answer.allowed for answer in answers)
    assert [answer.reason for answer in answers[8:]] == [{"open": "ok"}.get(mode, mode)] * 2
    agent._engine.waive({})
    assert ask(agent).allowed is (mode == "open")
    own_valkey.kill()
    wait_for(lambda: is_alone(agent), "the breaker to open")
    agent._engine.waive({"/": mode})
    assert [ask(agent, "here").allowed for _ in range(10)] == [True] * 10


def test_a_closed_agent_goes_on_in_its_own_process(own_valkey: ValkeyServer, agent_of: Any) -> None:
    agent, other = agent_of(own_valkey.url), agent_of(own_valkey.url)
    wait_for(lambda: other._central._service.keeper.live == 2, "both beats")
    agent.close()
    assert drain(agent, "x") >= 4
    wait_for(lambda: other._central._service.keeper.live == 1, "the other to have left")
    assert drain(other, "x") == 8
