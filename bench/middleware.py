"""Cost of an adapter for a request, beside the bare application and the usual library.

The same application is called in one process, without a network: bare, with ratectl, and with the
library that people use (in memory, the same limit per tenant, which refuses nothing here). They run
in turn; the figures are the differences to the bare application in the same turn.
"""

from __future__ import annotations

import asyncio
import io
import time
import warnings
from typing import TYPE_CHECKING, Any

from bench.figures import show
from ratectl import Agent
from ratectl.contrib.web import by_route, header

if TYPE_CHECKING:
    from collections.abc import Callable

REQUESTS = 2_000
TURNS = 15
POLICIES = """
apiVersion: ratectl/v1
scope: /shop
limits:
  spike: {rate: 1000000/s, burst: 1000000000, per: tenant}
"""
SCOPE: dict[str, Any] = {
    "type": "http", "http_version": "1.1", "method": "GET", "path": "/items/5", "root_path": "",
    "raw_path": b"/items/5", "query_string": b"", "scheme": "http", "server": ("shop", 80),
    "client": ("127.0.0.1", 5), "headers": [
        (b"host", b"shop"), (b"user-agent", b"bench"), (b"accept", b"*/*"), (b"x-tenant", b"acme"),
    ],
}  # fmt: skip
ENVIRON: dict[str, Any] = {
    "REQUEST_METHOD": "GET", "PATH_INFO": "/items/5", "SCRIPT_NAME": "", "QUERY_STRING": "",
    "SERVER_NAME": "shop", "SERVER_PORT": "80", "SERVER_PROTOCOL": "HTTP/1.1",
    "REMOTE_ADDR": "127.0.0.1", "HTTP_HOST": "shop", "HTTP_USER_AGENT": "bench",
    "HTTP_X_TENANT": "acme", "wsgi.url_scheme": "http", "wsgi.version": (1, 0),
    "wsgi.multithread": False, "wsgi.multiprocess": False, "wsgi.run_once": False,
    "wsgi.errors": io.StringIO(),
}  # fmt: skip
UNBOUNDED = "1000000000/second"


def arguments(agent: Agent) -> dict[str, Any]:
    return {
        "agent": agent,
        "scope": by_route("/shop"),
        "attributes": {"tenant": header("x-tenant")},
    }


# Starlette --------------------------------------------------------------------------------------


def starlette() -> Any:
    """Return an application with one route."""
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    async def item(_: Any) -> PlainTextResponse:
        return PlainTextResponse("hello")

    return Starlette(routes=[Route("/items/{item_id}", item)])


def starlette_with_ratectl(agent: Agent) -> Any:
    from ratectl.contrib.asgi import RateLimitMiddleware

    app = starlette()
    app.add_middleware(RateLimitMiddleware, **arguments(agent))
    return app


def starlette_with_slowapi() -> Any:
    """Return the application with slowapi's ASGI middleware, the quicker of its two."""
    from slowapi import Limiter
    from slowapi.middleware import SlowAPIASGIMiddleware

    app = starlette()
    app.state.limiter = Limiter(
        key_func=lambda request: request.headers["x-tenant"], default_limits=[UNBOUNDED]
    )
    app.add_middleware(SlowAPIASGIMiddleware)
    return app


async def _receive() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


async def _send(_: Any) -> None:
    pass


def _asgi(app: Any) -> float:
    """Return the microseconds of a request."""

    async def send_all() -> float:
        await app(dict(SCOPE), _receive, _send)
        started = time.process_time_ns()
        for _ in range(REQUESTS):
            await app(dict(SCOPE), _receive, _send)
        return (time.process_time_ns() - started) / REQUESTS / 1e3

    return asyncio.run(send_all())


# Flask ------------------------------------------------------------------------------------------


def flask() -> Any:
    from flask import Flask

    app = Flask("shop")
    app.add_url_rule("/items/<int:item_id>", view_func=lambda **_: "hello", endpoint="item")
    return app


def flask_with_ratectl(agent: Agent) -> Any:
    from ratectl.contrib.flask import RateLimit

    app = flask()
    RateLimit(app, **arguments(agent))
    return app


