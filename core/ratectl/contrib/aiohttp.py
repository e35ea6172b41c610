"""Rate limits for servers of aiohttp.

app = web.Application(middlewares=[rate_limit(agent, scope=by_route("/shop"))])
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiohttp import web

from ratectl.contrib.asgi import custom_response
from ratectl.contrib.web.limiter import Limiter
from ratectl.contrib.web.request import HttpRequest
from ratectl.engine.decision import Decision

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ratectl.agent import Agent
    from ratectl.contrib.web.limiter import Asked

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

__all__ = ["DECISION", "AiohttpRequest", "rate_limit"]

DECISION: Any = web.RequestKey("ratectl", Decision) if hasattr(web, "RequestKey") else "ratectl"
"""Key of the decision in a request."""


def rate_limit(agent: Agent, scope: Any = "/", **arguments: Any) -> Any:
    """Return a middleware. Slots are released when the response has been sent.

    The decision is in ``request[DECISION]``. ``scope`` and ``arguments``: see
    ``ratectl.contrib.web.limiter.Limiter``.

    :raises UsageError: an argument cannot be used.
    """
    limiter = Limiter(agent, scope, **arguments)

    @web.middleware
    async def limited(request: web.Request, handler: Handler) -> web.StreamResponse:
        asking = AiohttpRequest(request)
        asked = await limiter.ask_in_task(asking)
        if asked is None:
            return await handler(request)
        if not asked.decision.allowed:
            custom = await custom_response(limiter, asking, asked.decision, _is_response)
            return _refused(limiter, asked, custom)
        request[DECISION] = asked.decision
        handled = _hold_until_sent(request, asked.decision)
        try:
            response = await handler(request)
        except web.HTTPException as error:
            _add_headers(error, limiter, asked)
            raise
        finally:
            handled()
        if isinstance(response, web.WebSocketResponse):
            asked.decision.release()  # closed, and its end is not written as that of others
        elif isinstance(response, web.StreamResponse) and not response.prepared:
            _add_headers(response, limiter, asked)
        return response

    return limited


def _hold_until_sent(request: web.Request, decision: Decision) -> Callable[[], None]:
    """Release the slots once the request is handled, and its response is sent or its client gone.

    Return a function to call when the request is handled. The request's writer tells when the
    response ends, because another middleware may have replaced the response of this middleware.
    """
    writer: Any = request.writer
    connection: Any = request.task  # the task of all requests of the connection
    write_eof = writer.write_eof
    awaited = {"handler", "response"}

    def over(what: str) -> None:
        awaited.discard(what)
        if not awaited:
            release()

    def release(_: object = None) -> None:
        connection.remove_done_callback(release)
        decision.release()

    async def write_last(*arguments: Any, **named: Any) -> None:
        vars(writer).pop("write_eof", None)
        try:
            await write_eof(*arguments, **named)
        finally:
            over("response")

    writer.write_eof = write_last
    connection.add_done_callback(release)
    return lambda: over("handler")


def _refused(limiter: Limiter, asked: Asked, custom: Any) -> web.StreamResponse:
    if custom is not None:
        response = _unsent(custom)
        _add_headers(response, limiter, asked)
        return response
    refusal = limiter.refusal(asked)
    return web.Response(body=refusal.body, status=refusal.status, headers=dict(refusal.headers))


def _is_response(answer: object) -> bool:
    return isinstance(answer, web.StreamResponse)


def _unsent(response: web.StreamResponse) -> web.StreamResponse:
    """Return a copy of a response that may be returned again: aiohttp sends each only once."""
    if not isinstance(response, web.Response) or response.prepared:
        return response
    made = web.Response(
        body=response.body,
        status=response.status,
        reason=response.reason,
        headers=response.headers.copy(),
    )
    made.cookies.update(response.cookies)
    return made


def _add_headers(response: web.StreamResponse, limiter: Limiter, asked: Asked) -> None:
    for name, value in limiter.headers_for(asked):
        response.headers.setdefault(name, value)


class AiohttpRequest(HttpRequest):
    """A request of aiohttp, which is ``native``."""

    __slots__ = ("native",)

    def __init__(self, native: web.Request) -> None:
        self.native = native

    @property
    def method(self) -> str:
        return str(self.native.method)

    @property
    def path(self) -> str:
        return str(self.native.path)

    @property
    def route(self) -> str | None:
        resource = self.native.match_info.route.resource
        return None if resource is None else str(resource.canonical)

    @property
    def peer(self) -> str | None:
        transport = self.native.transport
        name = transport.get_extra_info("peername") if transport else None
        return str(name[0]) if isinstance(name, tuple) else None

    def headers(self, name: str) -> list[str]:
        return list(self.native.headers.getall(name, []))

    def query(self, name: str) -> str | None:
        value: str | None = self.native.query.get(name)
        return value

    def path_parameter(self, name: str) -> object | None:
        value: str | None = self.native.match_info.get(name)
        return value
