"""The middleware for aiohttp, on a real server, and the ASGI middleware in Litestar."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from litestar import Litestar, get
from litestar.middleware import DefineMiddleware
from litestar.testing import TestClient as LitestarClient

from contrib.web_support import limits_told, make_agent, slots_free
from ratectl import FakeClock
from ratectl.contrib.aiohttp import DECISION, rate_limit
from ratectl.contrib.asgi import RateLimitMiddleware
from ratectl.contrib.web import by_route, client_ip, header, path_parameter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ratectl import Agent

ITEMS: dict[str, Any] = {
    "scope": by_route("/shop"),
    "attributes": {"item": path_parameter("item_id"), "tenant": header("x-tenant")},
    "headers": "all",
}


@pytest.fixture
def agent() -> Iterator[Agent]:
    with make_agent() as agent:
        yield agent


async def hello(request: web.Request) -> web.Response:
    return web.Response(text=request[DECISION].reason if DECISION in request else "exempt")


async def missing(request: web.Request) -> web.Response:
    raise web.HTTPNotFound


async def fails(request: web.Request) -> web.Response:
    raise RuntimeError("the application's own")


def sent(agent: Agent, paths: list[str], handler: Any = hello, **arguments: Any) -> list[Any]:
    """Send requests to a real server; return status, headers and text of each answer."""

    async def send() -> list[Any]:
        app = web.Application(middlewares=[rate_limit(agent, **arguments)])
        app.router.add_get("/items/{item_id}", handler)
        app.router.add_get("/", handler)
        answers = []
        async with TestClient(TestServer(app)) as http:
            for path in paths:
                response = await http.get(path, headers={"x-tenant": path})
                answers.append((response.status, response.headers, await response.text()))
        return answers

    return asyncio.run(send())


def test_routes_are_scopes_and_refusals_are_problems(agent: Agent) -> None:
    first, refused, other, none = sent(agent, ["/items/1", "/items/1", "/items/2", "/no"], **ITEMS)
    assert (first[0], first[2], other[0]) == (200, "ok", 200)
    assert refused[0] == 429
    lower = {name.lower(): value for name, value in refused[1].items()}
    assert limits_told(lower)[1] == {"item": {"r": 0, "t": 4}}
    assert lower["content-type"] == "application/problem+json"
    assert none[0] == 404
    assert "RateLimit" in none[1], "headers are added to errors of the application"


def test_exempt_requests_and_own_answers(agent: Agent) -> None:
    def teapot(request: Any, decision: Any) -> web.Response:
        return web.Response(status=418, text=request.path)

    answers = sent(agent, ["/"] * 4, scope="/shop", exempt=["/"])
    assert [(status, text) for status, _, text in answers] == [(200, "exempt")] * 4
    *_, (status, headers, text) = sent(agent, ["/"] * 3, scope="/shop", on_refused=teapot)
    assert (status, text, headers["Retry-After"]) == (418, "/", "1")


def test_the_peer_counts_without_a_header(agent: Agent) -> None:
    answers = sent(agent, ["/", "/"], scope="/address", attributes={"ip": client_ip()})
    assert [status for status, *_ in answers] == [200, 429]


@pytest.mark.parametrize(("handler", "status"), [(hello, 200), (missing, 404), (fails, 500)])
def test_slots_are_released(agent: Agent, handler: Any, status: int) -> None:
    ((answered, _, _),) = sent(agent, ["/"], handler, scope="/slots")
    assert (answered, slots_free(agent)) == (status, 1)


@pytest.mark.parametrize("prepared", [True, False])
def test_slots_are_held_while_a_body_is_sent(agent: Agent, prepared: bool) -> None:
    seen = []

    async def parts() -> Any:
        for _ in range(3):
            seen.append(slots_free(agent))
            yield b"part"

    async def streams(request: web.Request) -> web.StreamResponse:
        if not prepared:
            return web.Response(body=parts())
        response = web.StreamResponse()
        await response.prepare(request)
        async for part in parts():
            await response.write(part)
        return response

    ((status, _, text),) = sent(agent, ["/"], streams, scope="/slots")
    assert (status, text, seen, slots_free(agent)) == (200, "part" * 3, [0, 0, 0], 1)


def test_slots_are_released_when_the_client_goes_away(agent: Agent) -> None:
    async def forever(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x" * 65_536)
            await asyncio.sleep(0)

    async def leave() -> None:
        app = web.Application(middlewares=[rate_limit(agent, "/slots")])
        app.router.add_get("/", forever)
        async with TestServer(app) as server, aiohttp.ClientSession() as http:
            async with http.get(server.make_url("/")) as response:
                assert slots_free(agent) == 0
                response.close()
            for _ in range(1_000):
                if slots_free(agent):
                    return
                await asyncio.sleep(0.01)

    asyncio.run(leave())
    assert slots_free(agent) == 1


FILE = Path(__file__)


async def file(request: web.Request) -> web.StreamResponse:
    return web.FileResponse(FILE)


def test_static_files_keep_their_connection(agent: Agent, caplog: Any) -> None:
    """Files are prepared once: ranges and HEAD work, and the client keeps its connection."""

    async def send() -> None:
        app = web.Application(middlewares=[rate_limit(agent, "/slots")])
        app.router.add_get("/", file)
        async with TestServer(app) as server:
            connections = aiohttp.TCPConnector(limit=1)
            async with aiohttp.ClientSession(server.make_url("/"), connector=connections) as http:
                for _ in range(3):
                    assert await (await http.get("/")).read() == FILE.read_bytes()
                    part = await http.get("/", headers={"Range": "bytes=0-2"})
                    assert (part.status, await part.text()) == (206, '"""')
                    assert (await http.head("/")).status == 200
                    cached = await http.get("/", headers={"If-None-Match": part.headers["ETag"]})
                    assert cached.status == 304

    asyncio.run(send())
    assert slots_free(agent) == 1
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize(("handler", "status"), [(hello, 200), (missing, 404), (file, 200)])
def test_outer_middleware_changes_responses(agent: Agent, handler: Any, status: int) -> None:
    prepared = []

    @web.middleware
    async def outer(request: web.Request, handler: Any) -> web.StreamResponse:
        try:
            response: web.StreamResponse = await asyncio.wait_for(handler(request), 9)
        except web.HTTPException as error:
            response = web.Response(status=error.status)
        prepared.append(response.prepared)
        assert slots_free(agent) == 0, "nothing is sent yet"
        response.headers["Access-Control-Allow-Origin"] = "*"
        response.set_cookie("session", "1")
        return response

    async def send() -> None:
        app = web.Application(middlewares=[outer, rate_limit(agent, "/slots")])
        app.router.add_get("/", handler)
        async with TestClient(TestServer(app)) as http:
            for _ in range(3):
                response = await http.get("/")
                await response.read()
                assert response.status == status, "the only slot is free again"
                assert response.headers["Access-Control-Allow-Origin"] == "*"
                assert response.cookies["session"].value == "1"

    asyncio.run(send())
    assert prepared == [False] * 3


