"""The middleware for aiohttp, on a real server, and the ASGI middleware in Litestar."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from litestar import Litestar, get
from litestar.middleware import DefineMiddleware
from litestar.testing import TestClient as LitestarClient

from contrib.web_support import limits_told, make_agent, slots_free
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


def test_litestar_takes_the_asgi_middleware(agent: Agent) -> None:
    @get("/items/{item_id:int}")
    async def item() -> str:
        return "item"

    limited = DefineMiddleware(RateLimitMiddleware, agent=agent, **ITEMS)
    with LitestarClient(Litestar([item], middleware=[limited], logging_config=None)) as http:
        answers = [http.get(f"/items/{number}", headers={"x-tenant": "a"}) for number in (1, 1)]
    assert [answer.status_code for answer in answers] == [200, 429]
    assert limits_told(answers[1].headers)[1] == {"item": {"r": 0, "t": 4}}
