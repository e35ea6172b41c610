"""The ASGI middleware, in Starlette and FastAPI applications and in bare ones."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from fastapi import APIRouter, FastAPI
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from contrib.asgi_support import client, hello, run
from contrib.web_support import limits_told, make_agent
from ratectl import Agent, UsageError
from ratectl.contrib.asgi import RateLimitMiddleware
from ratectl.contrib.web import by_route, client_ip, header, path_parameter, query

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.requests import Request

    from ratectl.contrib.web.request import HttpRequest

TENANT = {"tenant": header("x-tenant")}


@pytest.fixture
def agent() -> Iterator[Agent]:
    with make_agent() as agent:
        yield agent


class TestRefusals:
    def test_a_refusal_says_which_limit_and_when_to_come_again(self, agent: Agent) -> None:
        *_, refused = run(agent, ["/"] * 3, {"x-tenant": "a"}, scope="/shop", attributes=TENANT)
        assert refused.status_code == 429
        assert refused.headers["content-type"] == "application/problem+json"
        problem = refused.json()
        assert problem["type"].endswith("#quota-exceeded")
        assert (problem["status"], problem["violated-policies"]) == (429, ["spike"])
        policies, state = limits_told(refused.headers)
        assert policies == {"spike": {"q": 2, "w": 2}, "all@/shop": {"q": 100, "w": 60}}
        assert state == {"spike": {"r": 0, "t": 1}}
        assert refused.headers["retry-after"] == "1"

    def test_a_client_that_comes_then_passes(self, agent: Agent) -> None:
        arguments = {"scope": by_route("/shop"), "attributes": {"item": path_parameter("item_id")}}
        first, refused = run(agent, ["/items/5", "/items/5"], **arguments)
        assert (first.status_code, refused.status_code) == (200, 429)
        agent.clock.advance(int(refused.headers["retry-after"]))
        (again,) = run(agent, ["/items/5"], **arguments)
        assert again.status_code == 200

    def test_other_units_and_slots_are_named(self, agent: Agent) -> None:
        (tokens,) = run(agent, ["/"], scope="/tokens", cost={"tokens": 101})
        assert limits_told(tokens.headers)[0] == {"tokens": {"q": 100, "qu": "tokens", "w": 10}}
        assert "retry-after" not in tokens.headers, "waiting does not help"
        with agent.check("/slots"):
            (slots,) = run(agent, ["/"], scope="/slots")
        policies, state = limits_told(slots.headers)
        assert policies == {"slots": {"q": 1, "qu": "concurrent-requests"}}
        assert state == {"slots": {"r": 0}}
        assert "retry-after" not in slots.headers, "it is unknown when a slot is free"

    @pytest.mark.parametrize(
        ("headers", "told"), [("all", [1, 1]), ("refused", [0, 1]), ("none", [0, 0])]
    )
    def test_which_responses_tell(self, agent: Agent, headers: str, told: list[int]) -> None:
        responses = run(agent, ["/"] * 3, scope="/shop", headers=headers)[1:]
        assert ["ratelimit" in response.headers for response in responses] == told

    def test_headers_are_added_to_errors_of_the_application(self, agent: Agent) -> None:
        missing, own = run(agent, ["/nope", "/"], scope="/shop", headers="all", legacy_headers=True)
        assert missing.status_code == 404
        assert missing.headers["x-ratelimit-remaining"] == "1"
        assert own.headers["x-own"] == "1"
        assert [own.headers[f"x-ratelimit-{name}"] for name in ("limit", "remaining", "reset")] == [
            "2", "0", "2",
        ]  # fmt: skip

    def test_a_header_of_the_application_stays(self, agent: Agent) -> None:
        async def own(request: Request) -> PlainTextResponse:
            return PlainTextResponse(headers={"RateLimit": '"mine";r=1'})

        (response,) = run(agent, ["/"], routes=[Route("/", own)], scope="/shop", headers="all")
        assert response.headers.get_list("ratelimit") == ['"mine";r=1']
        assert "ratelimit-policy" in response.headers

    @pytest.mark.parametrize("asynchronous", [True, False])
    def test_the_application_may_answer_itself(self, agent: Agent, asynchronous: bool) -> None:
        def teapot(request: HttpRequest, decision: Any) -> Any:
            return PlainTextResponse(f"{request.path} {decision.limit}", 418)

        async def later(request: HttpRequest, decision: Any) -> Any:
            return teapot(request, decision)

        *_, refused = run(
            agent, ["/"] * 3, scope="/shop", on_refused=later if asynchronous else teapot
        )
        assert (refused.status_code, refused.text) == (418, "/ spike")
        assert refused.headers["retry-after"] == "1"

    def test_an_answer_that_fails_is_replaced(self, agent: Agent) -> None:
        *_, refused = run(agent, ["/"] * 3, scope="/shop", on_refused=lambda *_: 1 / 0)
        assert refused.status_code == 429


class TestScopesAndAttributes:
    def test_the_template_of_the_route_is_the_scope(self, agent: Agent) -> None:
        arguments = {"scope": by_route("/shop"), "attributes": {"item": path_parameter("item_id")}}
        responses = run(agent, ["/items/1", "/items/2", "/items/1", "/items/x"], **arguments)
        assert [response.status_code for response in responses] == [200, 200, 429, 404]

    def test_methods_of_one_path_have_their_own_routes(self, agent: Agent) -> None:
        routes = [
            Route("/items/{item_id}", hello, methods=["GET"]),
            Route("/items/{name}", hello, methods=["POST"]),
        ]
        arguments = {"scope": by_route("/shop"), "attributes": {"item": path_parameter("item_id")}}

        async def send() -> list[int]:
            async with client(agent, routes, **arguments) as http:
                answers = [
                    await http.request(method, "/items/1")
                    for method in ("GET", "POST", "GET", "PUT")
                ]
                return [answer.status_code for answer in answers]

        assert asyncio.run(send()) == [200, 200, 429, 429], "PUT has the first route that fits"

    def test_templates_are_kept_in_bounds(self, agent: Agent) -> None:
        app = Starlette(routes=[Route("/{any:path}", hello)])
        limited = RateLimitMiddleware(app, agent, scope=by_route("/shop"))
        for number in range(3_000):
            scope = {"type": "http", "method": "GET", "path": f"/{number}", "headers": []}
            assert limited._routes.template(scope) == "/{any:path}"
        assert len(limited._routes._kept.templates or ()) <= 1_024

    def test_routers_of_fastapi_are_found(self, agent: Agent) -> None:
        app, inner = FastAPI(), APIRouter(prefix="/items")

        @inner.get("/{item_id}")
        async def item(item_id: int) -> int:
            return item_id

        app.include_router(inner)
        app.add_middleware(
            RateLimitMiddleware, agent=agent, scope=by_route("/shop"),
            attributes={"item": path_parameter("item_id")},
        )  # fmt: skip
        http = TestClient(app)
        assert [http.get(f"/items/{item}").status_code for item in (1, 2, 1)] == [200, 200, 429]

    def test_addresses_count_only_behind_trusted_proxies(self, agent: Agent) -> None:
        arguments = {"scope": "/address", "attributes": {"ip": client_ip()}}
        spoofed = [{"x-forwarded-for": f"6.6.6.{n}, 203.0.113.9"} for n in range(2)]
        answers = [run(agent, ["/"], each, **arguments)[0].status_code for each in spoofed]
        assert answers == [200, 429], "the client's own part of the header does not count"
        (other,) = run(agent, ["/"], {"x-forwarded-for": "203.0.113.10"}, **arguments)
        assert other.status_code == 200

    @pytest.mark.parametrize(
        "headers",
        [
            {}, [("x-tenant", "a"), ("x-tenant", "b")], {"x-tenant": "x" * 100_000},
            {"x-tenant": b"\xff\xfe\x01"}, {"x-tenant": ""},
        ],
    )  # fmt: skip
    def test_odd_attributes_are_keys_like_others(self, agent: Agent, headers: Any) -> None:
        responses = run(agent, ["/"] * 3, headers, scope="/shop", attributes=TENANT)
        assert [response.status_code for response in responses] == [200, 200, 429]

    def test_functions_and_queries(self, agent: Agent) -> None:
        arguments: dict[str, Any] = {
            "scope": lambda request: "/shop" if request.method == "GET" else "/tokens",
            "attributes": lambda request: {"tenant": query("key")(request), "other": None},
            "cost": lambda request: int(request.query("n") or 1),
            "exempt": lambda request: request.path == "/fails" and request.route == "/fails",
        }
        paths = ["/?key=a&n=2", "/?key=a", "/?key=b", "/fails", "/?key=", "/"]
        answers = [response.status_code for response in run(agent, paths, **arguments)]
        assert answers == [200, 429, 200, 500, 200, 200]

    def test_a_query_of_many_fields_is_no_way_around_a_limit(self, agent: Agent) -> None:
        arguments: dict[str, Any] = {"scope": "/shop", "attributes": {"tenant": query("t")}}
        long = "/?" + "a=1&" * 1_001 + "t=x"
        responses = run(agent, [long, "/?t=x", long], **arguments)
        assert [response.status_code for response in responses] == [200, 200, 429]
        assert agent._failures.count == 0

    @pytest.mark.parametrize("exempt", [["/items/{item_id:int}"], {"/items/7"}])
    def test_exempt_paths_and_templates(self, agent: Agent, exempt: Any) -> None:
        answers = run(agent, ["/items/7"] * 4, scope="/shop", exempt=exempt, headers="all")
        assert {response.status_code for response in answers} == {200}
        assert "ratelimit" not in answers[0].headers


class TestFailures:
    @pytest.mark.parametrize("argument", ["scope", "attributes", "cost", "exempt"])
    @pytest.mark.parametrize(("on_error", "status"), [("allow", 200), ("deny", 503)])
    def test_what_fails_in_the_users_functions_is_answered_by_on_error(
        self, argument: str, on_error: str, status: int
    ) -> None:
        agent = make_agent(on_error=on_error)
        arguments = {"scope": "/elsewhere", argument: lambda request: 1 / 0}
        (response,) = run(agent, ["/"], **arguments)
        assert response.status_code == status
        assert agent._failures.count == 1

    def test_a_wrong_cost_is_a_failure_too(self, agent: Agent) -> None:
        (response,) = run(agent, ["/"], scope="/shop", cost=lambda request: -1)
        assert response.status_code == 200
        assert agent._failures.count == 1

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"agent": "agent"}, "agent is a ratectl.Agent"),
            ({"scope": "shop"}, "scope is a text like /shop"),
            ({"scope": None}, "scope is a text like /shop"),
            ({"attributes": {"tenant": "x-tenant"}}, "the source of 'tenant' is a function"),
            ({"attributes": ["tenant"]}, "attributes is a mapping"),
            ({"exempt": "/health"}, "exempt is a list of paths"),
            ({"headers": True}, "headers is 'refused', 'all' or 'none'"),
            ({"on_refused": 429}, "on_refused is a function"),
            ({"uncovered": "warn"}, "uncovered is 'log', 'raise' or 'ignore'"),
        ],
    )
    def test_arguments_are_checked(self, agent: Agent, arguments: Any, message: str) -> None:
        with pytest.raises(UsageError, match=message):
            RateLimitMiddleware(Starlette(), **{"agent": agent, **arguments})

    @pytest.mark.parametrize("make", [header, query, path_parameter])
    def test_sources_have_names(self, make: Any) -> None:
        with pytest.raises(UsageError, match="has a name"):
            make(" ")
        with pytest.raises(UsageError, match="begins with a slash"):
            by_route("shop")
        with pytest.raises(UsageError, match="'X-Forwarded-For' or 'Forwarded'"):
            client_ip("X-Real-IP")  # type: ignore[arg-type]
