"""The sidecar's JSON API on sockets: its end, addresses, certificates, and limits on a server."""

from __future__ import annotations

import http.client
import json
import os
import socket
import ssl
import stat
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from etcd_server import wait_for
from ratectl import Agent, Tls
from ratectl.sidecar import Sidecar
from ratectl.sidecar.sidecar import SERVERS
from sidecar.http_asking import ask, connected, encoded, post
from sidecar.servers import needed
from support import once

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from valkey_server import ValkeyServer

pytestmark = pytest.mark.usefixtures("loop")

POLICIES = """
apiVersion: ratectl/v1
scope: /shop
limits:
  each: {rate: 2/day, burst: 2, per: client}
"""
ASKED = {"scope": "/shop", "attributes": {"client": "a"}}


@pytest.fixture
def agent() -> Iterator[Agent]:
    with Agent.from_policies(POLICIES) as agent:
        yield agent


@pytest.mark.parametrize("server", SERVERS)
def test_both_endpoints_count_together(agent: Agent, server: Any) -> None:
    import grpc
    from envoy.service.ratelimit.v3.rls_pb2 import RateLimitResponse

    from ratectl.sidecar.service import METHOD
    from sidecar.envoys_messages import OK, descriptor, request

    asked = request("shop", descriptor(("client", "a"))).SerializeToString()
    with (
        Sidecar(agent, "127.0.0.1:0", server=needed(server), http="127.0.0.1:0") as sidecar,
        grpc.insecure_channel(str(sidecar.rls)) as channel,
    ):
        assert post(sidecar.http, "/v1/check", ASKED).json["remaining"] == 1
        answer = RateLimitResponse.FromString(channel.unary_unary(METHOD)(asked, timeout=20))
        assert answer.overall_code == OK
        got = post(sidecar.http, "/v1/check", ASKED)
        assert got.status == 429
        assert got.headers["ratelimit"].startswith('"each";r=0;t=')


def test_other_paths_on_a_socket(agent: Agent) -> None:
    with Sidecar(agent, http="127.0.0.1:0") as sidecar:
        assert ask(sidecar.http, "GET", "/healthz").body == b"ok\n"
        assert ask(sidecar.http, "GET", "/readyz").body == b"generation 1 is in force\n"
        assert ask(sidecar.http, "GET", "/v1/openapi.json").json["openapi"] == "3.1.0"
        assert ask(sidecar.http, "GET", "/").status == 404
        assert ask(sidecar.http, "PUT", "/v1/check", b"{}").status == 405


def test_it_drains_before_it_ends(agent: Agent) -> None:
    with Sidecar(agent, http="127.0.0.1:0") as sidecar:
        sidecar.drain()
        assert ask(sidecar.http, "GET", "/readyz").status == 503
        assert ask(sidecar.http, "GET", "/healthz").status == 200
        assert post(sidecar.http, "/v1/check", ASKED).status == 200


def test_a_unix_socket_is_for_its_owner_alone(agent: Agent, tmp_path: Path) -> None:
    path = tmp_path / "http.sock"
    with Sidecar(agent, http=f"unix:{path}") as sidecar:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert post(sidecar.http, "/v1/check", ASKED).status == 200
    assert not path.exists()


# The end ----------------------------------------------------------------------------------------


