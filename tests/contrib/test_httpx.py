"""Transports of httpx: against a real server, and with its own mock transport."""

from __future__ import annotations

import asyncio
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from ratectl import Agent, FakeClock, Limited, UsageError
from ratectl.contrib.httpx import AsyncRateLimitTransport, RateLimitTransport

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

POLICIES = """\
apiVersion: ratectl/v1
scope: /out
limits: {spike: {rate: 1/s, burst: 2, per: host}}
---
apiVersion: ratectl/v1
scope: /slots
limits: {slots: {algorithm: concurrency, max: 1}}
---
apiVersion: ratectl/v1
scope: /free
limits: {}
---
apiVersion: ratectl/v1
scope: /closed
on_error: deny
---
apiVersion: ratectl/v1
scope: /never
limits: {none: {rate: 0/s}}
"""
HOST = {"host": lambda request: request.url.host}


@pytest.fixture
def agent() -> Iterator[Agent]:
    with Agent.from_policies(POLICIES, clock=FakeClock()) as agent:
        yield agent


class Server:
    """A server that answers with the status and the headers of ``answer``, and a body in parts."""

    def __init__(self) -> None:
        self.answer: tuple[int, dict[str, str]] = (200, {})
        self.paths: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.paths.append(self.path)
                if self.path == "/cut":
                    self.connection.close()
                    return
                status, headers = outer.answer
                self.send_response_only(302 if self.path == "/away" else status)
                for name, value in {**headers, "Content-Length": "20000"}.items():
                    self.send_header(name, value)
                if self.path == "/away":
                    self.send_header("Location", "/")
                self.end_headers()
                self.wfile.write(b"x" * 20_000)

            def log_message(self, format: str, *args: Any) -> None: ...  # noqa: A002

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture(params=["sync", "async"])
def get(request: pytest.FixtureRequest, agent: Agent, server: Server) -> Iterator[Any]:
    """Yield a function that makes a client with limits; it returns a function that gets a path."""
    with asyncio.Runner() as runner:

        def sync_client(*args: Any, **options: Any) -> Any:
            transport = RateLimitTransport(agent, httpx.HTTPTransport(), *args, **options)
            client = httpx.Client(transport=transport, base_url=server.url, follow_redirects=True)
            closings.append(client.close)
            return client.get

        def async_client(*args: Any, **options: Any) -> Any:
            transport = AsyncRateLimitTransport(agent, httpx.AsyncHTTPTransport(), *args, **options)
            client = httpx.AsyncClient(
                transport=transport, base_url=server.url, follow_redirects=True
            )
            closings.append(lambda: runner.run(client.aclose()))
            return lambda path: runner.run(client.get(path))

        closings: list[Any] = []
        yield sync_client if request.param == "sync" else async_client
        for close in closings:
            close()


def is_free(agent: Agent) -> bool:
    return agent.check("/slots", cost=0).remaining == 1


# Limits of this side --------------------------------------------------------------------------


def test_request_that_would_wait_too_long_is_not_sent(
    get: Any, agent: Agent, server: Server
) -> None:
    send = get("/out", HOST, wait=0.5)
    assert [send("/").status_code for _ in range(2)] == [200, 200]
    with pytest.raises(Limited, match="refused by spike@/out: retry after 1 s") as refused:
        send("/")
    assert refused.value.decision.limit == "spike"
    assert len(server.paths) == 2
    agent.clock.advance(1)
    assert send("/").content == b"x" * 20_000


def test_requests_wait_in_line(agent: Agent) -> None:
    transport = RateLimitTransport(agent, httpx.MockTransport(ok), "/out")
    with httpx.Client(transport=transport) as client:
        client.get("http://a/")
        client.get("http://a/")
        threads = [threading.Thread(target=client.get, args=["http://a/"]) for _ in range(2)]
        for thread in threads:
            thread.start()
        while len(agent._line) < 2:
            time.sleep(0.001)
        agent.clock.advance(2)
        for thread in threads:
            thread.join(5)
        assert not any(thread.is_alive() for thread in threads)


