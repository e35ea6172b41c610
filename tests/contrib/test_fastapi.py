"""``Limited``: limits of single routes of FastAPI."""

from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

import pytest
from fastapi import FastAPI
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.testclient import TestClient

from contrib.web_support import limits_told, make_agent, slots_free
from ratectl import Agent, Decision, UsageError
from ratectl.contrib.fastapi import Limited
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
