"""Adapters with limits that a server counts: async ones never block the event loop."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from django.test import AsyncClient, Client
from django.urls import path
from fastapi import FastAPI
from flask import Flask

from contrib.asgi_support import run
from contrib.django_support import async_text, limited_site, text
from contrib.grpc_servers import KINDS, served
from contrib.sites import make_agent as configures_django  # noqa: F401
from ratectl import Agent
from ratectl.contrib.aiohttp import rate_limit
from ratectl.contrib.django import limited as django_limited
from ratectl.contrib.fastapi import Limited
from ratectl.contrib.flask import RateLimit as FlaskLimit
from ratectl.contrib.httpx import AsyncRateLimitTransport, RateLimitTransport
from ratectl.contrib.wsgi import RateLimit
from support import once

if TYPE_CHECKING:
    from collections.abc import Iterator

    from valkey_server import ValkeyServer

pytestmark = [once, pytest.mark.valkey]

POLICIES = """
apiVersion: ratectl/v1
scope: /
limits:
  spike: {rate: 1/h, burst: 2, across: redis}
  slots: {algorithm: concurrency, max: 1, across: redis}
"""
EXPECTED = [200, 200, 429]


class Forbidden(AssertionError):
    """Raised by a call that the adapter should not make."""


@pytest.fixture
def agent(valkey: ValkeyServer) -> Iterator[Agent]:
    with Agent.from_policies(POLICIES, redis=valkey.url, redis_deadline=10) as agent:
        yield agent


@pytest.fixture
def async_agent(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> Agent:
    """The agent, which must not be asked in a way that blocks the loop."""

    def blocks(*question: Any) -> Any:
        raise Forbidden

    monkeypatch.setattr(agent, "check_blocking", blocks)
    return agent


def test_asgi(async_agent: Agent) -> None:
    answers = run(async_agent, ["/"] * 3, scope="/", headers="all")
    assert [answer.status_code for answer in answers] == EXPECTED
    assert "spike" in answers[0].headers["RateLimit-Policy"]
    assert int(answers[2].headers["Retry-After"]) > 3500


def test_fastapi(async_agent: Agent) -> None:
    app = FastAPI(dependencies=[Limited(async_agent, "/")])
    app.get("/")(lambda: "hello")

    async def send() -> list[int]:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
            return [(await client.get("/")).status_code for _ in range(3)]

    assert asyncio.run(send()) == EXPECTED


def test_aiohttp(async_agent: Agent) -> None:
    async def hello(request: web.Request) -> web.Response:
        return web.Response(text="hello")

    async def send() -> list[int]:
        app = web.Application(middlewares=[rate_limit(async_agent, "/")])
        app.router.add_get("/", hello)
        async with TestClient(TestServer(app)) as client:
            return [(await client.get("/")).status for _ in range(3)]

    assert asyncio.run(send()) == EXPECTED


@pytest.mark.parametrize("decorated", [False, True])
def test_django_async(async_agent: Agent, decorated: bool) -> None:
    with limited_site(async_agent):
        view = django_limited("/")(async_text) if decorated else async_text
    with limited_site(async_agent, path("", view), scope="/"):

        async def send() -> list[int]:
            return [(await AsyncClient().get("/")).status_code for _ in range(3)]

        assert asyncio.run(send()) == EXPECTED


def test_django_async_asks_for_unknown_pages_too(async_agent: Agent) -> None:
    with limited_site(async_agent, path("known", async_text), scope="/"):

        async def send() -> list[int]:
            return [(await AsyncClient().get("/")).status_code for _ in range(3)]

        assert asyncio.run(send()) == [404, 404, 429]


def test_django_sync(agent: Agent) -> None:
    with limited_site(agent, path("", text), scope="/"):
        assert [Client().get("/").status_code for _ in range(3)] == EXPECTED


def test_flask_and_wsgi(agent: Agent) -> None:
    app = Flask("shop")
    app.get("/")(lambda: "hello")
    FlaskLimit(app, agent=agent, scope="/")
    statuses = []
    for _ in range(3):
        with app.test_client().get("/") as response:
            statuses.append(response.status_code)
    assert statuses == EXPECTED
    client = httpx.Client(
        transport=httpx.WSGITransport(RateLimit(lambda *_: [b""], agent)), base_url="http://shop"
    )
    assert client.get("/").status_code == 429


@pytest.mark.parametrize("kind", KINDS)
def test_grpc(agent: Agent, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if kind in ("asyncio", "writers"):
        monkeypatch.setattr(agent, "check_blocking", None)
    with served(agent, kind, "/") as calls:
        assert [calls.call("UnaryUnary", "x") for _ in range(2)] == ["x", "x"]
        with pytest.raises(Exception, match="RESOURCE_EXHAUSTED"):
            calls.call("UnaryUnary", "x")


def test_httpx(agent: Agent) -> None:
    answer = httpx.MockTransport(lambda _: httpx.Response(200))
    with httpx.Client(transport=RateLimitTransport(agent, answer, "/", wait=0.01)) as client:
        assert client.get("http://x/").status_code == 200

    async def send() -> int:
        transport = AsyncRateLimitTransport(agent, answer, "/", wait=0.01)
        async with httpx.AsyncClient(transport=transport) as http:
            return (await http.get("http://x/")).status_code

    assert asyncio.run(send()) == 200