def test_tasks_wait_in_line_and_cancelled_ones_take_nothing(agent: Agent) -> None:
    async def run() -> None:
        transport = AsyncRateLimitTransport(agent, httpx.MockTransport(ok), "/out", wait=None)
        async with httpx.AsyncClient(transport=transport) as client:
            await client.get("http://a/")
            await client.get("http://a/")
            tasks = [asyncio.create_task(client.get("http://a/")) for _ in range(2)]
            while len(agent._line) < 2:
                await asyncio.sleep(0)
            tasks[0].cancel()
            await asyncio.sleep(0)
            agent.clock.advance(1)
            assert (await tasks[1]).status_code == 200

    asyncio.run(run())


def ok(request: httpx.Request) -> httpx.Response:
    return httpx.Response(200, text="ok")


def test_scope_cost_and_exempt_are_functions_of_the_request(get: Any, server: Server) -> None:
    send = get(
        lambda request: f"/out{request.url.path}",
        lambda request: {"host": request.url.host, "other": None},
        lambda request: 3 if request.url.path == "/big" else 2,
        lambda request: request.url.path == "/free",
        wait=0,
    )
    send("/small")
    with pytest.raises(Limited):
        send("/small")
    with pytest.raises(Limited, match="waiting does not help"):
        send("/big")
    for _ in range(3):
        send("/free")


def test_slots_are_free_after_a_response_a_redirection_and_an_error(
    get: Any, agent: Agent, server: Server
) -> None:
    send = get("/slots", wait=0)
    assert send("/").status_code == 200
    assert is_free(agent)
    assert [response.status_code for response in send("/away").history] == [302]
    assert is_free(agent)
    with pytest.raises(httpx.RemoteProtocolError):
        send("/cut")
    assert is_free(agent)
    server.answer = (500, {})
    assert send("/").status_code == 500
    assert is_free(agent)


def test_slots_are_held_until_the_body_is_closed(agent: Agent, server: Server) -> None:
    transport = RateLimitTransport(agent, httpx.HTTPTransport(), "/slots", wait=0)
    with httpx.Client(transport=transport, base_url=server.url) as client:
        with client.stream("GET", "/") as response:
            assert next(response.iter_bytes())
            assert not is_free(agent)
            with pytest.raises(Limited, match="refused by slots@/slots: retry later"):
                client.get("/")
        assert is_free(agent)


def test_slots_are_held_until_an_async_body_is_closed_or_cancelled(
    agent: Agent, server: Server
) -> None:
    async def run() -> None:
        transport = AsyncRateLimitTransport(agent, httpx.AsyncHTTPTransport(), "/slots", wait=0)
        async with httpx.AsyncClient(transport=transport, base_url=server.url) as client:
            async with client.stream("GET", "/") as response:
                assert not is_free(agent)
                with pytest.raises(Limited):
                    await client.get("/")
                assert len(await response.aread()) == 20_000
            assert is_free(agent)
            task = asyncio.create_task(read_slowly(client))
            while is_free(agent):
                await asyncio.sleep(0.001)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert is_free(agent)

    async def read_slowly(client: httpx.AsyncClient) -> None:
        async with client.stream("GET", "/"):
            await asyncio.sleep(60)

    asyncio.run(run())


def test_bodies_that_fail_give_slots_back(agent: Agent) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"x"
        raise httpx.ReadError("cut")

    def parts() -> Iterator[bytes]:
        yield b"x"
        raise httpx.ReadError("cut")

    async def run() -> None:
        inner = httpx.MockTransport(lambda _: httpx.Response(200, content=body()))
        transport = AsyncRateLimitTransport(agent, inner, "/slots", wait=0)
        async with httpx.AsyncClient(transport=transport) as client:
            with pytest.raises(httpx.ReadError):
                await client.get("http://a/")

    asyncio.run(run())
    assert is_free(agent)
    inner = httpx.MockTransport(lambda _: httpx.Response(200, content=parts()))
    with (
        httpx.Client(transport=RateLimitTransport(agent, inner, "/slots", wait=0)) as client,
        pytest.raises(httpx.ReadError),
    ):
        client.get("http://a/")
    assert is_free(agent)


