"""``Limited``: limits of single routes of FastAPI."""

from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

import pytest
from fastapi import FastAPI, HTTPException, Response, WebSocket
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.exceptions import HTTPException as StarletteError
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.websockets import WebSocketDisconnect

from contrib.web_support import limits_told, make_agent, slots_free
from ratectl import Agent, Decision, FakeClock, UsageError
from ratectl.contrib.asgi import RateLimitMiddleware
from ratectl.contrib.fastapi import Limited, Refused
from ratectl.contrib.web import by_route, header, path_parameter


@pytest.fixture
def agent() -> Iterator[Agent]:
    with make_agent() as agent:
        yield agent


def app_of(agent: Agent, **arguments: Any) -> TestClient:
    app = FastAPI()

    @app.get("/items/{item_id}")
    async def item(
        item_id: int, decision: Annotated[Decision | None, Limited(agent, **arguments)]
    ) -> dict[str, Any]:
        return {"allowed": decision and decision.allowed}

    @app.get("/free")
    async def free() -> int:
        return 1

    return TestClient(app, raise_server_exceptions=False)


def test_only_the_route_is_limited(agent: Agent) -> None:
    http = app_of(
        agent,
        scope=by_route("/shop"),
        attributes={"item": path_parameter("item_id")},
        headers="all",
    )
    first, refused, other = (http.get(f"/items/{item}") for item in (1, 1, 2))
    assert (first.json(), refused.status_code, other.status_code) == ({"allowed": True}, 429, 200)
    assert limits_told(first.headers)[1] == {"item": {"r": 0, "t": 4}}
    assert "ratelimit" not in http.get("/free").headers


def test_the_refusal_is_a_problem(agent: Agent) -> None:
    http = app_of(agent, scope="/shop", attributes={"tenant": header("x-tenant")})
    *_, refused = (http.get("/items/1", headers={"x-tenant": "a"}) for _ in range(3))
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.json()["violated-policies"] == ["spike"]
    assert refused.headers["retry-after"] == "1"
    assert limits_told(refused.headers)[1] == {"spike": {"r": 0, "t": 1}}


def test_the_application_may_answer_itself(agent: Agent) -> None:
    def teapot(request: Any, decision: Decision) -> JSONResponse:
        return JSONResponse({"limit": decision.limit, "path": request.path}, 418)

    http = app_of(agent, scope="/shop", on_refused=teapot)
    *_, refused = (http.get("/items/1") for _ in range(3))
    assert (refused.status_code, refused.json()) == (418, {"limit": "spike", "path": "/items/1"})
    assert refused.headers["retry-after"] == "1"


@pytest.mark.parametrize("answer", [{"a": 1}, "text", ("a", 429), None])
@pytest.mark.parametrize("everywhere", [True, False], ids=["middleware", "route"])
def test_unusable_answers_are_the_usual_ones(
    agent: Agent, answer: Any, everywhere: bool, caplog: pytest.LogCaptureFixture
) -> None:
    arguments: dict[str, Any] = {"scope": "/shop", "on_refused": lambda *_: answer}
    http = app_of(agent, **({} if everywhere else arguments))
    if everywhere:
        http.app.add_middleware(RateLimitMiddleware, agent=agent, **arguments)  # type: ignore[attr-defined]
    *_, refused = (http.get("/items/1") for _ in range(3))
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
    assert refused.headers["content-type"] == "application/problem+json"
    assert ("on_refused failed" in caplog.text) is (answer is not None)


def test_one_own_answer_is_sent_for_many_refusals() -> None:
    """Each has the headers of its refusal, and what the application set."""
    clock = FakeClock()
    ours = JSONResponse({"slow": "down"}, 418, {"X-Own": "1"})
    with make_agent(clock=clock) as agent:
        http = app_of(
            agent,
            scope=by_route("/shop"),
            attributes={"item": path_parameter("item_id")},
            on_refused=lambda request, decision: ours,
        )
        http.get("/items/1")
        for wait in ("4", "3", "2"):
            refused = http.get("/items/1")
            assert (refused.status_code, refused.json()) == (418, {"slow": "down"})
            assert (refused.headers["x-own"], refused.headers["retry-after"]) == ("1", wait)
            clock.advance(1)
    assert "retry-after" not in ours.headers


@pytest.mark.parametrize(
    ("handled", "status"), [(Refused, 418), (429, 418), (HTTPException, 429), (StarletteError, 429)]
)
def test_the_application_may_handle_refusals(agent: Agent, handled: Any, status: int) -> None:
    """A handler of ``HTTPException`` is not called, as the page says."""
    http = app_of(agent, scope="/shop")

    @http.app.exception_handler(handled)  # type: ignore[attr-defined]
    async def handler(request: Any, refused: Refused) -> JSONResponse:
        return JSONResponse({"violated-policies": [refused.decision.limit]}, 418, refused.headers)

    *_, refused = (http.get("/items/1") for _ in range(3))
    assert (refused.status_code, refused.headers["retry-after"]) == (status, "1")
    assert refused.json()["violated-policies"] == ["spike"]


