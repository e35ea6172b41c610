"""The arguments of all adapters, and the decision about one request."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

from ratectl.agent.call_limiter import functions_in, refuse_coroutines
from ratectl.agent.in_force import counted_here
from ratectl.contrib.web.answers import PROBLEM, body_of, headers_of, status_of
from ratectl.contrib.web.sources import (
    ByRoute,
    ClientIp,
    by_route,
    client_ip,
    header,
    path_parameter,
    query,
)
from ratectl.engine.cost import checked_cost
from ratectl.errors import UsageError

if TYPE_CHECKING:
    from ratectl.agent import Agent
    from ratectl.contrib.web.answers import Headers
    from ratectl.contrib.web.request import HttpRequest
    from ratectl.contrib.web.sources import Source
    from ratectl.engine.cost import Cost
    from ratectl.engine.decision import Decision

__all__ = ["Asked", "Limiter", "Refusal", "ShowHeaders"]

ShowHeaders = Literal["refused", "all", "none"]
"""Which responses tell clients about their limits."""

log: Final = logging.getLogger("ratectl.contrib")

_Response = TypeVar("_Response")


@dataclass(frozen=True, slots=True)
class Asked:
    """A decision, and what it was asked for."""

    decision: Decision
    scope: str
    attributes: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Refusal:
    """The answer to a refused request."""

    status: int
    headers: Headers
    body: bytes


class Limiter:
    """Asks an agent about requests, as the arguments of an adapter say. Thread-safe."""

    def __init__(
        self,
        agent: Agent,
        scope: str | Callable[[HttpRequest], str],
        attributes: Mapping[str, Source | ClientIp]
        | Callable[[HttpRequest], Mapping[str, Any]]
        | None = None,
        cost: Cost | Callable[[HttpRequest], Cost] = 1,
        exempt: Collection[str] | Callable[[HttpRequest], bool] = (),
        headers: ShowHeaders = "refused",
        legacy_headers: bool = False,
        on_refused: Callable[..., Any] | None = None,
        uncovered: Literal["log", "raise", "ignore"] = "log",
    ) -> None:
        """``scope``: a text, or a function such as ``by_route("/shop")``. ``attributes``: a source
        for each (``header``, ``query``, ``path_parameter``, ``client_ip`` or a function), or one
        function that returns all; None is left out. ``cost``: that of each request, or a function.
        ``exempt``: paths or templates of routes that are not limited, or a function. ``headers``:
        which responses have ``RateLimit`` headers. ``on_refused``: a function of the request and
        the decision that returns the response; None is the usual one. ``uncovered``: what happens
        at start with routes that no policy covers.

        :raises UsageError: an argument cannot be used.
        """
        _check_arguments(agent, scope, attributes, exempt, headers, on_refused, uncovered)
        _check_functions(scope, attributes, cost, exempt)
        self.agent = agent
        self.headers = headers
        self.legacy_headers = legacy_headers
        self.on_refused = on_refused
        self.uncovered = uncovered
        self._by_route = scope if isinstance(scope, ByRoute) else None
        self._scope = scope if callable(scope) else lambda _: scope
        self._cost = cost if callable(cost) else _always(checked_cost(cost))
        self._exempt = exempt if callable(exempt) else _is_among(frozenset(exempt))
        self._all = attributes if callable(attributes) else None
        self._each = [] if callable(attributes) else list((attributes or {}).items())
        if text := counted_here(agent._following.enforcement.scopes):  # noqa: SLF001
            log.info("%s", text)

    def ask(self, request: HttpRequest) -> Asked | None:
        """Decide a request; None if it is exempt. A failure is answered by ``on_error``."""
        scope = "/"
        try:
            if self._exempt(request):
                return None
            scope = self._scope(request)
            attributes = self._attributes(scope, request)
            cost = self._cost(request)
            check = self.agent.check_blocking if self.agent.asks_server else self.agent.check
            return Asked(check(scope, attributes, cost), scope, attributes)
        except Exception as error:  # noqa: BLE001  a function of the user's may raise anything
            return Asked(self.agent.failed(scope, error), scope, {})

    async def ask_in_task(self, request: HttpRequest) -> Asked | None:
        """Decide a request like ``ask``; a server may be asked, without blocking the loop."""
        if not self.agent.asks_server:
            return self.ask(request)
        scope = "/"
        try:
            if self._exempt(request):
                return None
            scope = self._scope(request)
            attributes = self._attributes(scope, request)
            decision = await self.agent.acheck(scope, attributes, self._cost(request))
            return Asked(decision, scope, attributes)
        except Exception as error:  # noqa: BLE001  a function of the user's may raise anything
            return Asked(self.agent.failed(scope, error), scope, {})

    def _attributes(self, scope: str, request: HttpRequest) -> Mapping[str, Any]:
        if self._all is not None:
            return self._all(request)
        attributes: dict[str, Any] = {}
        for name, source in self._each:
            if isinstance(source, ClientIp):
                value: object = source.of(self.agent, scope, request)
            else:
                value = source(request)
            if value is not None:
                attributes[name] = value
        return attributes

    def headers_for(self, asked: Asked) -> Headers:
        """Return the headers for the response to a request."""
        wanted = self.headers == "all" or (self.headers == "refused" and not asked.decision.allowed)
        if not wanted:
            return []
        try:
            return headers_of(
                asked.decision,
                self.agent,
                asked.scope,
                asked.attributes,
                legacy=self.legacy_headers,
            )
        except Exception:  # an attribute may raise when it is read once more
            log.exception("the headers of a response failed")
            return []

    def refusal(self, asked: Asked) -> Refusal:
        """Return the usual answer to a refused request."""
        body = body_of(asked.decision)
        headers = [
            *self.headers_for(asked),
            ("Content-Type", PROBLEM),
            ("Content-Length", str(len(body))),
        ]
        return Refusal(status_of(asked.decision), headers, body)

    def custom(
        self, request: HttpRequest, asked: Asked, made: Callable[[Any], _Response]
    ) -> _Response | None:
        """Return the response of ``on_refused``; None for the usual one.

        ``made`` turns what the user's function returned into a response, or raises.
        """
        if self.on_refused is None:
            return None
        try:
            answer = self.on_refused(request, asked.decision)
            return None if answer is None else made(answer)
        except Exception:
            log.exception("on_refused failed, so the usual response is sent")
            return None

    def check_routes(self, templates: Iterable[str]) -> None:
        """Report the routes that no policy covers, once the agent has policies.

        :raises UsageError: there are some, and ``uncovered`` is ``raise``.
        """
        if self._by_route is None or self.uncovered == "ignore" or not self.agent.generation:
            return
        scopes = {template: self._by_route.of(template) for template in templates}
        bare = sorted(each for each in scopes if self.agent.limits(scopes[each]) is None)
        if not bare:
            return
        message = f"no policy covers these routes, so they are not limited: {', '.join(bare)}"
        if self.uncovered == "raise":
            raise UsageError(message)
        log.warning("%s", message)


def _always(cost: Cost) -> Callable[[HttpRequest], Cost]:
    return lambda _: cost


def _is_among(paths: frozenset[str]) -> Callable[[HttpRequest], bool]:
    if not paths:
        return lambda _: False
    return lambda request: request.path in paths or request.route in paths


def _check_arguments(
    agent: object,
    scope: object,
    attributes: object,
    exempt: object,
    headers: object,
    on_refused: object,
    uncovered: object,
) -> None:
    if not callable(getattr(agent, "check", None)):
        raise UsageError(f"agent is a ratectl.Agent, not {agent!r}")
    if not callable(scope) and not (isinstance(scope, str) and scope.startswith("/")):
        raise UsageError(f"scope is a text like /shop, or a function of a request, not {scope!r}")
    if not (attributes is None or callable(attributes)):
        if not isinstance(attributes, Mapping):
            raise UsageError(
                "attributes is a mapping like {'tenant': header('x-tenant')}, or a function of a "
                f"request, not {attributes!r}"
            )
        for name, source in attributes.items():
            if not callable(source) and not isinstance(source, ClientIp):
                raise UsageError(
                    f"attributes: the source of {name!r} is a function of a request, such as "
                    f"header('x-tenant'), not {source!r}"
                )
    if isinstance(exempt, str) or not (callable(exempt) or isinstance(exempt, Collection)):
        raise UsageError(f"exempt is a list of paths, or a function of a request, not {exempt!r}")
    if headers not in ("refused", "all", "none"):
        raise UsageError(f"headers is 'refused', 'all' or 'none', not {headers!r}")
    if on_refused is not None and not callable(on_refused):
        raise UsageError(
            f"on_refused is a function of a request and a decision, not {on_refused!r}"
        )
    if uncovered not in ("log", "raise", "ignore"):
        raise UsageError(f"uncovered is 'log', 'raise' or 'ignore', not {uncovered!r}")


def _check_functions(scope: object, attributes: object, cost: object, exempt: object) -> None:
    """Refuse functions that would fail, or let pass, at every request.

    :raises UsageError: one is a coroutine, or makes a source and is none.
    """
    given = functions_in(scope, attributes, cost, exempt)
    for name, function in given.items():
        if function in (by_route, client_ip, header, path_parameter, query):
            made = getattr(function, "__name__", "")
            raise UsageError(f"{name} is {made}, which makes a function: write {made}(…)")
    refuse_coroutines(given)
