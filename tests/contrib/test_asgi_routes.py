"""Routes of Starlette and FastAPI: every request has the template that takes it."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import APIRouter, FastAPI
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Host, Mount, Route, Router
from starlette.testclient import TestClient

from contrib.web_support import make_agent
from ratectl.contrib.asgi import AsgiRequest, RateLimitMiddleware
from ratectl.contrib.web import by_route, query
from ratectl.contrib.web.starlette_routes import Routes


async def shown(request: Any) -> PlainTextResponse:
    """Answer with the template, as a dependency or a middleware below a mount sees it."""
    return PlainTextResponse(Routes().template(request.scope) or "none")


def test_a_host_has_routes_of_its_own() -> None:
    """The answer for another host must not be kept for this one."""
    api = Router([Route("/{page}/", shown), Route("/login", shown)])
    app = Starlette(routes=[Host("api.example.org", api), Route("/{page}", shown)])
    limited = RateLimitMiddleware(app, make_agent(), scope=by_route("/shop"))
    found = []
    for host in (b"other", b"api.example.org", b"other"):
        headers = [(b"host", host)]
        scope = {"type": "http", "method": "GET", "path": "/login", "headers": headers}
        found.append(AsgiRequest(scope, limited._routes).route)
    assert found == ["/{page}", "/login", "/{page}"]


@pytest.mark.parametrize("inner", ["application", "router", "fastapi", "api router"])
def test_routes_below_a_mount_have_its_prefix(inner: str) -> None:
    outer, route = FastAPI(), Route("/login/{name}", shown)
    made: dict[str, Any] = {
        "application": Starlette(routes=[route]), "router": Router([route]), "fastapi": FastAPI(),
        "api router": APIRouter(),
    }  # fmt: skip
    below = made[inner]
    if inner in ("fastapi", "api router"):
        below.router.routes.append(route) if inner == "fastapi" else below.routes.append(route)
    outer.router.routes.append(Mount("/admin/{tenant}", app=below))
    outer.router.routes.append(Route("/login/{name}", shown))
    http = TestClient(outer)
    assert http.get("/admin/acme/login/ann").text == "/admin/{tenant}/login/{name}"
    assert http.get("/login/ann").text == "/login/{name}"


def test_a_path_that_makes_a_route_raise_fits_no_route() -> None:
    app = Starlette(routes=[Route("/items/{item_id:int}", shown)])
    scope = {"type": "http", "method": "GET", "path": "/items/" + "1" * 5_000, "headers": []}
    assert Routes(app).template(scope) is None


def test_several_applications_keep_their_own_routes() -> None:
    """A dependency may be used in more than one."""
    routes, one, other = (
        Routes(),
        *(Starlette(routes=[Route(path, shown)]) for path in ("/{one}", "/{other}")),
    )
    for app, template in [(one, "/{one}"), (other, "/{other}")] * 2:
        scope = {"type": "http", "method": "GET", "path": "/x", "headers": [], "app": app}
        assert routes.template(scope) == template


def test_long_paths_are_not_kept() -> None:
    routes = Routes(Starlette(routes=[Route("/{any:path}", shown)]))
    for path in ("/short", "/" + "x" * 10_000):
        scope = {"type": "http", "method": "GET", "path": path, "headers": []}
        assert routes.template(scope) == "/{any:path}"
    assert len(routes._kept.templates or ()) == 1


def test_an_application_without_routes_is_told(caplog: pytest.LogCaptureFixture) -> None:
    async def bare(*_: Any) -> None: ...

    routes = Routes(bare)
    for _ in range(2):
        assert routes.template({"type": "http", "path": "/", "headers": []}) is None
    assert caplog.text.count("has no routes that are known here") == 1


def test_the_value_of_a_query_is_that_of_the_framework() -> None:
    scope = {"type": "http", "path": "/", "headers": [], "query_string": b"key=other&key=mine"}
    assert query("key")(AsgiRequest(scope, Routes())) == "mine"
