"""Rate limits for single routes of FastAPI, as a dependency.

    @app.post("/llm")
    async def llm(decision: Annotated[Decision, Limited(agent, "/llm", cost=tokens_wanted)]): ...

For all routes at once, use ``ratectl.contrib.asgi.RateLimitMiddleware``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator  # noqa: TC003  FastAPI reads annotations
from typing import TYPE_CHECKING, Any

from fastapi import Depends, HTTPException, Request, Response

from ratectl.contrib.asgi import AsgiRequest, custom_response
from ratectl.contrib.web.answers import PROBLEM
from ratectl.contrib.web.limiter import Limiter, Refusal
from ratectl.contrib.web.starlette_routes import Routes
from ratectl.engine.decision import Decision  # noqa: TC001

if TYPE_CHECKING:
    from ratectl.agent import Agent

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
    for an exempt request. Slots are released after the response, a streamed one included.

    :raises UsageError: an argument cannot be used.
    """
    limiter, routes = Limiter(agent, scope, **arguments), Routes()

    async def limited(request: Request, response: Response) -> AsyncIterator[Decision | None]:
        asking = AsgiRequest(request.scope, routes)
        asked = limiter.ask(asking)
        if asked is None:
            yield None
            return
        if not asked.decision.allowed:
            _answer_with_the_body(request)
            custom = await custom_response(limiter, asking, asked.decision)
            raise Refused(asked.decision, limiter.refusal(asked), custom)
        response.headers.update(dict(limiter.headers_for(asked)))
        with asked.decision:
            yield asked.decision

    return Depends(limited)


def _answer_with_the_body(request: Request) -> None:
    """Make the application answer with the problem itself, not within another document."""
    handlers = request.scope.get("starlette.exception_handlers")
    if handlers is not None:
        handlers[0].setdefault(Refused, _response)


def _response(_: Request, refused: Exception) -> Response:
    assert isinstance(refused, Refused)
    if refused.response is None:
        return Response(refused.detail, refused.status_code, refused.headers, PROBLEM)
    for name, value in (refused.headers or {}).items():
        refused.response.headers.setdefault(name, value)
    return refused.response