class Slow:
    """A sidecar whose limits a server counts, slowly."""

    def __init__(self, agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
        self.may_go_on = threading.Event()
        self.decided = 0
        check = agent.check_blocking

        def slow(*arguments: Any) -> Any:
            self.decided += 1
            assert self.may_go_on.wait(30)
            return check(*arguments)

        monkeypatch.setattr(agent, "check_blocking", slow)
        monkeypatch.setattr(type(agent), "asks_server", True)
        self.sidecar = Sidecar(agent, http="127.0.0.1:0")
        self.server: Any = self.sidecar._servers[0]


@pytest.fixture
def slow(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> Iterator[Slow]:
    slow = Slow(agent, monkeypatch)
    with slow.sidecar:
        yield slow
        slow.may_go_on.set()


def answers(connection: socket.socket) -> bytes:
    """Return all that arrives until the end."""
    found = b""
    while part := connection.recv(65_536):
        found += part
    return found


def test_what_was_asked_before_the_end_is_answered(slow: Slow) -> None:
    """Also a request that waits for the one before it; the last answer closes the connection."""
    with connected(slow.sidecar.http) as busy, connected(slow.sidecar.http) as idle:
        busy.sendall(encoded(ASKED) * 3)
        wait_for(lambda: slow.decided == 1, "the request")
        ending = threading.Thread(target=slow.sidecar.close, args=[20.0])
        ending.start()
        assert idle.recv(1) == b"", "nothing was asked there"
        wait_for(lambda: slow.sidecar._methods.health.is_draining, "the end to begin")
        slow.may_go_on.set()
        found = answers(busy)
        busy.close()
        ending.join(20)
    assert found.count(b"HTTP/1.1 ") == 3
    assert found.count(b"connection: close") == 1
    assert found.rindex(b"connection: close") > found.rindex(b"HTTP/1.1 ")


def test_requests_that_arrive_at_the_end_are_answered(agent: Agent) -> None:
    """Callers that go on to ask over their connections lose no request, and are told to leave."""
    with Sidecar(agent, http="127.0.0.1:0") as sidecar, ThreadPoolExecutor(8) as threads:
        begun = threading.Barrier(9)

        def go_on() -> int:
            connection = http.client.HTTPConnection("127.0.0.1", sidecar.http.port, timeout=20)
            for number in range(1_000_000):
                connection.request("GET", "/readyz")
                answer = connection.getresponse()
                assert answer.read()
                if number == 20:
                    begun.wait(20)
                if answer.getheader("connection") == "close":
                    assert answer.status == 503 or number < 21
                    return number
            raise AssertionError("the sidecar did not end")

        callers = [threads.submit(go_on) for _ in range(8)]
        begun.wait(20)
        time.sleep(0.05)  # so that they are in the middle of it
        sidecar.close(20)
        assert all(caller.result() > 20 for caller in callers)


def test_the_end_waits_no_longer_than_it_may(slow: Slow) -> None:
    with connected(slow.sidecar.http) as busy:
        busy.sendall(encoded(ASKED))
        wait_for(lambda: slow.decided == 1, "the request")
        began = time.monotonic()
        slow.sidecar.close(0.5)
        assert 0.4 < time.monotonic() - began < 10


def test_the_end_waits_for_no_half_a_request(agent: Agent) -> None:
    sidecar = Sidecar(agent, http="127.0.0.1:0")
    with connected(sidecar.http) as half:
        half.sendall(b"POST /v1")
        time.sleep(0.05)
        sidecar.close(0.5)
        half.settimeout(20)
        assert half.recv(1) == b""


# Calls that wait --------------------------------------------------------------------------------


def test_others_are_answered_while_some_wait(slow: Slow) -> None:
    with ThreadPoolExecutor(40) as threads:
        waiting = [
            threads.submit(post, slow.sidecar.http, "/v1/check", {"scope": "/none"})
            for _ in range(40)
        ]
        wait_for(lambda: slow.server._waiting._waiting == 40, "the calls")
        assert ask(slow.sidecar.http, "GET", "/readyz").status == 200
        slow.may_go_on.set()
        assert {each.result().status for each in waiting} == {200}


def test_a_caller_that_sends_no_more_gets_its_answer(slow: Slow) -> None:
    with connected(slow.sidecar.http) as one:
        one.sendall(encoded(ASKED))
        one.shutdown(socket.SHUT_WR)
        wait_for(lambda: slow.decided == 1, "the request")
        (connection,) = slow.server.listeners[0].connections
        wait_for(lambda: connection.speaker._has_left, "the end of what is sent")
        slow.may_go_on.set()
        assert answers(one).startswith(b"HTTP/1.1 200")


def test_too_many_calls_that_wait_are_refused(slow: Slow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ratectl.sidecar.waiting_calls._MOST_WAITING", 20)
    with ExitStack() as stack:
        for _ in range(20):
            connection = stack.enter_context(connected(slow.sidecar.http))
            connection.sendall(encoded(ASKED))
        wait_for(lambda: slow.server._waiting._waiting == 20, "the calls")
        got = post(slow.sidecar.http, "/v1/check", ASKED)
        assert (got.status, got.detail) == (503, "too many calls wait")


def test_requests_of_callers_that_have_left_are_not_decided(slow: Slow) -> None:
    with ExitStack() as stack:
        for _ in range(100):
            connection = stack.enter_context(connected(slow.sidecar.http))
            linger = (1).to_bytes(4, "little") + bytes(4)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            connection.sendall(encoded(ASKED))
        wait_for(lambda: slow.server._waiting._waiting == 100, "the calls")
    wait_for(lambda: not slow.server.listeners[0].connections, "the ends")
    slow.may_go_on.set()
    wait_for(lambda: slow.server._waiting._waiting == 0, "the queue")
    assert slow.decided <= 16, "those that a thread had begun"


def test_pipelined_requests_that_wait_are_bounded(slow: Slow) -> None:
    with connected(slow.sidecar.http) as many:
        many.sendall(encoded(ASKED) * 1_000)
        wait_for(lambda: slow.decided == 1, "the first")
        (connection,) = slow.server.listeners[0].connections
        wait_for(lambda: not connection.speaker._reads, "the bound")
        assert connection.speaker.calls == 18
        slow.may_go_on.set()
        found = answers(many)
    assert found.count(b"HTTP/1.1 ") == 18
    assert found.count(b"connection: close") == 1


@once
@pytest.mark.valkey
def test_a_server_counts(valkey: ValkeyServer) -> None:
    policies = """
apiVersion: ratectl/v1
scope: /shop
limits:
  local: {rate: 80/day, burst: 80, per: client}
  each: {rate: 5/day, burst: 5, per: client, across: redis}
  running: {algorithm: concurrency, max: 1, hold: 1h, across: redis, per: worker}
"""
    with (
        Agent.from_policies(policies, redis=valkey.url, redis_deadline=10) as agent,
        Sidecar(agent, http="127.0.0.1:0") as sidecar,
        ThreadPoolExecutor(20) as threads,
    ):

        def check(number: int) -> Any:
            attributes = {"client": "a", "worker": str(number)}
            body = {"scope": "/shop", "attributes": attributes}
            return post(sidecar.http, "/v1/check", body)

        found = list(threads.map(check, range(20)))
        assert sorted(got.status for got in found) == [200] * 5 + [429] * 15
        assert {got.json["limit"] for got in found if got.status == 429} == {"each"}
        assert any(b"each" in key for key in valkey.client().keys("*"))

        other = {"scope": "/shop", "attributes": {"client": "b", "worker": "w"}}
        body = {"requests": [other, other]}
        first, second = post(sidecar.http, "/v1/check-many", body).json["answers"]
        assert (first["allowed"], second["allowed"], second["limit"]) == (True, False, "running")
        assert post(sidecar.http, "/v1/release", {"token": first["token"]}).status == 204
        wait_for(lambda: post(sidecar.http, "/v1/check", other).status == 200, "the slot")


# TLS --------------------------------------------------------------------------------------------


def tls_files(folder: Path, authority: trustme.CA) -> tuple[Path, Path, Path]:
    issued = authority.issue_cert("localhost")
    certificate, key, ca = folder / "http.pem", folder / "http.key", folder / "ca.pem"
    issued.cert_chain_pems[0].write_to_path(certificate)
    issued.private_key_pem.write_to_path(key)
    authority.cert_pem.write_to_path(ca)
    return certificate, key, ca


def asked_over_tls(sidecar: Sidecar, context: ssl.SSLContext) -> int:
    connection = http.client.HTTPSConnection(
        "localhost", sidecar.http.port, timeout=20, context=context
    )
    try:
        connection.request(
            "POST", "/v1/check", json.dumps(ASKED), {"Content-Type": "application/json"}
        )
        return connection.getresponse().status
    finally:
        connection.close()


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def test_requests_over_tls(agent: Agent, tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate, key, ca = tls_files(tmp_path, authority)
    with Sidecar(agent, http="127.0.0.1:0", http_tls=Tls(certificate, key, ca)) as sidecar:
        context = trusting(authority)
        with pytest.raises((ssl.SSLError, ConnectionError)):
            asked_over_tls(sidecar, context)
        authority.issue_cert("shop").configure_cert(context)
        assert asked_over_tls(sidecar, context) == 200
        with connected(sidecar.http) as plain:
            plain.sendall(encoded(ASKED))
            assert b"HTTP" not in answers(plain)


def test_the_last_answer_over_tls_closes_the_connection(agent: Agent, tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate, key, _ = tls_files(tmp_path, authority)
    with (
        Sidecar(agent, http="127.0.0.1:0", http_tls=Tls(certificate, key)) as sidecar,
        connected(sidecar.http) as plain,
        trusting(authority).wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: l\r\nConnection: close\r\n\r\n")
        assert answers(connection).endswith(b"ok\n")


def test_a_child_leaves_the_address_to_its_parent(agent: Agent) -> None:
    with Sidecar(agent, http="127.0.0.1:0") as sidecar, connected(sidecar.http) as open_one:
        open_one.sendall(encoded(ASKED))
        assert open_one.recv(65_536).startswith(b"HTTP/1.1 200")
        child = os.fork()
        if not child:
            agent.close()
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        open_one.sendall(encoded(ASKED))
        assert open_one.recv(65_536).startswith(b"HTTP/1.1 200")
