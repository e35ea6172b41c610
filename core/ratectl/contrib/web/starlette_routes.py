"""Routes of applications that have them in ``routes``, as Starlette and FastAPI do."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    Found = tuple[str, Mapping[str, object]]
    """A template, and the values of its parameters."""

__all__ = ["Routes", "templates_in"]

_MOST_KEPT: Final = 1_024
_LONGEST_KEPT: Final = 256
"""Characters of a path."""

_UNKNOWN: Final = "?"
"""No template: those begin with a slash, or are empty."""

log: Final = logging.getLogger("ratectl.contrib")


class Routes:
    """Finds the routes of requests. It keeps templates of the latest paths of one application."""

    def __init__(self, app: object = None) -> None:
        """``app``: has the routes of requests whose scope names no application."""
        self._app = app
        self._kept = _Kept(None, 0, {})
        self._told = False

    def template(self, scope: Mapping[str, Any]) -> str | None:
        """Return the template of the route that takes a request; None if none does."""
        written = scope.get("path_template")  # Litestar routes before its middleware
        if written is not None:
            return str(written)
        scope = _outermost(scope)
        app, kept = self._app_of(scope), self._kept
        key = scope["type"], scope.get("method", ""), scope.get("root_path", ""), scope["path"]
        if kept.app is app and kept.templates is not None:
            known = kept.templates.get(key, _UNKNOWN)
            if known is not _UNKNOWN:
                return known
        routes = self.of(scope)
        found = match(routes, scope)
        template = found[0] if found else None
        if kept.app is not app or kept.size != len(routes):
            kept = self._kept = _Kept(app, len(routes), {} if _by_path_alone(routes) else None)
        if kept.templates is not None and len(scope["path"]) <= _LONGEST_KEPT:
            if len(kept.templates) >= _MOST_KEPT:
                kept.templates.clear()
            kept.templates[key] = template
        return template

    def parameter(self, scope: Mapping[str, Any], name: str) -> object | None:
        """Return a parameter in the path of a request; None if its route has none of this name."""
        known = scope.get("path_params")
        if known and name in known:
            return known[name]  # type: ignore[no-any-return]
        found = match(self.of(scope), _outermost(scope))
        return found[1].get(name) if found else None

    def of(self, scope: Mapping[str, Any]) -> list[Any]:
        """Return the routes of the outermost application that a request is for."""
        app = self._app_of(scope)
        routes = [route for route in getattr(app, "routes", ()) if hasattr(route, "matches")]
        if not routes and not self._told:
            self._told = True
            log.warning("%r has no routes that are known here: scopes are not by route", app)
        return routes

    def _app_of(self, scope: Mapping[str, Any]) -> Any:
        return scope.get("router") or scope.get("app") or self._app


class _Kept(NamedTuple):
    """Templates of an application with so many routes."""

    app: Any
    size: int
    templates: dict[tuple[str, str, str, str], str | None] | None
    """None: its routes look at more than the path."""


def _outermost(scope: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the scope of a request as the outermost application got it: not below a mount."""
    if "app_root_path" not in scope:
        return scope
    return {**scope, "root_path": scope["app_root_path"]}


def _by_path_alone(routes: Iterable[Any]) -> bool:
    """Return True if these routes look at nothing but type, method and path of a request."""
    for route in _flat(routes):
        matching = type(route).matches
        known = matching.__module__ in ("starlette.routing", "fastapi.routing")
        if not known or type(route).__name__ == "Host":
            return False
        if not _by_path_alone(getattr(route, "routes", None) or ()):
            return False
    return True


def match(routes: Iterable[Any], scope: Mapping[str, Any]) -> Found | None:
    """Return the route that takes a request: the first that fits, or that takes other methods."""
    partial: Found | None = None
    for route in _flat(routes):
        try:
            fits, child = route.matches(scope)
        except Exception:  # noqa: BLE001, S112  such as a number of too many digits
            continue
        if fits.value == 0:
            continue
        below = {**scope, **child}
        found: Found = getattr(route, "path", ""), below.get("path_params", {})
        inner = getattr(route, "routes", None)
        if inner:
            deeper = match(inner, below)
            if deeper is not None:
                found = found[0] + deeper[0], deeper[1]
        if fits.value > 1:
            return found
        partial = partial or found
    return partial


def _flat(routes: Iterable[Any]) -> Iterator[Any]:
    """Yield routes with those of included routers, which FastAPI keeps apart."""
    for route in routes:
        included = getattr(route, "effective_route_contexts", None)
        if included is None:
            yield route
        else:
            for context in included():
                yield getattr(context, "starlette_route", None) or context


def templates_in(routes: Iterable[Any], prefix: str = "") -> Iterator[str]:
    """Yield the templates of all routes."""
    for route in _flat(routes):
        path = prefix + getattr(route, "path", "")
        inner = getattr(route, "routes", None)
        if inner:
            yield from templates_in(inner, path)
        else:
            yield path
