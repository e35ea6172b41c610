"""Rate limits for Django, by a setting:

MIDDLEWARE = ["ratectl.contrib.django.RateLimitMiddleware", …]
RATECTL = {"agent": "shop.limits.agent", "scope": by_route("/shop"),
           "attributes": {"tenant": header("x-tenant")}}
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import weakref
from contextlib import asynccontextmanager, contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any, Final

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.conf import settings
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpResponse
from django.http.response import HttpResponseBase
from django.urls import get_resolver
from django.utils.module_loading import import_string

from ratectl.contrib.web.django_request import DjangoRequest
from ratectl.contrib.web.django_routes import templates_in
from ratectl.contrib.web.limiter import Limiter
from ratectl.contrib.wsgi import put_headers
from ratectl.engine.cost import REQUESTS
from ratectl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator

    from ratectl.contrib.web.limiter import Asked
    from ratectl.engine.decision import Decision

    View = Callable[..., Any]

__all__ = ["DjangoRequest", "RateLimitMiddleware", "limited"]

log: Final = logging.getLogger("ratectl.contrib")

_LIMITED: Final = "_ratectl_limited"
"""Attribute of views that ``limited`` checks: the middleware leaves them to it."""

_HELD: Final = "_ratectl_held"
"""Attribute of a request: functions that are called at its end, to release its decisions."""

_HEADERS: Final = "_ratectl_headers"
"""Attribute of a request: headers for its response."""

_ASKED: Final = "_ratectl_asked"
"""Attribute of a request: the agent that the middleware asked, and what; None if it was exempt."""

_FOR_ALL: Final = ("agent", "attributes", "headers", "legacy_headers", "on_refused")
"""Arguments in the setting that ``limited`` follows too."""


class RateLimitMiddleware:
    """Limits requests, sync and async, when their view is known.

    The decision is in ``request.ratectl``, to settle it for example. Slots are released when the
    response is closed. A request that fits no route is checked when its 404 is ready.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: View) -> None:
        """The setting ``RATECTL`` has the arguments: see ``ratectl.contrib.web.limiter.Limiter``.

        :raises UsageError: it is missing, or something in it cannot be used.
        """
        self.get_response = get_response
        self._checks = _Checks(_from_setting)
        self._checks.limiter.check_routes(_templates())
        self._async = iscoroutinefunction(get_response)
        if self._async:
            markcoroutinefunction(self)
            self.process_view = self._process_view  # type: ignore[method-assign]

    def __call__(self, request: Any) -> Any:
        if self._async:
            return self._respond(request)
        with _releasing(request):
            return self._finish(request, self.get_response(request))

    async def _respond(self, request: Any) -> HttpResponseBase:
        async with _releasing_async(request):
            response = await self.get_response(request)
            if response.status_code == 404 and request.resolver_match is None:
                response = await self._begin_in_task(request) or response
            return _finished(request, response)

    def process_view(self, request: Any, view: View, *_: Any) -> HttpResponseBase | None:
        """Check a request whose view is known; called by Django."""
        return None if getattr(view, _LIMITED, False) else self._begin(request)

    async def _process_view(self, request: Any, view: View, *_: Any) -> HttpResponseBase | None:
        return None if getattr(view, _LIMITED, False) else await self._begin_in_task(request)

    def _begin(self, request: Any) -> HttpResponseBase | None:
        """Check a request, once if the settings name the middleware twice."""
        return None if hasattr(request, _ASKED) else self._checks.begin(request, _ASKED)

    async def _begin_in_task(self, request: Any) -> HttpResponseBase | None:
        asked = hasattr(request, _ASKED)
        return None if asked else await self._checks.begin_in_task(request, _ASKED)

    def _finish(self, request: Any, response: HttpResponseBase) -> HttpResponseBase:
        if response.status_code == 404 and request.resolver_match is None:
            response = self._begin(request) or response
        return _finished(request, response)


def limited(scope: Any, **arguments: Any) -> Callable[[View], View]:
    """Return a decorator that limits one view, sync or async. The middleware leaves it alone.

    If it asked all the same, because a wrapper hides the decorator, its charge is given back.

    ``arguments``: see ``ratectl.contrib.web.limiter.Limiter``. The setting ``RATECTL`` has the
    agent, attributes, headers and ``on_refused``, unless they are here.

    :raises UsageError: an argument cannot be used.
    """
    checks = _Checks(lambda: _for_view({"scope": scope, **arguments}))

    def decorate(view: View) -> View:
        checked = (_async_view if _is_async(view) else _sync_view)(checks, view)
        setattr(checked, _LIMITED, True)
        return checked

    return decorate


