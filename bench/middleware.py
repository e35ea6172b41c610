"""Cost of an adapter for a request, beside the bare application and the usual library.

The same application is called in one process, without a network: bare, with ratectl, and with the
library that people use (in memory, the same limit per tenant, which refuses nothing here). They run
in turn; the figures are the differences to the bare application in the same turn.
"""

from __future__ import annotations

import asyncio
import time
import warnings
from typing import Any

from bench.figures import show
from ratectl import Agent
from ratectl.contrib.asgi import RateLimitMiddleware
from ratectl.contrib.web import by_route, header

REQUESTS = 4_000
TURNS = 15
POLICIES = """
apiVersion: ratectl/v1
scope: /shop
limits:
  spike: {rate: 1000000/s, burst: 1000000000, per: tenant}
"""
SCOPE = {
    "type": "http", "http_version": "1.1", "method": "GET", "path": "/items/5", "root_path": "",
    "raw_path": b"/items/5", "query_string": b"", "scheme": "http", "server": ("shop", 80),
    "client": ("127.0.0.1", 5), "headers": [
        (b"host", b"shop"), (b"user-agent", b"bench"), (b"accept", b"*/*"), (b"x-tenant", b"acme"),
    ],
}  # fmt: skip


def starlette() -> Any:
    """Return an application with one route."""
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    async def item(_: Any) -> PlainTextResponse:
        return PlainTextResponse("hello")

    return Starlette(routes=[Route("/items/{item_id}", item)])


def with_ratectl(agent: Agent) -> Any:
    app = starlette()
    app.add_middleware(
        RateLimitMiddleware,
        agent=agent,
        scope=by_route("/shop"),
        attributes={"tenant": header("x-tenant")},
    )
    return app


def with_slowapi() -> Any:
    """Return the application with slowapi's ASGI middleware, the quicker of its two."""
    from slowapi import Limiter
    from slowapi.middleware import SlowAPIASGIMiddleware

    app = starlette()
    app.state.limiter = Limiter(
        key_func=lambda request: request.headers["x-tenant"],
        default_limits=["1000000000/second"],
    )
    app.add_middleware(SlowAPIASGIMiddleware)
    return app


async def _receive() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


async def _send(message: Any) -> None:
    pass


def _microseconds(app: Any) -> float:
    async def send_all() -> float:
        await app({**SCOPE, "app": app}, _receive, _send)
        started = time.process_time_ns()
        for _ in range(REQUESTS):
            await app(dict(SCOPE), _receive, _send)
        return (time.process_time_ns() - started) / REQUESTS / 1e3

    return asyncio.run(send_all())


def run() -> dict[str, object]:
    warnings.simplefilter("ignore", DeprecationWarning)
    agent = Agent.from_policies(POLICIES)
    apps = {"bare": starlette(), "ratectl": with_ratectl(agent), "slowapi": with_slowapi()}
    took: dict[str, list[float]] = {name: [] for name in apps}
    for _ in range(TURNS):
        for name, app in apps.items():
            took[name].append(_microseconds(app))
    print("  Starlette, one route")
    figures: dict[str, object] = {name: show(name, took[name], "µs") for name in apps}
    added = {
        name: sorted(two - one for one, two in zip(took["bare"], took[name], strict=True))[
            TURNS // 2
        ]
        for name in ("ratectl", "slowapi")
    }
    for name, more in added.items():
        print(f"  {name + ' adds':<44} {more:.1f} µs")
    ratio = added["ratectl"] / added["slowapi"]
    print(f"  {'ratectl beside slowapi':<44} {ratio:.2f}")
    return {**figures, "added": added, "ratio": round(ratio, 3)}
