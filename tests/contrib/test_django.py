"""The Django middleware: settings, routes, other middleware."""

from __future__ import annotations

import asyncio
import gc
import io
import threading
import weakref
from typing import TYPE_CHECKING, Any

import pytest
from django.conf.urls.i18n import i18n_patterns
from django.core.asgi import get_asgi_application
from django.core.handlers.asgi import ASGIRequest
from django.core.handlers.wsgi import WSGIRequest
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.test import AsyncClient, Client, override_settings
from django.urls import include, path, re_path

from contrib.django_support import (
    AS_ACME,
    ITEM,
    OURS,
    PASSING,
    SLOW,
    TENANT,
    async_text,
    limited_site,
    text,
)
from contrib.sites import make_agent, slots_left
from ratectl import Agent, FakeClock, UsageError
from ratectl.contrib.django import DjangoRequest
from ratectl.contrib.web import by_route, path_parameter
from ratectl.contrib.web.django_routes import plain, templates_in

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = __name__
ROUTED = """
apiVersion: ratectl/v1
scope: /shop/items/id
limits:
  spike: {rate: 1/s, burst: 1, per: id}
---
apiVersion: ratectl/v1
scope: /shop/years/year
limits:
  spike: {rate: 1/s, burst: 1}
"""
global_agent: Agent | None = None


@pytest.fixture
def agent() -> Iterator[Agent]:
    with make_agent() as agent:
        yield agent


@pytest.fixture
def routed() -> Iterator[Agent]:
    with Agent.from_policies(ROUTED, clock=FakeClock()) as agent:
        yield agent


# Routes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("route", "template"),
    [
        ("", ""),
        ("items/<int:id>/", "items/<int:id>/"),
        (r"^items/(?P<id>[0-9]+)/$", "items/<id>/"),
        (r"api/^years/(?P<year>[0-9]{4})/(\w+|(a)(b))/\Z", "api/years/<year>/<var>/"),
        (r"^a\.b/(?:en|de)/\d{2,}/[^/)]+/(?P<c>[)]+)$", "a.b////<c>"),
        (r"files/<path:name>(?:\.json)?$", "files/<path:name>"),
        (r"^p/(?:page-(?P<n>\d+)/)?$", "p/page-<n>/"),
        (r"^p((?:/(?P<n>\d+))?|(x))$", "p/<n>|<var>"),
        (r"^(?!(?P<no>a))(?<=b)(?i:c)(?P<k>a|b)|z/$", "<k>|z/"),
    ],
)
def test_templates_have_the_words_of_path(route: str, template: str) -> None:
    assert plain(route) == template


@pytest.mark.parametrize(
    ("url", "route", "scope"),
    [
        ("wiki/(old)/7/", path("wiki/(old)/<int:id>/", text), "/wiki/old/id"),
        ("q/[x]/(7)", path("q/[x]/(<int:id>)", text), "/q/x/id"),
        ("a.b/(c)", path("a.b/(c)", text), "/a.b/c"),
        ("a.b/c", re_path("^a.b/(c)", text), "/a.b/var"),
        ("(x)/7", path("(x)/", include([re_path(r"^(?P<n>\d+)$", text)])), "/x/n"),
        ("7/(x)", re_path(r"^(?P<n>\d+)/", include([path("(x)", text)])), "/n/x"),
        ("7/(x)", path("", include([re_path(r"^(\d)/", include([path("(x)", text)]))])), "/var/x"),
        ("z/", re_path(r"^y/(?P<k>a|b)|z/$", text), "/y/k-z"),
        ("en-us/(x)", i18n_patterns(path("(x)", text))[0], "/en-us/x"),
    ],
)
def test_the_kind_of_a_route_tells_what_its_text_means(
    agent: Agent, url: str, route: Any, scope: str
) -> None:
    scopes: list[str] = []

    def seen(request: Any) -> str:
        scopes.append(by_route("/")(request))
        return "/shop"

    with limited_site(agent, route, scope=seen):
        assert Client().get(f"/{url}").status_code == 200
        assert [by_route("/").of(each) for each in templates_in([route])] == scopes == [scope]


def test_routes_have_their_own_limits(routed: Agent) -> None:
    inner = include([re_path(r"^(?P<year>[0-9]{4})/$", text), ITEM])
    words: Any = {"scope": by_route("/shop"), "attributes": {"id": path_parameter("id")}}
    with limited_site(routed, path("years/", inner), ITEM, **words):
        client = Client()
        urls = ["items/1", "items/1", "items/2", "years/1999", "years/2000", "years/items/1"]
        statuses = [client.get(f"/{url}/").status_code for url in urls]
    assert statuses == [200, 429, 200, 200, 429, 200]


