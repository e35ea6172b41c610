"""Rate limits for Flask.

RateLimit(app, agent=agent, scope=by_route("/shop"), attributes={"tenant": header("x-tenant")})
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

import flask

from ratectl.contrib.web.limiter import Limiter
from ratectl.contrib.wsgi import WsgiRequest, answer, put_headers
from ratectl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from flask.typing import ResponseReturnValue

    from ratectl.agent import Agent
    from ratectl.contrib.web.limiter import Asked

__all__ = ["FlaskRequest", "RateLimit"]

log: Final = logging.getLogger("ratectl.contrib")

_ASKED: Final = "ratectl.flask"
"""Key in an environ of what was asked for the request: a list, which copies of an environ share."""


class RateLimit:
    """Limits the requests of Flask applications, before their views and after their routing.

    The decision is in ``flask.g.ratectl``, to settle it for example. Slots are released when the
    server closes the response: ``call_on_close`` of a response is not called for files, nor if
    another response takes its place, and teardown comes before a stream.
    """

    def __init__(
        self, app: flask.Flask | None = None, *, agent: Agent, scope: Any = "/", **arguments: Any
    ) -> None:
        """``scope`` and ``arguments``: see ``ratectl.contrib.web.limiter.Limiter``. ``app``: left
        out for ``init_app`` later.

        :raises UsageError: an argument cannot be used.
        """
        self._limiter = Limiter(agent, scope, **arguments)
        if app is not None:
            self.init_app(app)

    def init_app(self, app: flask.Flask) -> None:
        """Limit the requests of an application, once.

        Routes that no policy covers are reported at its first request. With ``uncovered="raise"``
        those that it has now raise here, so add the routes first.

        :raises UsageError: the application is limited already, or has such a route.
        """
        if "ratectl" in app.extensions:
            raise UsageError("this application has a RateLimit already: call init_app once")
        if self._limiter.uncovered == "raise":
            self._limiter.check_routes(_templates(app))
        app.extensions["ratectl"] = self
        app.before_request(self._ask)
        app.after_request(self._add_headers)
        app.wsgi_app = _Edge(app, self._limiter)  # type: ignore[method-assign]

    def _ask(self) -> ResponseReturnValue | None:
        request = FlaskRequest(flask.request)
        asked = self._limiter.ask(request)
        flask.g.ratectl = None if asked is None else asked.decision
        if asked is None:
            return None
        flask.request.environ.setdefault(_ASKED, []).append(asked)
        return None if asked.decision.allowed else self._refusal(request, asked)

    def _refusal(self, request: FlaskRequest, asked: Asked) -> flask.Response:
        custom = self._limiter.custom(request, asked, flask.make_response)
        if custom is not None:
            return custom
        refusal = self._limiter.refusal(asked)
        response = flask.current_app.response_class
        return response(refusal.body, refusal.status, refusal.headers)

    def _add_headers(self, response: flask.Response) -> flask.Response:
        all_asked = flask.request.environ.get(_ASKED, ())
        put_headers(
            response, [pair for each in all_asked for pair in self._limiter.headers_for(each)]
        )
        return response


class FlaskRequest(WsgiRequest):
    """A request of Flask; ``native`` is ``flask.request``."""

    __slots__ = ()

    def __init__(self, request: flask.Request) -> None:
        super().__init__(request.environ, request)

    @property
    def route(self) -> str | None:
        rule = self.native.url_rule
        return None if rule is None else rule.rule

    def query(self, name: str) -> str | None:
        try:
            return self.native.args.get(name)  # type: ignore[no-any-return]
        except UnicodeDecodeError:  # of another field, maybe: it is no way around a limit
            return super().query(name)

    def path_parameter(self, name: str) -> object | None:
        return (self.native.view_args or {}).get(name)


class _Edge:
    """The outermost layer of an application: it sees the end of each response."""

    def __init__(self, app: flask.Flask, limiter: Limiter) -> None:
        self._app = app
        self._inner: WSGIApplication = app.wsgi_app
        self._limiter = limiter
        self._reported = False

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if not self._reported and self._limiter.agent.generation:
            self._reported = True
            self._report()
        asked: list[Asked] = []
        environ[_ASKED] = asked

        def release() -> None:
            for each in asked:
                each.decision.release()

        return answer(self._inner, environ, start_response, release)

    def _report(self) -> None:
        try:
            self._limiter.check_routes(_templates(self._app))
        except UsageError as error:  # too late to raise: a request waits
            log.error("%s", error)  # noqa: TRY400


def _templates(app: flask.Flask) -> Iterator[str]:
    return (rule.rule for rule in app.url_map.iter_rules())
