"""Sources of scopes and attributes of a request."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from ratectl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ratectl.agent import Agent
    from ratectl.agent.client_address import Header
    from ratectl.contrib.web.request import HttpRequest

    Source = Callable[[HttpRequest], object | None]
    """Returns the value of an attribute; None: the request lacks it."""

__all__ = ["ByRoute", "ClientIp", "by_route", "client_ip", "header", "path_parameter", "query"]

_PARAMETER: Final = re.compile(r"\{(\w+)(?::[^{}]*)?\}|<(?:[^<>:(]*(?:\(.*?\))?:)?(\w+)>")
"""A parameter in a template: ``{id}``, ``{id:int}``, ``<id>``, ``<int:id>``, ``<any(a,b):id>``."""

_STRANGE: Final = re.compile(r"[^A-Za-z0-9._-]+")
"""Characters that scopes cannot have."""

_MOST_KEPT: Final = 1_024


def header(name: str) -> Source:
    """Return a source of an attribute: the value of a header. Clients choose it."""
    _name(name, "a header")
    return lambda request: request.header(name)


def query(name: str) -> Source:
    """Return a source of an attribute: a parameter of the query. Clients choose it."""
    _name(name, "a parameter")
    return lambda request: request.query(name)


def path_parameter(name: str) -> Source:
    """Return a source of an attribute: a parameter of the route, such as ``id`` in ``/items/{id}``.

    Routes that have no such parameter lack the attribute.
    """
    _name(name, "a parameter")
    return lambda request: request.path_parameter(name)


class ClientIp:
    """The address of the client; see ``client_ip``."""

    def __init__(self, name: Header) -> None:
        self.name = name

    def of(self, agent: Agent, scope: str, request: HttpRequest) -> str | None:
        """Return the address, by the ``trusted_proxies`` in force at a scope."""
        return agent.client_ip(scope, request.peer, request.headers(self.name), header=self.name)


def client_ip(header: Header = "X-Forwarded-For") -> ClientIp:
    """Return a source of an attribute: the address of the client.

    The header counts only if ``trusted_proxies`` of the scope's policies trust the peer.

    :raises UsageError: it is another header.
    """
    if header not in ("X-Forwarded-For", "Forwarded"):
        raise UsageError(f"header is 'X-Forwarded-For' or 'Forwarded', not {header!r}")
    return ClientIp(header)


class ByRoute:
    """Scopes that are templates of routes; see ``by_route``."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix.rstrip("/")
        self._known: dict[str | None, str] = {}

    def __call__(self, request: HttpRequest) -> str:
        return self.of(request.route)

    def of(self, template: str | None) -> str:
        """Return the scope of a template; the prefix for a request that fits no route."""
        scope = self._known.get(template)
        if scope is None:
            if len(self._known) >= _MOST_KEPT:
                self._known.clear()
            plain = _PARAMETER.sub(lambda found: found[1] or found[2], template or "")
            segments = [_allowed(segment) for segment in plain.split("/") if segment]
            scope = self._known[template] = "/".join([self._prefix, *segments]) or "/"
        return scope


def _allowed(segment: str) -> str:
    """Return a segment of a template with a dash for characters that scopes cannot have."""
    cleaned = _STRANGE.sub("-", segment)
    if cleaned != segment:
        cleaned = cleaned.strip("-")
    return "-" if cleaned in ("", ".", "..") else cleaned


def by_route(prefix: str = "/") -> ByRoute:
    """Return a function that gives each request the scope of its route.

    ``/items/{id}`` below the prefix ``/shop`` is ``/shop/items/id``: parameters lose their braces,
    and all items share one scope, also with a route ``/items/id``. A dash stands for characters
    that scopes cannot have, but not at the ends of a segment: ``/(old)/{a}:{b}`` is
    ``/shop/old/a-b``. Requests that fit no route have the prefix as their scope.

    :raises UsageError: the prefix does not begin with a slash.
    """
    if not isinstance(prefix, str) or not prefix.startswith("/"):
        raise UsageError(f"a prefix of scopes begins with a slash, like /shop, not {prefix!r}")
    return ByRoute(prefix)


def _name(name: object, what: str) -> None:
    if not isinstance(name, str) or not name.strip() or not name.isascii():
        raise UsageError(f"{what} has a name, like 'x-tenant', not {name!r}")