def _sync_view(checks: _Checks, view: View) -> View:
    @wraps(view)
    def checked(request: Any, *args: Any, **kwargs: Any) -> Any:
        with _releasing(request):
            _give_back(request)
            response = checks.begin(request) or view(request, *args, **kwargs)
            return _finished(request, response, may_drop=True)

    return checked


def _async_view(checks: _Checks, view: View) -> View:
    @wraps(view)
    async def checked(request: Any, *args: Any, **kwargs: Any) -> Any:
        async with _releasing_async(request):
            _give_back(request)
            response = await checks.begin_in_task(request) or await view(request, *args, **kwargs)
            return _finished(request, response)

    return checked


def _is_async(view: Any) -> bool:
    """Return True for coroutine functions, and for ``dispatch`` of classes with async methods."""
    owner = getattr(getattr(view, "func", view), "__self__", None)
    return iscoroutinefunction(view) or getattr(owner, "view_is_async", False)


class _Checks:
    """Decides requests, as the setting says. It is read again when a test has replaced it."""

    def __init__(self, arguments: Callable[[], dict[str, Any]]) -> None:
        self._arguments = arguments
        self._setting: object = None
        self._limiter = self._made()

    @property
    def limiter(self) -> Limiter:
        if getattr(settings, "RATECTL", None) is not self._setting:
            self._limiter = self._made()
        return self._limiter

    def _made(self) -> Limiter:
        self._setting = getattr(settings, "RATECTL", None)
        return Limiter(**self._arguments())

    def begin(self, request: Any, kept: str | None = None) -> HttpResponseBase | None:
        """Decide a request; return the response to a refused one.

        ``kept``: the attribute of the request that keeps what was asked.
        """
        limiter, view_of_it = self.limiter, DjangoRequest(request)
        return self._answer(request, kept, limiter, view_of_it, limiter.ask(view_of_it))

    async def begin_in_task(self, request: Any, kept: str | None = None) -> HttpResponseBase | None:
        """Decide a request like ``begin``, without blocking the event loop."""
        limiter, view_of_it = self.limiter, DjangoRequest(request)
        asked = await limiter.ask_in_task(view_of_it)
        return self._answer(request, kept, limiter, view_of_it, asked)

    def _answer(
        self, request: Any, kept: str | None, limiter: Limiter, view_of_it: DjangoRequest,
        asked: Asked | None,
    ) -> HttpResponseBase | None:  # fmt: skip
        if kept:
            setattr(request, kept, asked and (limiter.agent, asked))
        request.ratectl = None if asked is None else asked.decision
        if asked is None:
            return None
        setattr(request, _HEADERS, limiter.headers_for(asked))
        if asked.decision.allowed:
            _hold(request, asked.decision)
            return None
        custom = limiter.custom(view_of_it, asked, _response)
        if custom is not None:
            return custom
        refusal = limiter.refusal(asked)
        return HttpResponse(refusal.body, status=refusal.status, headers=dict(refusal.headers))


def _hold(request: Any, decision: Decision) -> None:
    """Release a decision when the request is closed.

    Django closes it with the response that it sends, which need not be that of the view.
    """
    held = getattr(request, _HELD, None)
    if held is not None:
        held.append(decision.release)
        return
    setattr(request, _HELD, [decision.release])
    close = request.close

    def closing() -> None:
        vars(request).pop("close", None)  # else the request would refer to itself
        try:
            close()
        finally:
            _release(request)

    request.close = closing


def _release(request: Any) -> None:
    _call_all(getattr(request, _HELD, ()))


def _call_all(functions: Iterable[Callable[[], object]]) -> None:
    for function in functions:
        function()


