"""Rate limits for ASGI applications: Starlette, FastAPI, Litestar, and others.

app.add_middleware(RateLimitMiddleware, agent=agent, scope=by_route("/shop"),
                   attributes={"tenant": header("x-tenant")})
"""

from __future__ import annotations

import inspect
import logging
from typing import TYPE_CHECKING, Any, Final

from ratectl.contrib.web.limiter import Limiter
from ratectl.contrib.web.request import HttpRequest, last_of
from ratectl.contrib.web.starlette_routes import Routes, templates_in
from ratectl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from ratectl.agent import Agent
    from ratectl.contrib.web.answers import Headers
    from ratectl.contrib.web.limiter import Asked
    from ratectl.engine.decision import Decision

    Message = MutableMapping[str, Any]
    Scope = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]
    App = Callable[[Scope, Receive, Send], Awaitable[None]]

__all__ = ["AsgiRequest", "RateLimitMiddleware", "custom_response", "with_headers"]

log: Final = logging.getLogger("ratectl.contrib")

_STARTS: Final = ("http.response.start", "websocket.accept", "websocket.http.response.start")


class RateLimitMiddleware:
    """Limits requests and websockets. Slots are released when the response has been sent.

    The decision is in ``scope["ratectl"]``, to settle it for example. At the end of the
    application's lifespan the agent is closed.
    """

    def __init__(self, app: App, agent: Agent, scope: Any = "/", **arguments: Any) -> None:
        """``scope`` and ``arguments``: see ``ratectl.contrib.web.limiter.Limiter``.

        :raises UsageError: an argument cannot be used.
        """
        self.app = app
        self._limiter = Limiter(agent, scope, **arguments)
        self._routes = Routes(app)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind == "lifespan":
            await self.app(scope, receive, self._lifespan(scope, send))
            return
        if kind not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        asked = await self._limiter.ask_in_task(AsgiRequest(scope, self._routes))
        if asked is None:
            await self.app(scope, receive, send)
            return
        decision = asked.decision
        if not decision.allowed:
            await self._refuse(scope, receive, send, asked)
            return
        try:
            scope["ratectl"] = decision
            headers = self._limiter.headers_for(asked) if self._limiter.headers == "all" else None
            await self.app(scope, receive, with_headers(send, headers) if headers else send)
        finally:
            decision.release()

    async def _refuse(self, scope: Scope, receive: Receive, send: Send, asked: Asked) -> None:
        kind = "http.response"
        if scope["type"] == "websocket":
            kind = "websocket.http.response"
            await receive()  # the connection
            if kind not in scope.get("extensions", {}):
                await send({"type": "websocket.close", "code": 1013})  # before accept: HTTP 403
                return
        else:
            request = AsgiRequest(scope, self._routes)
            custom = await custom_response(self._limiter, request, asked.decision)
            if custom is not None:
                await custom(scope, receive, with_headers(send, self._limiter.headers_for(asked)))
                return
        refusal = self._limiter.refusal(asked)
        await send(
            {"type": f"{kind}.start", "status": refusal.status, "headers": _raw(refusal.headers)}
        )
        await send({"type": f"{kind}.body", "body": refusal.body})

    def _lifespan(self, scope: Scope, send: Send) -> Send:
        failed: list[UsageError] = []

        async def sending(message: Message) -> None:
            if failed:
                return  # the server knows already
            if message["type"] == "lifespan.startup.complete":
                try:
                    self._limiter.check_routes(templates_in(self._routes.of(scope)))
                except UsageError as error:
                    failed.append(error)
                    await send({"type": "lifespan.startup.failed", "message": str(error)})
                    raise  # ends the application, which waits for the end of its life
            elif message["type"].startswith("lifespan.shutdown."):
                self._limiter.agent.close()
            await send(message)

        return sending


class AsgiRequest(HttpRequest):
    """A request or a websocket of ASGI; ``native`` is its scope."""

    __slots__ = ("_routes", "native")

    def __init__(self, scope: Scope, routes: Routes) -> None:
        self.native = scope
        self._routes = routes

    @property
    def method(self) -> str:
        return str(self.native.get("method", "GET"))

    @property
    def path(self) -> str:
        return str(self.native["path"])

    @property
    def route(self) -> str | None:
        return self._routes.template(self.native)

    @property
    def peer(self) -> str | None:
        client = self.native.get("client")
        return client[0] if client else None

    def headers(self, name: str) -> list[str]:
        wanted = name.lower().encode("latin-1")
        return [value.decode("latin-1") for key, value in self.native["headers"] if key == wanted]

    def query(self, name: str) -> str | None:
        return last_of(self.native.get("query_string", b"").decode("latin-1"), name)

    def path_parameter(self, name: str) -> object | None:
        return self._routes.parameter(self.native, name)


async def custom_response(
    limiter: Limiter,
    request: HttpRequest,
    decision: Decision,
    usable: Callable[[object], bool] = callable,
) -> Any:
    """Return what ``on_refused`` answers a refused request with; None for the usual response.

    ``usable`` tells whether an answer is a response of the framework.
    """
    if limiter.on_refused is None:
        return None
    try:
        answer = limiter.on_refused(request, decision)
        return _checked(await answer if inspect.isawaitable(answer) else answer, usable)
    except Exception:
        log.exception("on_refused failed, so the usual response is sent")
        return None


def _checked(answer: object, usable: Callable[[object], bool]) -> object:
    if answer is not None and not usable(answer):
        raise TypeError(f"on_refused returns a response of the framework, not {answer!r}")
    return answer


def with_headers(send: Send, headers: Headers) -> Send:
    """Return a ``send`` that adds headers to the response, unless it has them already."""

    async def sending(message: Message) -> None:
        if message["type"] in _STARTS and headers:
            own = list(message.get("headers", ()))
            names = {bytes(name).lower() for name, _ in own}
            more = [pair for pair in _raw(headers) if pair[0] not in names]
            message = {**message, "headers": [*own, *more]}
        await send(message)

    return sending


def _raw(headers: Headers) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
