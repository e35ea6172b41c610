"""Routes of Django: templates in the words of ``path``, from those of ``re_path`` too."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["plain", "templates_in"]

_REGEX: Final = re.compile(r"[\^$\\(]")
_TOKEN: Final = re.compile(
    r"\\(?P<escaped>\W)|\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\{\d+,?\d*\}"
    r"|(?P<opened>\((?:\?P<(?P<name>\w+)>|(?P<silent>\?))?)|(?P<closed>\))|[\^$?*+]|(?P<plain>.)"
)
"""A piece of a regular expression."""


def templates_in(patterns: Iterable[Any], before: str = "") -> Iterator[str]:
    """Yield the templates of all routes below some patterns of URLs."""
    for pattern in patterns:
        route = before + str(pattern.pattern)
        inner = getattr(pattern, "url_patterns", None)
        if inner is None:
            yield plain(route)
        else:
            yield from templates_in(inner, route)


@lru_cache(maxsize=1_024)
def plain(route: str) -> str:
    """Return a route of ``re_path`` as ``path`` writes it, and others as they are.

    ``^items/(?P<id>[0-9]+)/$`` is ``items/<id>/``.
    """
    if not _REGEX.search(route):
        return route
    parts, depth = [], 0
    for token in _TOKEN.finditer(route):
        if token["opened"]:
            if not depth and not token["silent"]:
                parts.append(f"<{token['name'] or 'var'}>")
            depth += 1
        elif token["closed"]:
            depth -= 1
        elif not depth:
            parts.append(token["escaped"] or token["plain"] or "")
    return "".join(parts)
