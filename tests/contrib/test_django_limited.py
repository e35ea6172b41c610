"""The Django decorator ``limited``: functions and classes, sync and async."""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING, Any

import pytest
from django.conf import settings
from django.http import HttpResponse, StreamingHttpResponse
from django.test import AsyncClient, Client, RequestFactory, override_settings
from django.urls import path
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.csrf import csrf_exempt

from contrib.sites import ACME, make_agent, slots_left
from ratectl import UsageError
from ratectl.contrib.django import limited
from ratectl.contrib.web import header, path_parameter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ratectl import Agent

OURS = "ratectl.contrib.django.RateLimitMiddleware"
TENANT: dict[str, Any] = {"tenant": header("x-tenant")}
AS_ACME = {"x-tenant": "acme"}


@pytest.fixture(params=["alone", "beside the middleware"])
def agent(request: pytest.FixtureRequest) -> Iterator[Agent]:
    """The agent of the setting, without and with the middleware."""
    stack = [OURS] * (request.param != "alone")
    with make_agent() as agent:
        setting = {"agent": agent, "scope": "/shop", "attributes": TENANT, "headers": "all"}
        with override_settings(RATECTL=setting, MIDDLEWARE=stack):
            yield agent


def text(request: Any, **_: Any) -> HttpResponse:
    return HttpResponse("text")


async def async_text(request: Any, **_: Any) -> HttpResponse:
    return HttpResponse("text")


class Both(View):
    def get(self, request: Any, **_: Any) -> HttpResponse:
        return HttpResponse("text")


class Async(View):
    async def get(self, request: Any, **_: Any) -> HttpResponse:
        return HttpResponse("text")


def ask(view: Any, count: int = 3, asynchronous: bool = False, url: str = "/v") -> list[Any]:
    async def each() -> list[Any]:
        return [await AsyncClient(headers=AS_ACME).get(url) for _ in range(count)]

    with override_settings(ROOT_URLCONF=(path("v", view), path("v/<int:id>", view))):
        if asynchronous:
            return asyncio.run(each())
        return [Client(headers=AS_ACME).get(url) for _ in range(count)]


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("view", [text, async_text, Both, Async])
def test_a_view_is_limited_once(agent: Agent, view: Any, asynchronous: bool) -> None:
    decorator = limited("/shop")
    if isinstance(view, type):
        view = method_decorator(decorator, name="dispatch")(type("Limited", (view,), {})).as_view()
    else:
        view = csrf_exempt(decorator(view))
    answers = ask(view, asynchronous=asynchronous)
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[0].headers["RateLimit"] == '"spike";r=1;t=2'
    assert answers[2].headers["Retry-After"] == "2"
    assert answers[2].json()["violated-policies"] == ["spike"]


def hidden(view: Any) -> Any:
    return lambda request, **words: view(request, **words)


def partial(view: Any) -> Any:
    return functools.partial(view)


@pytest.mark.parametrize("hide", [hidden, partial])
@pytest.mark.parametrize("cost", [1, {"requests": 1}, {"requests": 1, "tokens": 4}])
def test_a_view_whose_decorator_is_hidden_is_charged_once(
    agent: Agent, hide: Any, cost: Any
) -> None:
    settings.RATECTL["cost"] = cost
    answers = ask(hide(limited("/shop")(text)))
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[0].headers["RateLimit"] == '"spike";r=1;t=2'


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("view", [Both, Async])
def test_a_method_of_a_class_is_charged_once(agent: Agent, view: Any, asynchronous: bool) -> None:
    made = method_decorator(limited("/shop"), name="get")(type("Limited", (view,), {}))
    answers = ask(made.as_view(), asynchronous=asynchronous)
    assert [answer.status_code for answer in answers] == [200, 200, 429]


def test_a_hidden_decorator_takes_the_place_of_the_middleware(agent: Agent) -> None:
    """With its slots, its headers and its exemption."""
    settings.RATECTL["scope"] = "/slow"

    def view(request: Any) -> HttpResponse:
        return HttpResponse(str(slots_left(agent)))

    answers = ask(hidden(limited("/shop", exempt=["/v"])(view)), 2)
    assert [answer.content for answer in answers] == [b"3", b"3"]
    assert "RateLimit" not in answers[0].headers


def test_the_middleware_asks_once_if_it_is_there_twice(agent: Agent) -> None:
    with override_settings(MIDDLEWARE=[OURS, OURS]):
        assert [answer.status_code for answer in ask(text)] == [200, 200, 429]
        agent.clock.advance(60)
        assert [answer.status_code for answer in ask(text, url="/none")] == [404, 404, 429]


def test_other_arguments_win_over_the_setting(agent: Agent) -> None:
    view = limited("/shop", attributes={"tenant": path_parameter("id")}, cost=2, headers="none")(
        text
    )
    answers = ask(view, url="/v/1") + ask(view, url="/v/2")
    assert [answer.status_code for answer in answers] == [200, 429, 429] * 2
    assert "Retry-After" not in answers[1].headers


def test_the_view_finds_the_decision(agent: Agent) -> None:
    @limited("/shop")
    def view(request: Any) -> HttpResponse:
        request.ratectl.settle(0)
        return HttpResponse(request.ratectl.limit)

    assert [answer.content for answer in ask(view)] == [b"spike"] * 3
    assert agent.check("/shop", ACME, cost=0).remaining == 2


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_view_that_raises_gives_its_slot_back(
    agent: Agent, asynchronous: bool, error: type[BaseException]
) -> None:
    @limited("/slow")
    def view(request: Any) -> HttpResponse:
        assert slots_left(agent) == 2
        raise error

    @limited("/slow")
    async def async_view(request: Any) -> HttpResponse:
        assert slots_left(agent) == 2
        raise error

    with pytest.raises(error):
        ask(async_view if asynchronous else view)
    assert slots_left(agent) == 3


def test_a_stream_holds_its_slot_until_the_end(agent: Agent) -> None:
    def parts() -> Iterator[str]:
        yield str(slots_left(agent))

    view = limited("/slow")(lambda request: StreamingHttpResponse(parts()))
    (answer,) = ask(view, 1)
    assert b"".join(answer.streaming_content) == b"2"
    assert slots_left(agent) == 3


def test_limits_of_two_decorators_both_count(agent: Agent) -> None:
    view = limited("/slow")(limited("/shop")(text))
    assert [answer.status_code for answer in ask(view)] == [200, 200, 429]
    assert slots_left(agent) == 3


def test_a_view_without_a_response_is_the_business_of_django(agent: Agent) -> None:
    with pytest.raises(ValueError, match="didn't return an HttpResponse"):
        ask(limited("/slow")(lambda request: None))
    assert slots_left(agent) == 3


def test_a_view_can_be_called_without_django(agent: Agent) -> None:
    view = limited("/shop")(text)
    request = RequestFactory(headers=AS_ACME).get("/")
    assert [view(request).status_code for _ in range(3)] == [200, 200, 429]


def test_wrong_arguments_are_found_at_the_decorator() -> None:
    with override_settings(RATECTL=None), pytest.raises(UsageError, match="not None"):
        limited("/shop")
    with make_agent() as agent:
        with pytest.raises(UsageError, match="scope is a text like /shop"):
            limited("shop", agent=agent)
        with pytest.raises(UsageError, match="no argument is named key"):
            limited("/shop", agent=agent, key="ip")
