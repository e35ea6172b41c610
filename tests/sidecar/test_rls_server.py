"""The sidecar's server, called over gRPC."""

from __future__ import annotations

import gc
import os
import socket
import stat
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from envoy.service.ratelimit.v3.rls_pb2 import RateLimitResponse

from etcd_server import wait_for
from ratectl import Agent
from ratectl.errors import UsageError
from ratectl.sidecar import Sidecar
from ratectl.sidecar.loop_server import _most_connections
from ratectl.sidecar.methods import MOST_BYTES
from ratectl.sidecar.service import METHOD, SERVICE
from ratectl.sidecar.sidecar import SERVERS
from sidecar.envoys_messages import OK, OVER, descriptor, request
from sidecar.servers import ON_THE_LOOP, needed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

POLICIES = """
apiVersion: ratectl/v1
scope: /shop
limits:
  each: {rate: 2/day, burst: 2, per: client}
"""
CHECK = "/grpc.health.v1.Health/Check"
SERVING, NOT_SERVING = b"\x08\x01", b"\x08\x02"


@pytest.fixture
def agent() -> Iterator[Agent]:
    with Agent.from_policies(POLICIES) as agent:
        yield agent


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest) -> Any:
    return needed(request.param)


@pytest.fixture(params=ON_THE_LOOP)
def looped(request: pytest.FixtureRequest) -> Any:
    return needed(request.param)


@pytest.fixture
def sidecar(agent: Agent, server: Any) -> Iterator[Sidecar]:
    with Sidecar(agent, "127.0.0.1:0", server=server) as sidecar:
        yield sidecar


@pytest.fixture
def call(sidecar: Sidecar) -> Iterator[Callable[..., Any]]:
    with grpc.insecure_channel(str(sidecar.rls)) as channel:

        def call(data: bytes, method: str = METHOD) -> bytes:
            answer: bytes = channel.unary_unary(method)(data, timeout=10)
            return answer

        yield call


def asking(client: str) -> bytes:
    found: bytes = request("shop", descriptor(("client", client))).SerializeToString()
    return found


def status_of(call: Callable[..., Any], *arguments: Any) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call(*arguments)
    return caught.value.code().name, caught.value.details()


def test_it_decides(call: Callable[..., Any]) -> None:
    answers = [RateLimitResponse.FromString(call(asking("a"))) for _ in range(3)]
    assert [answer.overall_code for answer in answers] == [OK, OK, OVER]


def test_what_is_wrong_is_told(call: Callable[..., Any]) -> None:
    name, details = status_of(call, b"\x0a\x05abc")
    assert (name, details) == ("INVALID_ARGUMENT", "the message ends within a field")
    assert status_of(call, b"") == ("INVALID_ARGUMENT", "the request has no domain")
    assert status_of(call, b"", "/shop.Shop/Buy")[0] == "UNIMPLEMENTED"
    large = request("shop", descriptor(("k", "v" * MOST_BYTES))).SerializeToString()
    assert status_of(call, large)[0] == "RESOURCE_EXHAUSTED"
    assert RateLimitResponse.FromString(call(asking("a"))).overall_code == OK


