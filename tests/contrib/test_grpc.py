"""Interceptors of gRPC, in real servers: all kinds of calls and of handlers."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from grpc_servers import KINDS, served

from ratectl import Agent, FakeClock, UsageError
from ratectl.contrib.grpc import (
    AioRateLimitInterceptor,
    GrpcCall,
    RateLimitInterceptor,
    by_method,
    client_ip,
    metadata,
)
from ratectl.contrib.grpc_status import MESSAGES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

POLICIES = """\
apiVersion: ratectl/v1
scope: /api
trusted_proxies: [127.0.0.1/32]
limits: {spike: {rate: 2/3s, burst: 2, per: tenant}}
---
apiVersion: ratectl/v1
scope: /slots
limits: {slots: {algorithm: concurrency, max: 1}}
---
apiVersion: ratectl/v1
scope: /closed
on_error: deny
---
apiVersion: ratectl/v1
scope: /never
limits: {none: {rate: 0/s}}
"""
METHODS = ["UnaryUnary", "UnaryStream", "StreamUnary", "StreamStream"]


@pytest.fixture
def agent() -> Iterator[Agent]:
    with Agent.from_policies(POLICIES, clock=FakeClock()) as agent:
        yield agent


def refused(calls: Any, method: str, *requests: str, **options: Any) -> Any:
    with pytest.raises(grpc.RpcError) as error:
        calls.call(method, *requests, **options)
    return error.value


def slots_are_free(agent: Agent) -> bool:
    """Tell whether all slots are free soon."""
    deadline = time.monotonic() + 10
    while agent.check("/slots", cost=0).remaining == 0:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


@pytest.mark.parametrize("kind", KINDS)
def test_refusals_say_when_to_retry(agent: Agent, kind: str) -> None:
    attributes = {"tenant": metadata("X-Tenant")}
    with served(agent, kind, by_method("/api/"), attributes) as calls:
        for number, method in enumerate(METHODS):
            tenant = (("x-tenant", f"t{number}"),)
            for _ in range(2):
                assert calls.call(method, "a", "b", metadata=tenant) == "a b"
            error = refused(calls, method, "a", "b", metadata=tenant)
            assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert error.details() == "refused by spike@/api: retry after 1.5 s"
            trailers = dict(error.trailing_metadata())
            assert trailers["retry-after"] == "2"
            status: Any = MESSAGES.message_class("Status").FromString(
                trailers["grpc-status-details-bin"]
            )
            assert (status.code, status.message) == (8, error.details())
            assert status.details[0].type_url == "type.googleapis.com/google.rpc.RetryInfo"
            info: Any = MESSAGES.message_class("RetryInfo").FromString(status.details[0].value)
            delay = Duration.FromString(info.retry_delay.SerializeToString())
            assert delay.ToTimedelta().total_seconds() == 1.5
            assert (
                agent.check(f"/api/shop.Cart/{method}", {"tenant": f"t{number}"}, 0).remaining == 0
            )
        agent.clock.advance(2)
        assert calls.call("UnaryUnary", "a", metadata=(("x-tenant", "t0"),)) == "a"


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", KINDS)
def test_slots_are_held_until_the_call_has_ended(agent: Agent, kind: str, method: str) -> None:
    with served(agent, kind, "/slots") as calls:
        running = calls.start(method, "wait")
        assert calls.handlers.waits.wait(20)
        error = refused(calls, method, "a")
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert error.details() == "refused by slots@/slots: retry later"
        assert error.trailing_metadata() == ()
        calls.handlers.go_on.set()
        responses = list(running) if method.endswith("Stream") else [running.result()]
        assert responses == [b"wait"]
        assert slots_are_free(agent)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", KINDS)
def test_slots_are_released_after_an_error_of_the_application(
    agent: Agent, kind: str, method: str
) -> None:
    with served(agent, kind, "/slots") as calls:
        for requests in [("fail",), ("a", "fail")]:
            if method == "UnaryUnary":
                requests = requests[-1:]
            error = refused(calls, method, *requests)
            assert error.code() is grpc.StatusCode.UNKNOWN
            assert "an error of the application" in error.details()
            assert slots_are_free(agent)
        assert calls.call(method, "a") == "a"


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", KINDS)
def test_slots_of_a_cancelled_call_are_held_while_its_handler_works(
    agent: Agent, kind: str, method: str
) -> None:
    """Coroutines are cancelled with the call; functions in threads go on."""
    with served(agent, kind, "/slots") as calls:
        running = calls.start(method, "wait")
        assert calls.handlers.waits.wait(20)
        running.cancel()
        if kind in ("threads", "functions"):
            time.sleep(0.1)
            assert refused(calls, method, "a").code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            calls.handlers.go_on.set()
        assert slots_are_free(agent)


@pytest.mark.parametrize("kind", KINDS)
def test_slots_of_a_stream_that_nobody_reads_to_its_end_are_released(
    agent: Agent, kind: str
) -> None:
    with served(agent, kind, "/slots") as calls:
        running = calls.start("UnaryStream", *["a"] * 100_000)
        assert next(running) == b"a"
        running.cancel()
        assert slots_are_free(agent)
        assert calls.call("UnaryUnary", "a") == "a"


@pytest.mark.parametrize("kind", KINDS)
def test_clients_behind_trusted_proxies_are_told_apart(agent: Agent, kind: str) -> None:
    with served(agent, kind, "/api", {"tenant": client_ip()}, cost=2) as calls:
        for address in ("203.0.113.7", "203.0.113.8"):
            assert calls.call("UnaryUnary", "a", metadata=[("x-forwarded-for", address)]) == "a"
        forged = [("x-forwarded-for", "6.6.6.6, 203.0.113.7")]
        assert refused(calls, "UnaryUnary", "a", metadata=forged)
        assert calls.call("UnaryUnary", "a") == "a"
        assert refused(calls, "UnaryUnary", "a")
        assert agent.check("/api", {"tenant": "127.0.0.1"}, 0).remaining == 0


@pytest.mark.parametrize("address", ["[::1]:0", "unix:{}/socket"])
@pytest.mark.parametrize("kind", ["threads", "asyncio"])
def test_addresses_of_peers(agent: Agent, kind: str, address: str, tmp_path: Path) -> None:
    peers: list[str | None] = []

    def attributes(call: Any) -> dict[str, Any]:
        peers.append(agent.client_ip("/api", call.peer))
        return {"tenant": peers[0]}

    at = address.format(tmp_path)
    try:
        with served(agent, kind, "/api", attributes, address=at) as calls:
            assert calls.call("UnaryUnary", "a") == "a"
    except RuntimeError:
        pytest.skip("no IPv6 on this machine")
    assert peers == [None if address.startswith("unix") else "::1"]


@pytest.mark.parametrize("kind", ["threads", "asyncio"])
def test_scope_cost_and_exempt_are_functions_of_the_call(agent: Agent, kind: str) -> None:
    def cost(call: Any) -> int:
        return int(call.header("x-cost") or 1)

    def is_exempt(call: Any) -> bool:
        return call.header("x-free") is not None

    def scope(call: Any) -> str:
        return f"/api{call.method}"

    with served(agent, kind, scope, None, cost, is_exempt) as calls:
        calls.call("UnaryUnary", "a", metadata=[("x-cost", "2")])
        assert refused(calls, "UnaryStream", "a")
        for _ in range(3):
            calls.call("UnaryUnary", "a", metadata=[("x-free", "")])


@pytest.mark.parametrize("exempt", ["/shop.Cart", "/shop.Cart/UnaryUnary"])
@pytest.mark.parametrize("kind", ["threads", "asyncio"])
def test_methods_and_services_may_be_exempt(agent: Agent, kind: str, exempt: str) -> None:
    with served(agent, kind, "/never", exempt=[exempt]) as calls:
        assert calls.call("UnaryUnary", "a") == "a"
        if exempt != "/shop.Cart":
            error = refused(calls, "UnaryStream", "a")
            assert error.details() == "refused by none@/never: waiting does not help"


@pytest.mark.parametrize("kind", KINDS)
def test_failures_are_answered_by_on_error(agent: Agent, kind: str) -> None:
    def fail(call: Any) -> str:
        raise LookupError(call.method)

    with served(agent, kind, "/api", {"tenant": fail}) as calls:
        for method in METHODS:
            assert calls.call(method, "a", "b") == "a b"
    with served(agent, kind, "/closed", {"tenant": fail}) as calls:
        for method in METHODS:
            error = refused(calls, method, "a")
            assert error.code() is grpc.StatusCode.UNAVAILABLE
            assert error.details() == "refused, because the limiter failed and on_error is deny"


@pytest.mark.parametrize("kind", ["threads", "asyncio"])
def test_unknown_methods_stay_unknown(agent: Agent, kind: str) -> None:
    with served(agent, kind, "/never") as calls:
        call = calls.channel.unary_unary("/shop.Cart/None")
        with pytest.raises(grpc.RpcError) as error:
            call(b"a", timeout=20)
        assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("interceptor", [RateLimitInterceptor, AioRateLimitInterceptor])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"agent": None, "scope": "/"}, r"agent is a ratectl\.Agent"),
        ({"scope": "api"}, "scope is a text like /mail"),
        ({"scope": "/", "attributes": ["x-tenant"]}, "attributes is a mapping"),
        ({"scope": "/", "attributes": {"tenant": 7}}, "'tenant' is a text or a function"),
        ({"scope": "/", "cost": "1"}, "cost"),
        ({"scope": "/", "exempt": "/shop.Cart"}, "exempt is a list of methods"),
        ({"scope": "/", "exempt": 7}, "exempt is a list of methods"),
    ],
)
def test_wrong_arguments(agent: Agent, interceptor: Any, arguments: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        interceptor(**{"agent": agent, **arguments})


@pytest.mark.parametrize("method", ["/p.S/M", "p.S/M"])
@pytest.mark.parametrize(("prefix", "scope"), [("/", "/p.S/M"), ("/api", "/api/p.S/M")])
def test_scope_of_any_method_is_below_the_prefix(prefix: str, scope: str, method: str) -> None:
    details = SimpleNamespace(method=method, invocation_metadata=())
    assert by_method(prefix)(GrpcCall(details, None)) == scope


def test_wrong_names() -> None:
    with pytest.raises(UsageError, match="a prefix of scopes begins with a slash"):
        by_method("api")
    for wrong in ("", "trace-bin", None):
        with pytest.raises(UsageError, match="a key of the metadata"):
            metadata(wrong)  # type: ignore[arg-type]
