"""The ASGI middleware: slots, websockets, and the start and end of an application."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.websockets import WebSocketDisconnect

from contrib.asgi_support import client, hello, run
from contrib.web_support import make_agent, slots_free
from ratectl.contrib.asgi import RateLimitMiddleware
from ratectl.contrib.web import by_route, header, path_parameter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from starlette.requests import Request
    from starlette.websockets import WebSocket

    from ratectl import Agent


TENANT = {"tenant": header("x-tenant")}


@pytest.fixture
def agent() -> Iterator[Agent]:
    with make_agent() as agent:
        yield agent


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

    def test_on_refused_is_not_asked(self, agent: Agent) -> None:
        asked: list[Any] = []
        limited = RateLimitMiddleware(
            Starlette(), agent, "/slots", on_refused=lambda *given: asked.append(given)
        )
        with agent.check("/slots"), pytest.raises(WebSocketDenialResponse):
            TestClient(limited).websocket_connect("/").__enter__()
        assert asked == []

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
        assert (
            "limits count in each process, so N processes admit N times as much: address at "
            "/address, spike at /shop, budget all at /shop, " in caplog.text
        )

    def test_the_agent_is_closed_at_the_end(self, agent: Agent) -> None:
        with TestClient(self.app(agent, scope="/shop")) as http:
            assert http.get("/").status_code == 200
            assert not agent._closed
        assert agent._closed