def _give_back(request: Any) -> None:
    """Undo what the middleware charged for a request whose view is ``limited``."""
    if not (kept := getattr(request, _ASKED, None)):
        return
    agent, asked = kept
    setattr(request, _ASKED, None)
    setattr(request, _HEADERS, [])
    asked.decision.release()
    try:
        units = {limit.unit for limit in agent.limits(asked.scope, asked.attributes) or ()}
        asked.decision.settle(dict.fromkeys(units | {REQUESTS}, 0))
    except Exception:  # an attribute may raise when it is read once more
        log.exception("the charge of a request cannot be given back")


@contextmanager
def _releasing(request: Any) -> Iterator[None]:
    """Release what a request holds if no response comes of it."""
    try:
        yield
    except BaseException:
        _release(request)
        raise


@asynccontextmanager
async def _releasing_async(request: Any) -> AsyncIterator[None]:
    """Release what a request holds if no response comes of it, and its view has ended.

    If the client goes away, the request is cancelled, but a sync view goes on in its thread.
    """
    try:
        yield
    except asyncio.CancelledError:
        await asyncio.shield(asyncio.create_task(_release_after_thread(request)))
        raise
    except BaseException:
        _release(request)
        raise


async def _release_after_thread(request: Any) -> None:
    """Release in the thread that runs sync code of the request, one call after the other."""
    try:
        await sync_to_async(_release)(request)
    except RuntimeError:  # the thread takes no more calls
        _release(request)


def _finished(request: Any, response: Any, *, may_drop: bool = False) -> Any:
    """Return a response with its headers.

    With ASGI, Django does not close a response whose stream raised: the stream releases too.
    ``may_drop``: nor does it close that of a sync view whose client has gone away.
    """
    if not isinstance(response, HttpResponseBase):
        return response  # Django tells what is wrong
    put_headers(response, getattr(request, _HEADERS, []))
    if not isinstance(request, ASGIRequest):
        return response
    watched: Any = response
    if response.streaming:
        stream = _async_stream if response.is_async else _stream
        # ``streaming_content`` refers to the response, which would then refer to itself
        parts = getattr(response, "_iterator", None) or response.streaming_content
        watched = stream(request, parts)
        response.streaming_content = watched
    if may_drop:
        _release_if_dropped(request, watched)
    return response


def _release_if_dropped(request: Any, watched: Any) -> None:
    """Release what a request holds when a response, or its stream, is no longer in memory."""
    held = getattr(request, _HELD, None)
    if held is not None:
        finalizer = weakref.finalize(watched, _call_all, tuple(held))
        finalizer.atexit = False
        held.append(finalizer.detach)  # a response object may serve many requests


def _stream(request: Any, parts: Iterable[Any]) -> Iterator[Any]:
    try:
        yield from parts
    finally:
        _release(request)


async def _async_stream(request: Any, parts: AsyncIterator[Any]) -> AsyncIterator[Any]:
    try:
        async for part in parts:
            yield part
    finally:
        _release(request)


def _response(answer: Any) -> HttpResponseBase:
    if not isinstance(answer, HttpResponseBase):
        raise TypeError(f"on_refused returns an HttpResponse, not {answer!r}")
    if hasattr(answer, "render"):
        answer.render()
    return answer


# Settings -------------------------------------------------------------------------------------


def _from_setting() -> dict[str, Any]:
    setting = getattr(settings, "RATECTL", None)
    if not isinstance(setting, dict):
        raise UsageError('the settings have no RATECTL: add RATECTL = {"agent": "path.to.agent"}')
    return _usable({"scope": "/", **setting})


def _for_view(arguments: dict[str, Any]) -> dict[str, Any]:
    setting = getattr(settings, "RATECTL", None) or {}
    return _usable({name: setting[name] for name in _FOR_ALL if name in setting} | arguments)


def _usable(arguments: dict[str, Any]) -> dict[str, Any]:
    known = set(inspect.signature(Limiter).parameters)
    if strange := sorted(set(arguments) - known):
        raise UsageError(
            f"no argument is named {', '.join(strange)}: they are {', '.join(sorted(known))}"
        )
    agent = arguments.get("agent")
    if isinstance(agent, str):
        try:
            agent = import_string(agent)
        except ImportError as error:
            raise UsageError(f"RATECTL: agent {agent!r} cannot be imported: {error}") from error
    return {**arguments, "agent": agent}


def _templates() -> Iterator[str]:
    """Yield the templates of all routes. The routes are imported when the first is wanted."""
    yield from templates_in(get_resolver().url_patterns)
