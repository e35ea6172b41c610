"""The ASGI middleware, in Starlette and FastAPI applications and in bare ones."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.websockets import WebSocketDisconnect

from contrib.web_support import limits_told, make_agent, slots_free
from ratectl import Agent, UsageError
from ratectl.contrib.asgi import RateLimitMiddleware
from ratectl.contrib.web import by_route, client_ip, header, path_parameter, query

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from starlette.requests import Request
    from starlette.websockets import WebSocket

    from ratectl.contrib.web.request import HttpRequest

TENANT = {"tenant": header("x-tenant")}


@pytest.fixture
def agent() -> Iterator[Agent]:
    with make_agent() as agent:
        yield agent


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


class TestSlots:
    def test_are_released_after_an_error_of_the_application(self, agent: Agent) -> None:
        (response,) = run(agent, ["/fails"], scope="/slots")
        assert (response.status_code, slots_free(agent)) == (500, 1)

    def test_are_held_while_a_body_is_streamed(self, agent: Agent) -> None:
        seen = []

        async def parts() -> AsyncIterator[bytes]:
            for _ in range(3):
                seen.append(slots_free(agent))
                yield b"part"

        async def streams(request: Request) -> StreamingResponse:
            return StreamingResponse(parts())

        (response,) = run(agent, ["/"], routes=[Route("/", streams)], scope="/slots")
        assert (response.text, seen, slots_free(agent)) == ("part" * 3, [0, 0, 0], 1)

    def test_are_released_when_the_client_goes_away(self, agent: Agent) -> None:
        async def forever() -> AsyncIterator[bytes]:
            while True:
                yield b"part"
                await asyncio.sleep(0)

        async def streams(request: Request) -> StreamingResponse:
            return StreamingResponse(forever())

        limited = RateLimitMiddleware(Starlette(routes=[Route("/", streams)]), agent, "/slots")

        async def leave() -> None:
            sent: list[Any] = []

            async def receive() -> dict[str, Any]:
                while len(sent) < 3:
                    await asyncio.sleep(0)
                return {"type": "http.disconnect"}

            async def send(message: Any) -> None:
                sent.append(message)

            scope = {
                "type": "http",
                "method": "GET",
                "path": "/",
                "headers": [],
                "query_string": b"",
            }
            await limited(scope, receive, send)

        asyncio.run(leave())
        assert slots_free(agent) == 1

    def test_are_released_when_the_task_is_cancelled(self, agent: Agent) -> None:
        async def waits(request: Request) -> PlainTextResponse:
            await asyncio.sleep(3600)
            return PlainTextResponse()

        async def cancel() -> None:
            async with client(agent, [Route("/", waits)], scope="/slots") as http:
                task = asyncio.create_task(http.get("/"))
                while slots_free(agent):
                    await asyncio.sleep(0)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task

        asyncio.run(cancel())
        assert slots_free(agent) == 1

    def test_the_application_can_settle(self, agent: Agent) -> None:
        async def settles(request: Request) -> PlainTextResponse:
            request.scope["ratectl"].settle({"tokens": 90})
            return PlainTextResponse()

        run(agent, ["/"], routes=[Route("/", settles)], scope="/tokens", cost={"tokens": 10})
        assert agent.check("/tokens", cost={"tokens": 0}).remaining == 10


class TestWebsockets:
    @pytest.fixture
    def http(self, agent: Agent) -> TestClient:
        async def echo(websocket: WebSocket) -> None:
            await websocket.accept()
            await websocket.send_text(await websocket.receive_text())
            await websocket.close()

        app = Starlette(routes=[WebSocketRoute("/items/{item_id}", echo)])
        attributes = {"item": path_parameter("item_id")}
        app.add_middleware(
            RateLimitMiddleware, agent=agent, scope=by_route("/shop"), attributes=attributes,
            headers="all",
        )  # fmt: skip
        return TestClient(app)

    def test_are_limited_by_their_route(self, agent: Agent, http: TestClient) -> None:
        with http.websocket_connect("/items/1") as websocket:
            websocket.send_text("hello")
            assert websocket.receive_text() == "hello"
        with pytest.raises(WebSocketDenialResponse) as refused, http.websocket_connect("/items/1"):
            pass
        assert refused.value.status_code == 429
        assert refused.value.headers["retry-after"] == "4"

    def test_are_closed_where_no_response_is_possible(self, agent: Agent) -> None:
        limited = RateLimitMiddleware(Starlette(), agent, "/slots")
        sent: list[Any] = []

        async def connect() -> None:
            async def receive() -> dict[str, Any]:
                return {"type": "websocket.connect"}

            async def send(message: Any) -> None:
                sent.append(message)

            with agent.check("/slots"):
                await limited({"type": "websocket", "path": "/", "headers": []}, receive, send)

        asyncio.run(connect())
        assert sent == [{"type": "websocket.close", "code": 1013}]
        assert WebSocketDisconnect(1013).code == 1013


class TestStart:
    def app(self, agent: Agent, **arguments: Any) -> Starlette:
        app = Starlette(routes=[Route("/", hello), Mount("/a", routes=[Route("/{b}", hello)])])
        app.add_middleware(RateLimitMiddleware, agent=agent, **arguments)
        return app

    def test_routes_that_no_policy_covers_are_logged(
        self, agent: Agent, caplog: pytest.LogCaptureFixture
    ) -> None:
        with TestClient(self.app(agent, scope=by_route("/other"))):
            pass
        assert "no policy covers these routes, so they are not limited: /, /a/{b}" in caplog.text
        caplog.clear()
        with TestClient(self.app(make_agent(), scope=by_route("/shop"))):
            pass
        assert caplog.text == ""

    def test_or_prevent_the_start(self, agent: Agent) -> None:
        app = self.app(agent, scope=by_route("/other"), uncovered="raise")
        with pytest.raises(Exception, match="not limited: /, /a"), TestClient(app):
            pass

    def test_the_log_says_that_processes_count_apart(
        self, agent: Agent, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO, "ratectl.contrib")
        self.app(agent, scope="/shop").build_middleware_stack()
        assert "limits count in each process" in caplog.text

    def test_the_agent_is_closed_at_the_end(self, agent: Agent) -> None:
        with TestClient(self.app(agent, scope="/shop")) as http:
            assert http.get("/").status_code == 200
            assert not agent._closed
        assert agent._closed