def test_the_test_client_of_async_sites_is_limited(routed: Agent) -> None:
    async def ask() -> list[int]:
        return [(await AsyncClient().get("/items/1/")).status_code for _ in range(2)]

    with limited_site(routed, path("items/<int:id>/", async_text), scope="/shop/items/id"):
        assert asyncio.run(ask()) == [200, 429]


def test_a_view_that_answers_404_is_counted_once(agent: Agent) -> None:
    missing = path("missing", lambda request: HttpResponse(status=404))
    with limited_site(agent, missing, scope="/shop", attributes=TENANT):
        statuses = [Client().get("/missing", headers=AS_ACME).status_code for _ in range(3)]
    assert statuses == [404, 404, 429]


def test_routes_without_a_policy_are_reported_at_start(
    routed: Agent, caplog: pytest.LogCaptureFixture
) -> None:
    urls = [ITEM, path("none/", text), path("more/", include([re_path("^(?P<n>.*)$", text)]))]
    message = "no policy covers these routes, so they are not limited: more/<n>, none/"
    with limited_site(routed, *urls, scope=by_route("/shop")):
        get_wsgi_application()
        get_asgi_application()
    assert [record.message for record in caplog.records] == [message] * 2
    with (
        limited_site(routed, *urls, scope=by_route("/shop"), uncovered="raise"),
        pytest.raises(UsageError, match=message),
    ):
        get_wsgi_application()


# The setting ----------------------------------------------------------------------------------


def test_the_agent_may_be_named(agent: Agent) -> None:
    global global_agent
    global_agent = agent
    with limited_site(f"{HERE}.global_agent", ITEM, scope="/shop"):
        statuses = [Client().get("/items/1/").status_code for _ in range(3)]
    assert statuses == [200, 200, 429]


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        (None, "the settings have no RATECTL"),
        ({}, "agent is a ratectl.Agent, not None"),
        ({"agent": "no.such.agent"}, "agent 'no.such.agent' cannot be imported"),
        ({"agent": f"{HERE}.none"}, f"agent '{HERE}.none' cannot be imported"),
        ({"agent": f"{HERE}.HERE"}, "agent is a ratectl.Agent, not 'test_django'"),
        (
            {"agent": "x", "scop": "/", "key": 1},
            "no argument is named key, scop: they are agent, attr",
        ),
        ({"agent": make_agent(), "headers": 1}, "headers is 'refused', 'all' or 'none'"),
        ({"agent": make_agent(), "scope": "shop"}, "scope is a text like /shop"),
    ],
)
def test_a_wrong_setting_says_what_is_right(setting: Any, words: str) -> None:
    with (
        override_settings(RATECTL=setting, MIDDLEWARE=[OURS]),
        pytest.raises(UsageError, match=words),
    ):
        get_wsgi_application()


def test_on_refused_returns_a_response(agent: Agent) -> None:
    def busy(request: Any, decision: Any) -> HttpResponse:
        return HttpResponse(f"{request.native.path} {decision.limit}", status=420)

    with limited_site(agent, ITEM, scope="/shop", on_refused=busy):
        refused = [Client().get("/items/1/") for _ in range(3)][2]
    assert (refused.status_code, refused.content) == (420, b"/items/1/ spike")
    assert refused.headers["Retry-After"] == "2"


def test_a_response_object_that_is_returned_again_has_the_headers_of_each_refusal(
    agent: Agent,
) -> None:
    busy = HttpResponse("busy", status=420, headers={"X-Own": "1", "RateLimit-Policy": "mine"})
    waits = []
    with limited_site(agent, ITEM, scope="/addresses", on_refused=lambda *_: busy):
        Client().get("/items/1/")
        for _ in range(3):
            headers = Client().get("/items/1/").headers
            waits.append((headers["Retry-After"], headers["RateLimit"][-4:]))
            assert (headers["X-Own"], headers["RateLimit-Policy"]) == ("1", "mine")
            agent.clock.advance(20)
    assert waits == [("60", "t=60"), ("40", "t=40"), ("20", "t=20")]


