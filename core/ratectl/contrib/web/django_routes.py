"""Routes of Django: templates in the words of ``path``, from those of ``re_path`` too."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from django.urls import get_resolver
from django.urls.resolvers import RegexPattern
from django.utils.translation import get_language

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["plain", "template_of", "templates_in"]

_REGEX: Final = re.compile(r"[\^$\\(]")
_TOKEN: Final = re.compile(
    r"\\(?P<escaped>\W)|\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\{\d+,?\d*\}"
    r"|(?P<opened>\((?:\?P<(?P<name>\w+)>|(?P<look>\?<?[=!])|(?P<silent>\?:?))?)|(?P<closed>\))"
    r"|[\^$?*+]|(?P<plain>.)"
)
"""A piece of a regular expression."""

_GROUP: Final = re.compile(r"<\w+>")
_NAMED_GROUP: Final = re.compile(r"<(?!var>)\w+>")


def template_of(request: Any) -> str | None:
    """Return the template of the route that takes a request of Django; None if none does."""
    match = request.resolver_match
    if match is None:
        return None
    known = _known(get_resolver(getattr(request, "urlconf", None)), get_language())
    return known.get(match.route) or plain(match.route)


@lru_cache(maxsize=64)
def _known(resolver: Any, language: str | None) -> dict[str, str]:  # noqa: ARG001
    """Return the templates of all routes, by their texts. These may differ with the language."""
    return dict(_routes_in(resolver.url_patterns))


def templates_in(patterns: Iterable[Any]) -> Iterator[str]:
    """Yield the templates of all routes below some patterns of URLs."""
    return (template for _, template in _routes_in(patterns))


def _routes_in(
    patterns: Iterable[Any], before: str = "", template: str = ""
) -> Iterator[tuple[str, str]]:
    """Yield the routes below some patterns: their texts in a ``ResolverMatch``, and templates."""
    for pattern in patterns:
        own = str(pattern.pattern)
        route = before + (own.removeprefix("^") if before else own)
        words = template + (_of_regex(own) if isinstance(pattern.pattern, RegexPattern) else own)
        inner = getattr(pattern, "url_patterns", None)
        if inner is None:
            yield route, words
        else:
            yield from _routes_in(inner, route, words)


@lru_cache(maxsize=1_024)
def plain(route: str) -> str:
    """Return a route as ``path`` writes it, if nothing but its text is known."""
    return _of_regex(route) if _REGEX.search(route) else route


def _of_regex(route: str) -> str:
    """Return a route of ``re_path`` as ``path`` writes it.

    ``^items/(?P<id>[0-9]+)/$`` is ``items/<id>/``.
    """
    opened: list[re.Match[str]] = []
    parts: list[list[str]] = [[]]
    for token in _TOKEN.finditer(route):
        if token["opened"]:
            opened.append(token)
            parts.append([])
        elif token["closed"]:
            if opened:
                words = _of_group(opened.pop(), "".join(parts.pop()))
                parts[-1].append(words)
        else:
            parts[-1].append(token["escaped"] or token["plain"] or "")
    return "".join(parts[0])


def _of_group(opened: re.Match[str], inside: str) -> str:
    """Return the words for a group: its parameter, or what is inside if that has parameters."""
    if opened["name"]:
        return f"<{opened['name']}>"
    if opened["look"]:
        return ""
    if opened["silent"]:
        return inside if _GROUP.search(inside) else ""
    return inside if _NAMED_GROUP.search(inside) else "<var>"
