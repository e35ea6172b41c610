"""One small site in WSGI, Flask and Django (sync and async), limited by an adapter."""

from __future__ import annotations

import asyncio
import json
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from wsgiref.validate import validator

import django.http
import flask
import httpx
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.test import override_settings
from django.urls import path, re_path

from ratectl import Agent, FakeClock
from ratectl.contrib import flask as flask_adapter
from ratectl.contrib import wsgi

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

__all__ = ["ACME", "FILE", "HELD", "KINDS", "Site", "make_agent", "site", "slots_left"]

KINDS: Final = ("wsgi", "flask", "django", "django-async")
FILE: Final = Path(__file__).resolve()
ACME: Final = {"tenant": "acme"}
HELD: Final[list[int | None]] = []
"""Slots that were left at each part of a stream."""

POLICIES: Final = """
apiVersion: ratectl/v1
scope: /shop
trusted_proxies: [10.0.0.0/8]
limits:
  spike: {rate: 1/2s, burst: 2, per: tenant}
---
apiVersion: ratectl/v1
scope: /addresses
trusted_proxies: [10.0.0.0/8]
limits:
  login: {rate: 1/min, burst: 1, per: ip}
---
apiVersion: ratectl/v1
scope: /slow
limits:
  slots: {algorithm: concurrency, max: 3, hold: 1h, per: tenant}
---
apiVersion: ratectl/v1
scope: /strict
on_error: deny
limits:
  spike: {rate: 1/s, burst: 2, per: tenant}
"""

if not settings.configured:
    settings.configure(
        ROOT_URLCONF="contrib.sites",
        ALLOWED_HOSTS=["*"],
        SECRET_KEY="a test",
        MIDDLEWARE=["ratectl.contrib.django.RateLimitMiddleware"],
    )
    django.setup()


def make_agent() -> Agent:
    return Agent.from_policies(POLICIES, clock=FakeClock())


def slots_left(agent: Agent) -> int | None:
    return agent.check("/slow", ACME, cost=0).remaining


class Site:
    """A running site and its client. ``agent`` limits it."""

    def __init__(self, app: Any, agent: Agent, kind: str) -> None:
        self.app = app
        self.agent = agent
        self.kind = kind

    def get(
        self, url: str = "/items/7", peer: str = "127.0.0.1", method: str = "GET", **headers: str
    ) -> httpx.Response:
        """Return the answer to a request. Names of headers have ``_`` for ``-``."""
        words = {name.replace("_", "-"): value for name, value in headers.items()}
        words.setdefault("x-tenant", "acme")
        if self.kind == "django-async":
            return asyncio.run(self._get_async(method, url, peer, words))
        transport = httpx.WSGITransport(
            validator(self.app), raise_app_exceptions=False, remote_addr=peer
        )
        with httpx.Client(transport=transport, base_url="http://site") as client:
            return client.request(method, url, headers=words)

    async def _get_async(
        self, method: str, url: str, peer: str, headers: dict[str, str]
    ) -> httpx.Response:
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False, client=(peer, 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://site") as client:
            return await client.request(method, url, headers=headers)


@contextmanager
def site(kind: str, agent: Agent, **arguments: Any) -> Iterator[Site]:
    """Yield a site of some kind, limited with these arguments."""
    HELD.clear()
    global current
    current = agent
    if kind == "wsgi":
        yield Site(wsgi.RateLimit(wsgi_app, agent, **arguments), agent, kind)
    elif kind == "flask":
        app = flask_app()
        flask_adapter.RateLimit(app, agent=agent, **arguments)
        yield Site(app, agent, kind)
    else:
        with override_settings(RATECTL={"agent": agent, **arguments}, ROOT_URLCONF=URLS[kind]):
            made = get_wsgi_application if kind == "django" else get_asgi_application
            yield Site(made(), agent, kind)


current: Agent


def parts() -> Iterator[bytes]:
    for part in (b"a", b"b"):
        HELD.append(slots_left(current))
        yield part


def broken_parts() -> Iterator[bytes]:
    yield b"a"
    raise RuntimeError("in the middle of a stream")


def shown(decision: Any) -> str:
    return json.dumps([decision.limit, decision.remaining])


# WSGI -----------------------------------------------------------------------------------------


def wsgi_app(environ: dict[str, Any], start_response: Any) -> Any:
    at = environ["PATH_INFO"]
    if at == "/fails":
        raise RuntimeError("a fault of the application")
    headers = [("Content-Type", "text/plain")]
    if at == "/own":
        headers.append(("ratelimit", "mine"))
    status = "200 OK" if at.split("/")[1] in ROUTES else "404 Not Found"
    start_response(status, headers)
    if at == "/stream":
        return parts()
    if at == "/breaks":
        return broken_parts()
    return [shown(environ["ratectl.decision"]).encode() if at == "/decision" else b"text"]


ROUTES: Final = {"items", "health", "fails", "own", "stream", "breaks", "decision"}

# Flask ----------------------------------------------------------------------------------------


def flask_app() -> flask.Flask:
    app = flask.Flask("site")
    for rule, view in (
        ("/items/<int:id>", lambda id: "text"),  # noqa: A006
        ("/health", lambda: "text"),
        ("/fails", fail),
        ("/own", lambda: ("text", {"ratelimit": "mine"})),
        ("/stream", lambda: flask.Response(parts())),
        ("/breaks", lambda: flask.Response(broken_parts())),
        ("/decision", lambda: shown(flask.g.ratectl)),
        ("/file", lambda: flask.send_file(FILE)),
    ):
        app.add_url_rule(rule, rule, view)
    return app


def fail(*_: Any) -> Any:
    raise RuntimeError("a fault of the application")


# Django ---------------------------------------------------------------------------------------


def text(request: Any, **_: Any) -> Any:
    return django.http.HttpResponse("text")


def own(request: Any) -> Any:
    return django.http.HttpResponse("text", headers={"ratelimit": "mine"})


def decision(request: Any) -> Any:
    return django.http.HttpResponse(shown(request.ratectl))


async def async_text(request: Any, **_: Any) -> Any:
    return django.http.HttpResponse("text")


async def async_parts(broken: bool) -> AsyncIterator[bytes]:
    for part in broken_parts() if broken else parts():
        yield part


async def async_stream(request: Any) -> Any:
    return django.http.StreamingHttpResponse(async_parts("breaks" in request.path))


def stream(request: Any) -> Any:
    return django.http.StreamingHttpResponse(
        broken_parts() if "breaks" in request.path else parts()
    )


COMMON: Final = [
    path("fails", fail),
    path("own", own),
    path("decision", decision),
    path("file", lambda _: django.http.FileResponse(FILE.open("rb"))),
    re_path(r"^years/(?P<year>[0-9]{4})/(\w+)$", text),
]


SYNC: Final = [
    path("items/<int:id>", text),
    path("health", text),
    path("stream", stream),
    path("breaks", stream),
    *COMMON,
]
ASYNC: Final = [
    path("items/<int:id>", async_text),
    path("health", async_text),
    path("stream", async_stream),
    path("breaks", async_stream),
    *COMMON,
]
URLS: Final = {"django": tuple(SYNC), "django-async": tuple(ASYNC)}
