"""A small Starlette application behind the ASGI middleware, and a client that calls it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import httpx
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from ratectl.contrib.asgi import RateLimitMiddleware

if TYPE_CHECKING:
    from starlette.requests import Request

    from ratectl import Agent

__all__ = ["client", "fails", "hello", "run"]


async def hello(request: Request) -> PlainTextResponse:
    return PlainTextResponse("hello", headers={"x-own": "1"})


async def fails(request: Request) -> PlainTextResponse:
    raise RuntimeError("the application's own")


def client(agent: Agent, routes: list[Any] | None = None, **arguments: Any) -> httpx.AsyncClient:
    app = Starlette(
        routes=routes
        or [
            Route("/", hello, methods=["GET", "POST"]),
            Route("/fails", fails),
            Mount("/items", routes=[Route("/{item_id:int}", hello)]),
        ]
    )
    limited = RateLimitMiddleware(app, agent, **arguments)
    transport = httpx.ASGITransport(limited, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://shop")


def run(agent: Agent, paths: list[str], sent: Any = None, **arguments: Any) -> list[Any]:
    """Send requests one after the other, and return the responses. ``sent``: their headers."""

    async def send() -> list[httpx.Response]:
        async with client(agent, **arguments) as http:
            return [await http.get(path, headers=sent) for path in paths]

    return asyncio.run(send())
