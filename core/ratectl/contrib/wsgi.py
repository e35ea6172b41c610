"""Rate limits for WSGI applications: Flask, Django, Bottle, Pyramid, and others.

app = RateLimit(app, agent=agent, scope="/shop", attributes={"tenant": header("x-tenant")})
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from ratectl.contrib.web.limiter import Limiter
from ratectl.contrib.web.request import HttpRequest, first_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from ratectl.agent import Agent
    from ratectl.contrib.web.answers import Headers
    from ratectl.contrib.web.limiter import Asked

__all__ = ["RateLimit", "WsgiRequest", "answer", "escaped", "put_headers"]

_ASCII: Final = bytes(range(128))

_PUT: Final = "_ratectl_headers"
"""Attribute of a response: the headers that ``put_headers`` added."""

_UNPREFIXED = ("CONTENT_TYPE", "CONTENT_LENGTH")
"""Headers that WSGI names without ``HTTP_``."""


class RateLimit:
    """Limits requests. Slots are released when the server closes the response.

    The decision is in ``environ["ratectl.decision"]``, to settle it for example.
    """

    def __init__(self, app: WSGIApplication, agent: Agent, scope: Any = "/", **arguments: Any):
        """``scope`` and ``arguments``: see ``ratectl.contrib.web.limiter.Limiter``. WSGI knows no
        routes, so a scope ``by_route`` is always its prefix.

        :raises UsageError: an argument cannot be used.
        """
        self.app = app
        self._limiter = Limiter(agent, scope, **arguments)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        request = WsgiRequest(environ)
        asked = self._limiter.ask(request)
        if asked is None:
            return self.app(environ, start_response)
        if not asked.decision.allowed:
            return self._refuse(request, asked, start_response)
        environ["ratectl.decision"] = asked.decision
        if self._limiter.headers == "all":
            start_response = _with_headers(start_response, self._limiter.headers_for(asked))
        return answer(self.app, environ, start_response, asked.decision.release)

    def _refuse(
        self, request: WsgiRequest, asked: Asked, start_response: StartResponse
    ) -> Iterable[bytes]:
        custom = self._limiter.custom(request, asked, _application)
        if custom is not None:
            headers = self._limiter.headers_for(asked)
            return custom(request.native, _with_headers(start_response, headers))
        refusal = self._limiter.refusal(asked)
        status = HTTPStatus(refusal.status)
        start_response(f"{status.value} {status.phrase}", refusal.headers)
        return [] if request.method == "HEAD" else [refusal.body]


class WsgiRequest(HttpRequest):
    """A request of WSGI; ``native`` is its environ, if no framework has an object of its own.

    A header that was sent several times has one value here: servers join them.
    """

    __slots__ = ("_environ", "native")

    def __init__(self, environ: Mapping[str, Any], native: Any = None) -> None:
        self._environ = environ
        self.native = environ if native is None else native

    @property
    def method(self) -> str:
        return str(self._environ["REQUEST_METHOD"])

    @property
    def path(self) -> str:
        path = self._environ.get("SCRIPT_NAME", "") + self._environ.get("PATH_INFO", "")
        return str(path).encode("latin-1", "replace").decode("utf-8", "replace")

    @property
    def route(self) -> str | None:
        return None

    @property
    def peer(self) -> str | None:
        return self._environ.get("REMOTE_ADDR") or None

    def headers(self, name: str) -> list[str]:
        key = name.upper().replace("-", "_")
        value = self._environ.get(key if key in _UNPREFIXED else f"HTTP_{key}")
        return [] if value is None else [value]

    def query(self, name: str) -> str | None:
        text = self._environ.get("QUERY_STRING", "")
        return first_of(escaped(text.encode("latin-1", "replace")), name)

    def path_parameter(self, name: str) -> object | None:  # noqa: ARG002
        return None


def escaped(query: bytes) -> str:
    """Return a query string with escapes for all bytes beyond ASCII: ``%C3%A9`` is also a raw é."""
    return quote(query, safe=_ASCII)


def put_headers(response: Any, headers: Headers) -> None:
    """Add headers to a response of a framework, unless it has its own.

    A response object may serve several requests: what was added for another one is replaced.
    """
    for name, value in getattr(response, _PUT, ()):
        if response.headers.get(name) == value:
            del response.headers[name]
    added = [pair for pair in headers if pair[0] not in response.headers]
    for name, value in added:
        response.headers.setdefault(name, value)
    setattr(response, _PUT, added)


def answer(
    app: WSGIApplication,
    environ: WSGIEnvironment,
    start_response: StartResponse,
    release: Callable[[], object],
) -> Iterable[bytes]:
    """Return the response of an application. ``release`` is called when it is over."""
    try:
        body = app(environ, start_response)
    except BaseException:
        release()
        raise
    return _Body(body, release)


class _Body:
    """The body of a response, whose close also releases what the request held."""

    def __init__(self, body: Iterable[bytes], release: Callable[[], object]) -> None:
        self._body = body
        self._release = release

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._body)

    def close(self) -> None:
        """Called by the server at the end, also if the client went away or the body raised."""
        try:
            close = getattr(self._body, "close", None)
            if close is not None:
                close()
        finally:
            self._release()


def _with_headers(start_response: StartResponse, headers: Headers) -> StartResponse:
    """Return a ``start_response`` that adds headers, unless the response has them already."""

    def starting(status: str, own: Headers, *error: Any) -> Any:
        names = {name.lower() for name, _ in own}
        more = [pair for pair in headers if pair[0].lower() not in names]
        return start_response(status, [*own, *more], *error)

    return starting if headers else start_response


def _application(answer: Any) -> WSGIApplication:
    if not callable(answer):
        raise TypeError(f"on_refused returns a WSGI application, not {answer!r}")
    return answer  # type: ignore[no-any-return]