def flask_with_flask_limiter() -> Any:
    from flask import request
    from flask_limiter import Limiter

    app = flask()
    Limiter(
        lambda: request.headers["x-tenant"], app=app, default_limits=[UNBOUNDED],
        storage_uri="memory://",
    )  # fmt: skip
    return app


def _wsgi(app: Any) -> float:
    """Return the microseconds of a request."""

    def request() -> None:
        body = app({**ENVIRON, "wsgi.input": io.BytesIO()}, lambda *_: None)
        assert b"".join(body) == b"hello"
        if hasattr(body, "close"):
            body.close()

    request()
    started = time.process_time_ns()
    for _ in range(REQUESTS):
        request()
    return (time.process_time_ns() - started) / REQUESTS / 1e3


# Django -----------------------------------------------------------------------------------------


def django(agent: Agent) -> dict[str, Any]:
    """Return the applications; django-ratelimit limits its view by a decorator."""
    import django
    from django.conf import settings
    from django.core.handlers.wsgi import WSGIHandler
    from django.http import HttpResponse
    from django.test import override_settings
    from django.urls import path
    from django_ratelimit.decorators import ratelimit

    def item(request: Any, item_id: int) -> Any:  # noqa: ARG001
        return HttpResponse("hello")

    limited = ratelimit(key="header:x-tenant", rate="1000000000/s", block=True)(item)
    bare, decorated = ([path("items/<int:item_id>", view)] for view in (item, limited))
    settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF=tuple(bare), RATECTL=arguments(agent))
    django.setup()
    made = {}
    for name, urls, middleware in (
        ("bare", bare, []),
        ("ratectl", bare, ["ratectl.contrib.django.RateLimitMiddleware"]),
        ("django-ratelimit", decorated, []),
    ):
        chosen = override_settings(ROOT_URLCONF=tuple(urls), MIDDLEWARE=middleware)
        with chosen:
            made[name] = _under(chosen, WSGIHandler())
    return made


def _under(settings: Any, handler: Any) -> Any:
    """Return an application that runs with its own settings."""

    def app(environ: Any, start_response: Any) -> Any:
        return handler(environ, start_response)

    app.settings = settings  # type: ignore[attr-defined]
    return app


def _django(app: Any) -> float:
    with app.settings:
        return _wsgi(app)


# Figures ----------------------------------------------------------------------------------------


def compared(title: str, apps: dict[str, Any], took_by: Callable[[Any], float]) -> dict[str, Any]:
    """Call the applications in turn; print and return what each adds to the bare one."""
    took: dict[str, list[float]] = {name: [] for name in apps}
    for _ in range(TURNS):
        for name, app in apps.items():
            took[name].append(took_by(app))
    print(f"  {title}, one route")
    figures: dict[str, Any] = {name: show(name, took[name], "µs") for name in apps}
    added = {}
    for name in list(apps)[1:]:
        more = sorted(two - one for one, two in zip(took["bare"], took[name], strict=True))
        added[name] = round(more[TURNS // 2], 2)
        print(f"  {name + ' adds':<44} {added[name]:.1f} µs")
    mine, other = added.values()
    print(f"  {'ratectl beside ' + list(added)[1]:<44} {mine / other:.2f}")
    return {**figures, "added": added, "ratio": round(mine / other, 3)}


def run() -> dict[str, object]:
    warnings.simplefilter("ignore", DeprecationWarning)
    agent = Agent.from_policies(POLICIES)
    return {
        "starlette": compared(
            "Starlette",
            {
                "bare": starlette(),
                "ratectl": starlette_with_ratectl(agent),
                "slowapi": starlette_with_slowapi(),
            },
            _asgi,
        ),
        "flask": compared(
            "Flask",
            {
                "bare": flask(),
                "ratectl": flask_with_ratectl(agent),
                "Flask-Limiter": flask_with_flask_limiter(),
            },
            _wsgi,
        ),
        "django": compared("Django", django(agent), _django),
    }