# Pauses of the other side ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (429, {"Retry-After": "30"}),
        (200, {"RateLimit": '"spike";r=0;t=30'}),
    ],
)
def test_later_requests_of_the_scope_wait(
    get: Any, server: Server, status: int, headers: dict[str, str]
) -> None:
    send = get(lambda request: f"/free{request.url.path}", max_pause=0.3)
    server.answer = (status, headers)
    begin = time.monotonic()
    assert send("/a").status_code == status
    server.answer = (200, {})
    send("/b")  # another scope
    assert time.monotonic() - begin < 0.3
    send("/a")
    assert time.monotonic() - begin >= 0.3


def test_pause_that_is_longer_than_the_wait_is_a_refusal(get: Any, server: Server) -> None:
    send = get("/free", wait=10)
    server.answer = (503, {"Retry-After": "20"})
    send("/")
    with pytest.raises(Limited, match="refused: retry after 20 s") as refused:
        send("/")
    assert 19 < refused.value.decision.retry_after <= 20
    assert len(server.paths) == 1


def test_request_in_line_takes_nothing_while_the_other_side_pauses(agent: Agent) -> None:
    """A request waits for its own limit. Meanwhile another response asks for a pause."""
    answers = iter([httpx.Response(429, headers={"Retry-After": "60"}), httpx.Response(200)])
    go_on = threading.Event()

    def answer(request: httpx.Request) -> httpx.Response:
        assert go_on.wait(10)
        return next(answers)

    transport = RateLimitTransport(
        agent, httpx.MockTransport(answer), "/slots", wait=5, max_pause=20
    )
    errors: list[Exception] = []

    def get() -> None:
        try:
            httpx.Client(transport=transport).get("http://a/")
        except Limited as error:
            errors.append(error)

    threads = [threading.Thread(target=get) for _ in range(2)]
    for thread in threads:
        thread.start()
    while len(agent._line) < 1:
        time.sleep(0.001)
    go_on.set()
    for thread in threads:
        thread.join(10)
    (error,) = errors
    assert str(error) == "refused: retry after 20 s"
    assert is_free(agent)


# Failures and wrong arguments -----------------------------------------------------------------


def test_failures_are_answered_by_on_error(get: Any, server: Server) -> None:
    def fail(request: httpx.Request) -> str:
        raise LookupError(request.url.host)

    assert get("/free", {"host": fail})("/").status_code == 200
    with pytest.raises(Limited, match="the limiter failed and on_error is deny"):
        get("/closed", {"host": fail})("/")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"agent": None}, r"agent is a ratectl\.Agent"),
        ({"transport": None}, "transport is like httpx"),
        ({"scope": "out"}, "scope is a text like /mail"),
        ({"attributes": ["host"]}, "attributes is a mapping"),
        ({"cost": -1}, "cost"),
        ({"exempt": ["host"]}, "exempt is a function"),
        ({"wait": -1}, "wait is a number of seconds"),
        ({"max_pause": -1}, "max_pause is a number of seconds"),
        ({"max_pause": "60"}, "max_pause is a number of seconds"),
        ({"max_pause": float("inf")}, "max_pause is a number of seconds"),
    ],
)
@pytest.mark.parametrize("kind", [RateLimitTransport, AsyncRateLimitTransport])
def test_wrong_arguments(agent: Agent, kind: Any, arguments: Any, message: str) -> None:
    given = {"agent": agent, "transport": httpx.MockTransport(ok), "scope": "/", **arguments}
    with pytest.raises(UsageError, match=message):
        kind(**given)
