"""The sidecar's server, called over gRPC."""

from __future__ import annotations

import os
import socket
import stat
import threading
import time
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from envoy.service.ratelimit.v3.rls_pb2 import RateLimitResponse

from ratectl import Agent
from ratectl.errors import UsageError
from ratectl.sidecar import Sidecar
from ratectl.sidecar.grpcio_server import MOST_BYTES
from ratectl.sidecar.service import METHOD, SERVICE
from ratectl.sidecar.sidecar import SERVERS
from sidecar.envoys_messages import OK, OVER, descriptor, request

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
    return request.param


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