@pytest.mark.parametrize(
    "kinds",
    [
        {"ok": 200, "missing": 404, "early": 200},
        {"fails": 500},
        {"none": 500},
    ],
)
def test_slots_are_released_on_connections_that_stay(agent: Agent, kinds: dict[str, int]) -> None:
    """After each kind of answer; and the connection's task keeps no callback of old requests."""
    tasks = set()

    async def handler(request: web.Request) -> Any:
        tasks.add(request.task)
        if request.query["n"] == "none":
            return None
        if request.query["n"] == "early":
            response = web.StreamResponse()
            await response.prepare(request)
            await response.write_eof()
            assert slots_free(agent) == 0, "the handler still works"
            return response
        return await {"ok": hello, "missing": missing, "fails": fails}[request.query["n"]](request)

    async def send() -> list[int]:
        app = web.Application(middlewares=[rate_limit(agent, "/slots")])
        app.router.add_get("/", handler)
        async with TestClient(TestServer(app)) as http:
            answers = []
            for kind in kinds:
                response = await http.get("/", params={"n": kind})
                await response.read()
                answers.append(response.status)
                assert slots_free(agent) == 1, kind
            for task in tasks:
                assert not task._callbacks or len(task._callbacks) < 2
            return answers

    assert asyncio.run(send()) == list(kinds.values())


def test_slots_of_a_websocket_are_held_while_it_is_open(agent: Agent) -> None:
    async def echo(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(message.data)
        return socket

    async def send() -> None:
        app = web.Application(middlewares=[rate_limit(agent, "/slots")])
        app.router.add_get("/", echo)
        async with TestClient(TestServer(app)) as http:
            async with http.ws_connect("/") as socket:
                await socket.send_str("hello")
                assert await socket.receive_str() == "hello"
                assert slots_free(agent) == 0
            await asyncio.sleep(0.05)
            assert slots_free(agent) == 1

    asyncio.run(send())


@pytest.mark.parametrize("answer", [{"a": 1}, "text", ("a", 429), None])
def test_unusable_answers_are_the_usual_ones(agent: Agent, answer: Any, caplog: Any) -> None:
    *_, (status, headers, _) = sent(
        agent, ["/"] * 3, scope="/shop", on_refused=lambda request, decision: answer
    )
    assert (status, headers["Retry-After"]) == (429, "1")
    assert ("on_refused failed" in caplog.text) is (answer is not None)


def test_one_own_answer_is_sent_for_many_refusals() -> None:
    """Each has the headers of its refusal, and what the application set."""
    clock = FakeClock()
    ours = web.json_response({"slow": "down"}, status=418, headers={"X-Own": "1"})
    ours.set_cookie("seen", "1")

    async def send(agent: Agent) -> list[str]:
        limited = rate_limit(
            agent,
            by_route("/shop"),
            on_refused=lambda request, decision: ours,
            attributes={"item": path_parameter("item_id")},
        )
        app = web.Application(middlewares=[limited])
        app.router.add_get("/items/{item_id}", hello)
        waits = []
        async with TestClient(TestServer(app)) as http:
            await http.get("/items/1")
            for _ in range(3):
                response = await http.get("/items/1")
                assert (response.status, await response.json()) == (418, {"slow": "down"})
                assert (response.headers["X-Own"], response.cookies["seen"].value) == ("1", "1")
                waits.append(response.headers["Retry-After"])
                clock.advance(1)
        return waits

    with make_agent(clock=clock) as agent:
        assert asyncio.run(asyncio.wait_for(send(agent), 20)) == ["4", "3", "2"]
    assert "Retry-After" not in ours.headers


def test_litestar_takes_the_asgi_middleware(agent: Agent) -> None:
    @get("/items/{item_id:int}")
    async def item() -> str:
        return "item"

    limited = DefineMiddleware(RateLimitMiddleware, agent=agent, **ITEMS)
    with LitestarClient(Litestar([item], middleware=[limited], logging_config=None)) as http:
        answers = [http.get(f"/items/{number}", headers={"x-tenant": "a"}) for number in (1, 1)]
    assert [answer.status_code for answer in answers] == [200, 429]
    assert limits_told(answers[1].headers)[1] == {"item": {"r": 0, "t": 4}}