@pytest.mark.parametrize("text", ["k=%C3%A9", "k=b&k=%c3%a9", "k=\xc3\xa9", "k=%FF&k=%FE", "k=a&k"])
def test_a_parameter_of_the_query_is_that_of_django(agent: Agent, text: str) -> None:
    seen: list[Any] = []

    def attributes(request: Any) -> dict[str, Any]:
        seen.append((request.query("k"), request.native.GET.get("k")))
        return {}

    with limited_site(agent, ITEM, scope="/shop", attributes=attributes):
        Client().get("/items/1/", QUERY_STRING=text)
        Client().get("/items/1/", QUERY_STRING="no=1")
    assert [ours for ours, _ in seen] == [djangos for _, djangos in seen]
    assert seen[0][0] is not None


@pytest.mark.parametrize("value", ["%C3%A9", "é"])
def test_a_query_that_django_cannot_read_is_one_value(value: str) -> None:
    text = f"k=1&k={value}" + "&" * 2_000
    raw = text.encode().decode("latin-1")
    environ = {"REQUEST_METHOD": "GET", "QUERY_STRING": raw, "wsgi.input": io.BytesIO()}
    assert DjangoRequest(WSGIRequest(environ)).query("k") == "é"
    scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
    asgi = ASGIRequest(scope | {"query_string": text.encode()}, io.BytesIO())
    assert DjangoRequest(asgi).query("k") == "é"


# Other middleware -----------------------------------------------------------------------------


def replacing(get_response: Any) -> Any:
    def middleware(request: Any) -> HttpResponse:
        get_response(request)
        return HttpResponse("another")

    return middleware


def failing(get_response: Any) -> Any:
    def middleware(request: Any) -> HttpResponse:
        get_response(request)
        raise RuntimeError("a fault of another middleware")

    return middleware


def answering(get_response: Any) -> Any:
    return lambda request: HttpResponse("answered before the view")


@pytest.mark.parametrize("other", [replacing, failing])
@pytest.mark.parametrize("outside", [True, False])
def test_other_middleware_cannot_lose_a_slot(agent: Agent, other: Any, outside: bool) -> None:
    stack = [f"{HERE}.{other.__name__}", OURS]
    with limited_site(agent, ITEM, middleware=stack if outside else stack[::-1], **SLOW):
        client = Client(raise_request_exception=False)
        client.get("/items/1/", headers=AS_ACME)
    assert slots_left(agent) == 3


def test_a_request_that_another_middleware_answers_is_not_checked(agent: Agent) -> None:
    with limited_site(agent, ITEM, middleware=[OURS, f"{HERE}.answering"], scope="/shop"):
        statuses = [Client().get("/items/1/").status_code for _ in range(5)]
    assert statuses == [200] * 5


def test_sync_middleware_in_an_async_site(agent: Agent) -> None:
    async def ask() -> list[int]:
        client = AsyncClient(headers=AS_ACME)
        return [(await client.get("/items/1/")).status_code for _ in range(5)]

    for stack in ([OURS, PASSING], [PASSING, OURS]):
        with limited_site(agent, path("items/<id>/", async_text), middleware=stack, **SLOW):
            assert asyncio.run(ask()) == [200] * 5
        assert slots_left(agent) == 3


# Responses ------------------------------------------------------------------------------------


def test_checks_of_an_async_site_stay_in_its_thread(agent: Agent) -> None:
    threads: list[threading.Thread] = []

    def scope(request: Any) -> str:
        threads.append(threading.current_thread())
        return "/shop"

    with limited_site(agent, path("items", async_text), scope=scope):
        asyncio.run(AsyncClient().get("/items"))
    assert threads == [threading.current_thread()]


def test_a_request_leaves_no_garbage(agent: Agent) -> None:
    """Else each request would wait for the cycle collector, with its body and its files."""
    seen: list[weakref.ref[Any]] = []

    def view(request: Any) -> HttpResponse:
        seen.append(weakref.ref(request))
        return HttpResponse("text")

    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/v", "wsgi.input": io.BytesIO()}
    environ |= {"SERVER_NAME": "site", "SERVER_PORT": "80", "HTTP_X_TENANT": "acme"}
    with limited_site(agent, path("v", view), **SLOW):
        application = get_wsgi_application()
        gc.disable()
        try:
            application(environ, lambda *_: None).close()
            assert [request() for request in seen] == [None]
        finally:
            gc.enable()
    assert slots_left(agent) == 3


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt()])
def test_a_view_that_ends_the_process_gives_its_slot_back(
    agent: Agent, error: BaseException
) -> None:
    def view(request: Any) -> HttpResponse:
        raise error

    with limited_site(agent, path("end", view), **SLOW), pytest.raises(type(error)):
        Client().get("/end", headers=AS_ACME)
    assert slots_left(agent) == 3
