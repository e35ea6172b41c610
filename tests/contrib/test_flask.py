"""The Flask extension: routes, blueprints, error responses, files, streams."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import flask
import pytest

from contrib.sites import ACME, make_agent, slots_left
from ratectl import Agent, FakeClock, UsageError
from ratectl.contrib.flask import FlaskRequest, RateLimit
from ratectl.contrib.web import by_route, header, path_parameter, query

if TYPE_CHECKING:
    from collections.abc import Iterator

ROUTED = """
apiVersion: ratectl/v1
scope: /shop/items/id
limits:
  spike: {rate: 1/s, burst: 1}
---
apiVersion: ratectl/v1
scope: /shop/admin/users
limits:
  spike: {rate: 1/s, burst: 1}
"""
TENANT: dict[str, Any] = {"tenant": header("x-tenant")}
AS_ACME = {"x-tenant": "acme"}


@pytest.fixture
def agent() -> Iterator[Agent]:
    with make_agent() as agent:
        yield agent


@pytest.fixture
def routed() -> Iterator[Agent]:
    with Agent.from_policies(ROUTED, clock=FakeClock()) as agent:
        yield agent


@pytest.fixture
def app() -> flask.Flask:
    app = flask.Flask("shop", static_folder=None)
    app.add_url_rule("/items/<int:id>", "item", lambda id: f"item {id}")  # noqa: A006
    users = flask.Blueprint("users", "users", url_prefix="/admin")
    users.add_url_rule("/users", "list", lambda: "users")
    app.register_blueprint(users)
    return app


def slow(app: flask.Flask, agent: Agent, **arguments: Any) -> RateLimit:
    return RateLimit(app, agent=agent, scope="/slow", attributes=TENANT, **arguments)


def test_routes_and_blueprints_have_their_own_limits(app: flask.Flask, routed: Agent) -> None:
    limits = RateLimit(agent=routed, scope=by_route("/shop"))
    limits.init_app(app)
    client = app.test_client()
    statuses = [client.get(url).status_code for url in ("/items/1", "/items/2", "/admin/users")]
    assert statuses == [200, 429, 200]
    assert client.get("/admin/users").status_code == 429


def test_one_limiter_serves_several_applications(routed: Agent) -> None:
    limits = RateLimit(agent=routed, scope="/shop/items/id")
    apps = [flask.Flask("one"), flask.Flask("two")]
    for app in apps:
        app.add_url_rule("/", "home", lambda: "home")
        limits.init_app(app)
    assert [app.test_client().get("/").status_code for app in apps] == [200, 429]


def test_a_second_limiter_for_an_application_is_refused(app: flask.Flask, routed: Agent) -> None:
    limits = RateLimit(app, agent=routed)
    with pytest.raises(UsageError, match="has a RateLimit already: call init_app once"):
        limits.init_app(app)


def test_functions_of_the_user_run_in_the_request(app: flask.Flask, routed: Agent) -> None:
    seen: list[Any] = []

    def scope(request: FlaskRequest) -> str:
        seen.append((request.native.endpoint, request.route, request.path_parameter("id")))
        seen.append((flask.request.endpoint, path_parameter("no")(request)))
        return "/shop"

    RateLimit(app, agent=routed, scope=scope)
    app.test_client().get("/items/7")
    assert seen == [("item", "/items/<int:id>", 7), ("item", None)]


def test_on_refused_returns_what_a_view_may_return(app: flask.Flask, routed: Agent) -> None:
    RateLimit(
        app,
        agent=routed,
        scope=by_route("/shop"),
        on_refused=lambda request, decision: ({"wait": decision.retry_after}, 420),
    )
    client = app.test_client()
    client.get("/items/1")
    refused = client.get("/items/1")
    assert (refused.status_code, refused.json) == (420, {"wait": 1.0})
    assert refused.headers["Retry-After"] == "1"


def test_a_response_object_that_is_returned_again_has_the_headers_of_each_refusal() -> None:
    busy = flask.Response("busy", 420, {"X-Own": "1", "RateLimit-Policy": "mine"})
    policy = ROUTED.replace("/shop/items/id", "/slow").replace("1/s", "1/5s")
    with Agent.from_policies(policy, clock=FakeClock()) as agent:
        app = flask.Flask("again")
        app.add_url_rule("/", "home", lambda: "home")
        RateLimit(app, agent=agent, scope="/slow", on_refused=lambda *_: busy)
        client = app.test_client()
        client.get("/")
        waits = []
        for _ in range(3):
            headers = client.get("/").headers
            waits.append((headers["Retry-After"], headers["RateLimit"][-3:]))
            assert (headers["X-Own"], headers["RateLimit-Policy"]) == ("1", "mine")
            agent.clock.advance(2)
    assert waits == [("5", "t=5"), ("3", "t=3"), ("1", "t=1")]


@pytest.mark.parametrize("url", ["/?k=%C3%A9", "/?k=%c3%a9&k=b", "/?k=\xc3\xa9", "/?k=%FF", "/?k="])
def test_a_parameter_of_the_query_is_that_of_flask(agent: Agent, url: str) -> None:
    seen: list[Any] = []

    def attributes(request: FlaskRequest) -> dict[str, Any]:
        seen.append((request.query("k"), flask.request.args.get("k")))
        return {}

    app = flask.Flask("query")
    RateLimit(app, agent=agent, scope="/shop", attributes=attributes)
    environ = {"QUERY_STRING": url[2:]}
    app.test_client().get("/", environ_overrides=environ)
    app.test_client().get("/?no=1")
    assert [ours for ours, _ in seen] == [flasks for _, flasks in seen]
    assert seen[0][0] is not None


def test_a_query_that_flask_cannot_read_is_no_way_around_a_limit(agent: Agent) -> None:
    app = flask.Flask("query")
    RateLimit(app, agent=agent, scope="/shop", attributes={"tenant": query("k")})
    client = app.test_client()
    queries = ["k=a&z=\xff"] * 3
    answers = [client.get("/", environ_overrides={"QUERY_STRING": each}) for each in queries]
    assert [answer.status_code for answer in answers] == [404, 404, 429]


def test_a_refused_request_does_not_reach_the_view(app: flask.Flask, routed: Agent) -> None:
    calls: list[str] = []
    RateLimit(app, agent=routed, scope="/shop/items/id")
    app.add_url_rule("/calls", "calls", lambda: calls.append("a call") or "called")
    client = app.test_client()
    assert [client.get("/calls").status_code for _ in range(2)] == [200, 429]
    assert calls == ["a call"]


def test_the_decision_of_an_exempt_request_is_none(app: flask.Flask, agent: Agent) -> None:
    app.add_url_rule("/health", "health", lambda: str(flask.g.ratectl))
    RateLimit(app, agent=agent, scope="/shop", exempt=["/health"])
    with app.app_context():  # as in tests: all requests share one `flask.g`
        app.test_client().get("/items/1")
        assert app.test_client().get("/health").text == "None"


# Slots ----------------------------------------------------------------------------------------


def test_a_response_in_the_place_of_another_gives_the_slot_back(
    app: flask.Flask, agent: Agent
) -> None:
    app.after_request(lambda response: flask.Response("another"))
    slow(app, agent)
    app.after_request(lambda response: flask.Response("and another"))
    app.test_client().get("/items/1", headers=AS_ACME).close()
    assert slots_left(agent) == 3


@pytest.mark.parametrize("place", ["before_request", "after_request", "teardown_request"])
def test_errors_outside_views_give_the_slot_back(
    app: flask.Flask, agent: Agent, place: str
) -> None:
    def fail(*_: Any) -> Any:
        raise RuntimeError("a fault")

    slow(app, agent)
    getattr(app, place)(fail)
    app.testing = True  # errors go through to the server
    with pytest.raises(RuntimeError, match="a fault"):
        app.test_client().get("/items/1", headers=AS_ACME)
    assert slots_left(agent) == 3


def test_middleware_that_copies_the_environ_gives_the_slot_back(
    app: flask.Flask, agent: Agent
) -> None:
    inner = app.wsgi_app

    def copying(environ: Any, start_response: Any) -> Iterator[bytes]:
        yield from inner(dict(environ), start_response)  # and calls the application late

    app.wsgi_app = copying  # type: ignore[method-assign]
    slow(app, agent)
    answer = app.test_client().get("/items/1", headers=AS_ACME)
    assert answer.data == b"item 1"
    answer.close()
    assert slots_left(agent) == 3


def test_a_client_that_leaves_a_stream_gives_the_slot_back(app: flask.Flask, agent: Agent) -> None:
    def parts() -> Iterator[str]:
        yield f"{flask.g.ratectl.limit} "
        yield "the rest"

    app.add_url_rule("/stream", "stream", lambda: flask.stream_with_context(parts()))
    slow(app, agent)
    answer = app.test_client().get("/stream", headers=AS_ACME)
    assert next(answer.iter_encoded()) == b"slots "
    assert slots_left(agent) == 2
    answer.close()
    assert slots_left(agent) == 3


def test_the_decision_can_be_settled_by_the_view(app: flask.Flask, agent: Agent) -> None:
    app.add_url_rule("/free", "free", lambda: str(flask.g.ratectl.settle(0)))
    RateLimit(app, agent=agent, scope="/shop", attributes=TENANT)
    app.test_client().get("/free", headers=AS_ACME)
    assert agent.check("/shop", ACME, cost=0).remaining == 2


def test_async_views_are_limited(app: flask.Flask, agent: Agent) -> None:
    async def view() -> str:
        return str(slots_left(agent))

    app.add_url_rule("/async", "async", view)
    slow(app, agent)
    with app.test_client().get("/async", headers=AS_ACME) as answer:
        assert answer.text == "2"
    assert slots_left(agent) == 3


# Routes that no policy covers -----------------------------------------------------------------

MESSAGE = "no policy covers these routes, so they are not limited: /late, /none"


def test_routes_without_a_policy_are_reported_at_the_first_request(
    app: flask.Flask, routed: Agent, caplog: pytest.LogCaptureFixture
) -> None:
    RateLimit(app, agent=routed, scope=by_route("/shop"))
    app.add_url_rule("/late", "late", lambda: "late")
    app.add_url_rule("/none", "none", lambda: "none")
    with caplog.at_level(logging.WARNING, "ratectl.contrib"):
        for _ in range(2):
            assert app.test_client().get("/none").status_code == 200
    assert [record.message for record in caplog.records] == [MESSAGE]


def test_routes_without_a_policy_can_be_an_error(
    app: flask.Flask, routed: Agent, caplog: pytest.LogCaptureFixture
) -> None:
    limits = RateLimit(app, agent=routed, scope=by_route("/shop"), uncovered="raise")
    app.add_url_rule("/late", "late", lambda: "late")
    app.add_url_rule("/none", "none", lambda: "none")
    assert app.test_client().get("/none").status_code == 200  # too late to raise
    assert [record.message for record in caplog.records] == [MESSAGE]
    later = flask.Flask("later", static_folder=None)
    later.add_url_rule("/late", "late", lambda: "late")
    with pytest.raises(UsageError, match="not limited: /late"):
        limits.init_app(later)