def test_a_failure_is_logged_and_told(
    call: Callable[..., Any],
    agent: Agent,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(agent, "check_blocking", None)
    name, details = status_of(call, asking("a"))
    assert (name, details) == ("INTERNAL", "the limiter failed: see its log")
    assert "a call of the sidecar failed" in caplog.text


@pytest.mark.parametrize("service", ["", SERVICE])
def test_it_is_healthy_with_a_generation(call: Callable[..., Any], service: str) -> None:
    asking = b"\x0a" + bytes([len(service)]) + service.encode() if service else b""
    assert call(asking, CHECK) == SERVING


def test_it_drains_before_it_ends(call: Callable[..., Any], sidecar: Sidecar) -> None:
    sidecar.drain()
    assert call(b"", CHECK) == NOT_SERVING
    assert RateLimitResponse.FromString(call(asking("a"))).overall_code == OK


def test_health_of_another_service_is_not_known(call: Callable[..., Any]) -> None:
    assert status_of(call, b"\x0a\x01x", CHECK) == ("NOT_FOUND", "there is no service 'x' here")
    assert status_of(call, b"\x0a\x05x", CHECK)[0] == "INVALID_ARGUMENT"


def test_without_a_generation_it_is_not_healthy_and_decides_as_on_error_says(
    tmp_path: Path, server: Any
) -> None:
    url = f"sqlite:///{tmp_path}/rates.db"
    with (
        Agent(url, state_dir=tmp_path / "state", ready_timeout=0, on_error="deny") as agent,
        Sidecar(agent, "127.0.0.1:0", server=server) as sidecar,
        grpc.insecure_channel(str(sidecar.rls)) as channel,
    ):
        assert channel.unary_unary(CHECK)(b"", timeout=10) == NOT_SERVING
        data = channel.unary_unary(METHOD)(asking("a"), timeout=10)
    answer = RateLimitResponse.FromString(data)
    assert answer.overall_code == OVER
    assert dict(answer.dynamic_metadata)["reason"] == "error"


def test_it_drains(
    sidecar: Sidecar, call: Callable[..., Any], agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call that is being answered is answered; health says that callers should go elsewhere."""
    begun, may_end = threading.Event(), threading.Event()
    check = agent.check_blocking

    def slow(*arguments: Any) -> Any:
        begun.set()
        assert may_end.wait(10)
        return check(*arguments)

    monkeypatch.setattr(agent, "check_blocking", slow)
    found: list[bytes] = []
    caller = threading.Thread(target=lambda: found.append(call(asking("a"))))
    caller.start()
    assert begun.wait(10)
    closing = threading.Thread(target=sidecar.close)
    closing.start()
    while sidecar._methods.health.is_serving:
        time.sleep(0.001)
    assert sidecar._methods.health.check(b"") == NOT_SERVING
    may_end.set()
    caller.join(10)
    closing.join(10)
    assert RateLimitResponse.FromString(found[0]).overall_code == OK
    assert status_of(call, asking("a"))[0] == "UNAVAILABLE"


# Addresses --------------------------------------------------------------------------------------


def test_a_unix_socket_is_for_its_owner_alone(agent: Agent, tmp_path: Path, server: Any) -> None:
    path = tmp_path / "rls.sock"
    before = os.umask(0o22)
    try:
        with Sidecar(agent, f"unix:{path}", server=server) as sidecar:
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert os.umask(0o22) == 0o22
            with grpc.insecure_channel(str(sidecar.rls)) as channel:
                assert channel.unary_unary(CHECK)(b"", timeout=10) == SERVING
        assert not path.exists()
    finally:
        os.umask(before)


def test_an_address_in_use_is_told(agent: Agent, server: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=f"cannot listen on 127.0.0.1:{port}") as caught:
            Sidecar(agent, f"127.0.0.1:{port}", server=server)
    assert "another process listens there" in caught.value.__notes__[0]


@pytest.mark.parametrize("address", ["", "127.0.0.1", "nowhere.invalid:80", "unix:"])
def test_no_address(agent: Agent, server: Any, address: str) -> None:
    with pytest.raises(UsageError):
        Sidecar(agent, address, server=server)


# Ends -------------------------------------------------------------------------------------------


def test_it_may_end_as_soon_as_it_has_begun(agent: Agent, server: Any) -> None:
    for _ in range(20):
        Sidecar(agent, "127.0.0.1:0", server=server).close()
    assert not [each for each in threading.enumerate() if each.name == "ratectl-sidecar"]


def test_connections_that_come_at_the_last_moment_are_closed(agent: Agent, looped: Any) -> None:
    for _ in range(30):
        sidecar = Sidecar(agent, "127.0.0.1:0", server=looped)
        peers = [
            socket.create_connection((sidecar.rls.host, sidecar.rls.port), timeout=20)
            for _ in range(3)
        ]
        sidecar.close(0.2)
        for peer in peers:
            with peer, suppress(ConnectionError):
                while peer.recv(1_000):
                    pass
    gc.collect()  # a transport that was not closed is a warning


def test_it_ends_with_its_agent_and_begins_with_no_closed_one(server: Any) -> None:
    agent = Agent.from_policies(POLICIES)
    sidecar = Sidecar(agent, "127.0.0.1:0", server=server)
    agent.close()
    with grpc.insecure_channel(str(sidecar.rls)) as channel, pytest.raises(grpc.RpcError):
        channel.unary_unary(CHECK)(b"", timeout=10)
    with pytest.raises(UsageError, match="the agent is closed"):
        Sidecar(agent, "127.0.0.1:0", server=server)


def test_one_that_ends_leaves_the_socket_of_the_next_one_alone(
    agent: Agent, tmp_path: Path, looped: Any
) -> None:
    path = tmp_path / "rls.sock"
    first = Sidecar(agent, f"unix:{path}", server=looped)
    with socket.socket(socket.AF_UNIX) as silent:  # it does not answer that it has heard of the end
        silent.connect(str(path))
        ending = threading.Thread(target=first.close, args=[1.0])
        ending.start()
        wait_for(lambda: not path.exists(), "the end to begin")
        with Sidecar(agent, f"unix:{path}", server=looped) as second:
            ending.join(20)
            with grpc.insecure_channel(str(second.rls)) as channel:
                assert channel.unary_unary(CHECK)(b"", timeout=10) == SERVING


class Slow:
    """A sidecar whose limits a server counts, slowly."""

    def __init__(self, agent: Agent, monkeypatch: pytest.MonkeyPatch, looped: Any) -> None:
        self.may_go_on = threading.Event()
        self.decided = 0
        check = agent.check_blocking

        def slow(*arguments: Any) -> Any:
            self.decided += 1
            self.may_go_on.wait(30)
            return check(*arguments)

        monkeypatch.setattr(agent, "check_blocking", slow)
        monkeypatch.setattr(type(agent), "asks_server", True)
        self.sidecar = Sidecar(agent, "127.0.0.1:0", server=looped)
        self.server: Any = self.sidecar._servers[0]


def test_calls_that_were_given_up_are_not_decided_and_health_does_not_wait(
    agent: Agent, monkeypatch: pytest.MonkeyPatch, looped: Any
) -> None:
    slow = Slow(agent, monkeypatch, looped)
    with slow.sidecar, grpc.insecure_channel(str(slow.sidecar.rls)) as channel:
        decide = channel.unary_unary(METHOD)
        calls = [decide.future(asking("a"), timeout=60) for _ in range(200)]
        wait_for(lambda: slow.server._waiting._waiting == 200, "the calls")
        assert channel.unary_unary(CHECK)(b"", timeout=10) == SERVING
        for each in calls:
            each.cancel()
        wait_for(
            lambda: sum(c.speaker.calls for c in slow.server.listeners[0].connections) == 0,
            "the resets",
        )
        slow.may_go_on.set()
        wait_for(lambda: slow.server._waiting._waiting == 0, "the queue")
        assert slow.decided <= 16, "those that a thread had begun"
        assert RateLimitResponse.FromString(decide(asking("b"), timeout=10)).overall_code == OK


def test_too_many_calls_that_wait_are_refused(
    agent: Agent, monkeypatch: pytest.MonkeyPatch, looped: Any
) -> None:
    monkeypatch.setattr("ratectl.sidecar.waiting_calls._MOST_WAITING", 20)
    slow = Slow(agent, monkeypatch, looped)
    with slow.sidecar, grpc.insecure_channel(str(slow.sidecar.rls)) as channel:
        decide = channel.unary_unary(METHOD)
        calls = [decide.future(asking("a"), timeout=60) for _ in range(20)]
        wait_for(lambda: slow.server._waiting._waiting == 20, "the calls")
        with pytest.raises(grpc.RpcError) as caught:
            decide(asking("a"), timeout=10)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        slow.may_go_on.set()
        for each in calls:
            each.result()


def test_the_end_waits_no_longer_than_it_may(
    agent: Agent, monkeypatch: pytest.MonkeyPatch, looped: Any
) -> None:
    slow = Slow(agent, monkeypatch, looped)
    with grpc.insecure_channel(str(slow.sidecar.rls)) as channel:
        call = channel.unary_unary(METHOD).future(asking("a"), timeout=60)
        wait_for(lambda: slow.decided == 1, "the call")
        began = time.monotonic()
        slow.sidecar.close(0.5)
        assert 0.4 < time.monotonic() - began < 10
        slow.may_go_on.set()
        assert call.exception().code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize(
    ("files", "most"), [(100, 25), (1_024, 924), (10**6, 10_000), (-1, 10_000)]
)
def test_connections_leave_files_for_others(
    monkeypatch: pytest.MonkeyPatch, files: int, most: int
) -> None:
    monkeypatch.setattr("ratectl.sidecar.loop_server.getrlimit", lambda _: (files, files))
    assert _most_connections() == most
