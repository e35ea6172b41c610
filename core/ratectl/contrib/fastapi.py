"""Rate limits for single routes of FastAPI, as a dependency.

    @app.post("/llm")
    async def llm(decision: Annotated[Decision, Limited(agent, "/llm", cost=tokens_wanted)]): ...

For all routes at once, use ``ratectl.contrib.asgi.RateLimitMiddleware``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator  # noqa: TC003  FastAPI reads annotations
from typing import TYPE_CHECKING, Any

from fastapi import Depends, HTTPException, Response
from fastapi.requests import HTTPConnection  # noqa: TC002  FastAPI reads annotations
from starlette.exceptions import HTTPException as AnyHTTPException
from starlette.websockets import WebSocketClose

from ratectl.contrib.asgi import AsgiRequest, custom_response, with_headers
from ratectl.contrib.web.answers import PROBLEM
from ratectl.contrib.web.limiter import Limiter, Refusal
from ratectl.contrib.web.starlette_routes import Routes
from ratectl.engine.decision import Decision  # noqa: TC001

if TYPE_CHECKING:
    from ratectl.agent import Agent
    from ratectl.contrib.asgi import App, Receive, Scope, Send
    from ratectl.contrib.web.answers import Headers

__all__ = ["Limited", "Refused"]


class Refused(HTTPException):
    """Raised for a request that a limit refuses. Its answer is a problem, as JSON."""

    def __init__(
        self, decision: Decision, refusal: Refusal, response: Response | None = None
    ) -> None:
        headers = {
            name: value for name, value in refusal.headers if not name.startswith("Content-")
        }
        super().__init__(refusal.status, refusal.body.decode(), headers)
        self.decision = decision
        self.response = response


def Limited(agent: Agent, scope: Any = "/", **arguments: Any) -> Any:  # noqa: N802  like Depends
    """Return a dependency that limits a route, and gives it the decision.

    ``scope`` and ``arguments``: see ``ratectl.contrib.web.limiter.Limiter``. The decision is None
    for an exempt request. Slots are released after the response, a streamed one included, and
    those of a websocket at its end. A websocket is refused before it is accepted.

    :raises UsageError: an argument cannot be used.
    """
    limiter, routes = Limiter(agent, scope, **arguments), Routes()

    async def limited(
        connection: HTTPConnection, response: Response
    ) -> AsyncIterator[Decision | None]:
        asking = AsgiRequest(connection.scope, routes)
        asked = await limiter.ask_in_task(asking)
        if asked is None:
            yield None
            return
        if not asked.decision.allowed:
            _answer_with_the_body(connection)
            custom = await custom_response(limiter, asking, asked.decision, _is_response)
            raise Refused(asked.decision, limiter.refusal(asked), custom)
        headers = limiter.headers_for(asked)
        response.headers.update(dict(headers))
        with asked.decision:
            try:
                yield asked.decision
            except AnyHTTPException as error:
                if headers:
                    _add_headers(error, headers)
                raise

    return Depends(limited)


def _is_response(answer: object) -> bool:
    return isinstance(answer, Response)


def _add_headers(error: AnyHTTPException, headers: Headers) -> None:
    """Add headers to the answer to an error, unless the application has set them."""
    own: Any = vars(error).setdefault("_ratectl_own", error.headers) or {}  # it may be raised again
    names = {name.lower() for name in own}
    more = {name: value for name, value in headers if name.lower() not in names}
    error.headers = {**own, **more}


def _answer_with_the_body(connection: HTTPConnection) -> None:
    """Make the application answer with the problem itself, not within another document."""
    handlers = connection.scope.get("starlette.exception_handlers")
    if handlers is not None:
        handlers[0].setdefault(Refused, _response)


async def _response(connection: HTTPConnection, refused: Exception) -> App:
    assert isinstance(refused, Refused)
    scope = connection.scope
    takes_responses = "websocket.http.response" in scope.get("extensions", {})
    if scope["type"] == "websocket" and not takes_responses:
        return WebSocketClose(1013)  # before it is accepted: HTTP 403
    response = refused.response
    if response is None:
        return Response(refused.detail, refused.status_code, refused.headers, PROBLEM)
    own, headers = response, list((refused.headers or {}).items())

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        await own(scope, receive, with_headers(send, headers))  # the object may be sent again

    return answer