def test_errors_of_the_application_have_the_headers() -> None:
    """One error that is raised again and again has those of each request."""
    app, error = FastAPI(), HTTPException(404, headers={"X-Own": "1"})
    with make_agent() as agent:

        @app.get("/error", dependencies=[Limited(agent, "/shop", headers="all")])
        def fails() -> None:
            raise error

        @app.get("/quiet", dependencies=[Limited(agent, "/tokens", cost={"tokens": 1})])
        def quiet() -> None:
            raise HTTPException(404)

        http = TestClient(app)
        answers = [http.get("/error") for _ in range(2)]
        assert [limits_told(answer.headers)[1]["spike"]["r"] for answer in answers] == [1, 0]
        assert [answer.headers["x-own"] for answer in answers] == ["1", "1"]
        assert "ratelimit" not in http.get("/quiet").headers


def test_own_headers_of_an_error_stay(agent: Agent) -> None:
    app = FastAPI()

    @app.get("/", dependencies=[Limited(agent, "/shop", headers="all")])
    def fails() -> None:
        raise HTTPException(403, headers={"ratelimit": "mine"})

    assert TestClient(app).get("/").headers.get_list("ratelimit") == ["mine"]


def test_a_response_of_the_function_takes_the_headers_of_the_injected_one(agent: Agent) -> None:
    app = FastAPI()

    @app.get("/", dependencies=[Limited(agent, "/shop", headers="all")])
    def made(response: Response) -> JSONResponse:
        return JSONResponse({}, headers=dict(response.headers))

    assert limits_told(TestClient(app).get("/").headers)[1]["spike"]["r"] == 1


class TestWebsockets:
    @staticmethod
    def app(agent: Agent, **arguments: Any) -> FastAPI:
        app = FastAPI()

        @app.websocket("/{item_id}")
        async def socket(
            socket: WebSocket, decision: Annotated[Decision, Limited(agent, **arguments)]
        ) -> None:
            await socket.accept()
            await socket.send_json({"limit": decision.limit, "free": slots_free(agent)})

        return app

    def test_slots_are_held_until_the_end(self, agent: Agent) -> None:
        http = TestClient(self.app(agent, scope="/slots"))
        for _ in range(2):
            with http.websocket_connect("/1") as socket:
                assert socket.receive_json()["free"] == 0
            assert slots_free(agent) == 1

    @pytest.mark.parametrize("own", [True, False])
    def test_the_refusal_is_a_response(self, agent: Agent, own: bool) -> None:
        on_refused = (lambda *_: JSONResponse({}, 418)) if own else None
        http = TestClient(self.app(agent, scope="/shop", on_refused=on_refused))
        for _ in range(2):
            with http.websocket_connect("/1"):
                pass
        with pytest.raises(WebSocketDenialResponse) as refused, http.websocket_connect("/1"):
            pass
        assert refused.value.status_code == (418 if own else 429)
        assert refused.value.headers["retry-after"] == "1"

    def test_servers_that_send_no_responses_close(self, agent: Agent) -> None:
        inner = self.app(agent, scope="/shop")

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await inner({**scope, "extensions": {}}, receive, send)

        http = TestClient(app)
        for _ in range(2):
            with http.websocket_connect("/1"):
                pass
        with pytest.raises(WebSocketDisconnect) as refused, http.websocket_connect("/1"):
            pass
        assert refused.value.code == 1013


def test_an_exempt_request_has_no_decision(agent: Agent) -> None:
    http = app_of(agent, scope="/shop", exempt=["/items/7"])
    assert [http.get("/items/7").json() for _ in range(4)] == [{"allowed": None}] * 4


@pytest.mark.parametrize(("on_error", "status"), [("allow", 200), ("deny", 503)])
def test_what_fails_is_answered_by_on_error(on_error: str, status: int) -> None:
    http = app_of(make_agent(on_error=on_error), scope=lambda request: 1 / 0)
    assert http.get("/items/1").status_code == status


def test_slots_are_held_while_a_body_is_streamed(agent: Agent) -> None:
    app, seen = FastAPI(), []

    async def parts() -> AsyncIterator[bytes]:
        for _ in range(3):
            seen.append(slots_free(agent))
            yield b"part"

    @app.get("/")
    async def streams(decision: Annotated[Decision, Limited(agent, "/slots")]) -> StreamingResponse:
        return StreamingResponse(parts())

    assert TestClient(app).get("/").text == "part" * 3
    assert (seen, slots_free(agent)) == ([0, 0, 0], 1)


def test_slots_are_released_after_an_error(agent: Agent) -> None:
    app = FastAPI()

    @app.get("/")
    def fails(decision: Annotated[Decision, Limited(agent, "/slots")]) -> int:
        raise RuntimeError("the application's own")

    assert TestClient(app, raise_server_exceptions=False).get("/").status_code == 500
    assert slots_free(agent) == 1


def test_the_cost_is_settled_by_the_route(agent: Agent) -> None:
    app = FastAPI()
    tokens = Limited(agent, "/tokens", cost=lambda request: {"tokens": int(request.query("n"))})

    @app.get("/")
    def settles(decision: Annotated[Decision, tokens]) -> None:
        decision.settle({"tokens": 90})

    http = TestClient(app)
    assert http.get("/?n=20").status_code == 200
    assert agent.check("/tokens", cost={"tokens": 0}).remaining == 10
    assert http.get("/?n=20").status_code == 429


def test_arguments_are_checked(agent: Agent) -> None:
    with pytest.raises(UsageError, match="scope is a text like /shop"):
        Limited(agent, "shop")
