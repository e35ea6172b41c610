"""The WSGI middleware: what servers and clients may do to a response."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest
from werkzeug.test import Client
from werkzeug.wrappers import Response

from contrib.sites import make_agent, slots_left
from ratectl import UsageError
from ratectl.contrib.web import by_route, client_ip, header
from ratectl.contrib.wsgi import RateLimit, WsgiRequest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ratectl import Agent

TENANT: dict[str, Any] = {"tenant": header("x-tenant")}


@pytest.fixture
def agent() -> Iterator[Agent]:
    with make_agent() as agent:
        yield agent


def environ(**more: str) -> dict[str, Any]:
    made: dict[str, Any] = {"HTTP_X_TENANT": "acme"}
    setup_testing_defaults(made)
    return made | more


def called(app: Any, agent: Agent, **arguments: Any) -> Any:
    """Return the body of a response as a server gets it, with a slot held."""
    limited = RateLimit(app, agent, "/slow", attributes=TENANT, **arguments)
    return limited(environ(), lambda *_: None)


class Body:
    """A body that tells what the server did with it."""

    closed = 0

    def __iter__(self) -> Iterator[bytes]:
        yield b"a"
        yield b"b"

    def close(self) -> None:
        self.closed += 1


def test_the_slot_is_held_until_the_server_closes_the_body(agent: Agent) -> None:
    own = Body()
    body = called(lambda *_: own, agent)
    assert list(body) == [b"a", b"b"]
    assert (own.closed, slots_left(agent)) == (0, 2)
    body.close()
    assert (own.closed, slots_left(agent)) == (1, 3)


def test_a_client_that_goes_away_gives_the_slot_back(agent: Agent) -> None:
    own = Body()
    body = called(lambda *_: own, agent)
    assert next(iter(body)) == b"a"
    body.close()
    assert (own.closed, slots_left(agent)) == (1, 3)


def test_a_body_that_is_never_read_gives_the_slot_back(agent: Agent) -> None:
    called(lambda *_: Body(), agent).close()
    assert slots_left(agent) == 3


def test_a_body_without_close_gives_the_slot_back(agent: Agent) -> None:
    body = called(lambda *_: (b"a",), agent)
    assert list(body) == [b"a"]
    assert slots_left(agent) == 2
    body.close()
    assert slots_left(agent) == 3


def test_a_body_whose_close_raises_gives_the_slot_back(agent: Agent) -> None:
    class Broken(Body):
        def close(self) -> None:
            raise RuntimeError("in close")

    with pytest.raises(RuntimeError, match="in close"):
        called(lambda *_: Broken(), agent).close()
    assert slots_left(agent) == 3


@pytest.mark.parametrize("error", [RuntimeError("no"), SystemExit(1), KeyboardInterrupt()])
def test_an_application_that_raises_gives_the_slot_back(agent: Agent, error: BaseException) -> None:
    def app(*_: Any) -> Any:
        raise error

    with pytest.raises(type(error)):
        called(app, agent)
    assert slots_left(agent) == 3


def test_a_response_that_begins_anew_after_an_error_has_headers_once(agent: Agent) -> None:
    started: list[tuple[Any, ...]] = []

    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])
        start_response("500 No", [("X-Own", "1")], ("an", "error", None))
        return []

    limited = RateLimit(app, agent, "/shop", headers="all")
    limited(environ(), lambda *words: started.append(words))
    assert [words[0] for words in started] == ["200 OK", "500 No"]
    assert [name for name, _ in started[1][1]] == ["X-Own", "RateLimit-Policy", "RateLimit"]
    assert started[1][2] == ("an", "error", None)


def test_on_refused_returns_an_application(agent: Agent) -> None:
    def busy(request: WsgiRequest, decision: Any) -> Response:
        return Response(f"{request.path}: wait for {decision.retry_after:g} s", status=420)

    app = RateLimit(Response("text"), agent, "/shop", on_refused=busy)
    client = Client(app)
    answers = [client.get("/a b") for _ in range(3)]
    assert (answers[2].status_code, answers[2].text) == (420, "/a b: wait for 2 s")
    assert answers[2].headers["Retry-After"] == "2"


def test_a_request_as_functions_see_it() -> None:
    made = environ(
        SCRIPT_NAME="/mounted",
        PATH_INFO="/caf\xc3\xa9",
        QUERY_STRING="a=1&b=%C3%A9&b=2&c",
        REMOTE_ADDR="192.0.2.1",
        HTTP_X_FORWARDED_FOR="203.0.113.1, 10.0.0.1",
        CONTENT_TYPE="text/plain",
    )
    request = WsgiRequest(made)
    assert request.native is made
    assert (request.method, request.path, request.route) == ("GET", "/mounted/café", None)
    assert request.peer == "192.0.2.1"
    assert request.headers("x-forwarded-for") == ["203.0.113.1, 10.0.0.1"]
    assert request.header("Content-Type") == "text/plain"
    assert (request.headers("x-none"), request.header("x-none")) == ([], None)
    assert [request.query(name) for name in ("a", "b", "c", "d")] == ["1", "é", "", None]


def test_a_unix_socket_has_no_peer() -> None:
    assert WsgiRequest(environ(REMOTE_ADDR="")).peer is None
    assert WsgiRequest({"REQUEST_METHOD": "GET"}).peer is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"agent": None}, "agent is a ratectl.Agent, not None"),
        ({"scope": "shop"}, "scope is a text like /shop"),
        ({"attributes": {"tenant": "x-tenant"}}, "the source of 'tenant' is a function"),
        ({"attributes": ["tenant"]}, "attributes is a mapping"),
        ({"exempt": "/health"}, "exempt is a list of paths"),
        ({"headers": True}, "headers is 'refused', 'all' or 'none'"),
        ({"on_refused": "no"}, "on_refused is a function"),
        ({"uncovered": "fail"}, "uncovered is 'log', 'raise' or 'ignore'"),
    ],
)
def test_wrong_arguments_say_what_is_right(agent: Agent, arguments: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        RateLimit(Response("text"), **{"agent": agent, "scope": "/shop", **arguments})


def test_sources_without_a_name_are_refused() -> None:
    with pytest.raises(UsageError, match="a header has a name"):
        header("")
    with pytest.raises(UsageError, match="'X-Forwarded-For' or 'Forwarded'"):
        client_ip("X-Real-IP")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="begins with a slash"):
        by_route("shop")


def test_the_environ_is_one_that_wsgi_allows(agent: Agent) -> None:
    """Names of a library's own have a dot: others are texts."""
    limited = RateLimit(validator(Response("text")), agent, "/shop")
    with Client(limited).get("/") as answer:
        assert answer.text == "text"


@pytest.mark.parametrize("text", ["k=%C3%A9", "k=\xc3\xa9", "k=\xc3%A9", "k=%c3\xa9"])
def test_raw_and_escaped_bytes_are_one_value(text: str) -> None:
    assert WsgiRequest(environ(QUERY_STRING=text)).query("k") == "é"
