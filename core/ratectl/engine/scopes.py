"""Scopes of requests, cut to the part that a policy can declare.

A request may name any text as its scope, for example the path of a URL. Declared scopes have at
most ``MAX_DEPTH`` segments and ``MAX_CHARS`` characters. A longer scope is governed by its nearest
declared ancestor, as any scope is; its ancestors up to these bounds are all that can be declared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["MAX_CHARS", "MAX_DEPTH", "exact_scope", "lineage"]

MAX_DEPTH: Final = 64
"""Maximum number of segments of a declared scope."""

MAX_CHARS: Final = 1024
"""Maximum length of a declared scope, in characters."""


def exact_scope(scope: object) -> str:
    """Return a scope as exact ``str``, or its nearest ancestor of at most ``MAX_CHARS`` characters.

    :raises TypeError: it is no text.
    """
    if not issubclass(type(scope), str):  # not `isinstance`: it trusts `__class__`
        raise TypeError(f"a scope is a text, not a {type(scope).__name__}")
    # Methods of `str`: a subclass may have its own. A copy of the whole text may be megabytes.
    text = str.__getitem__(scope, slice(MAX_CHARS + 1))  # type: ignore[index]
    return text if len(text) <= MAX_CHARS else text.rpartition("/")[0] or "/"


def lineage(scope: str) -> Iterator[str]:
    """Yield the ancestors of a scope that can be declared, and itself, deepest first, up to ``/``.

    Takes time in proportion to ``MAX_CHARS``, however long the scope is.
    """
    scope = exact_scope(scope)
    ends = [at for at, char in enumerate(scope) if char == "/"][: MAX_DEPTH + 1]
    if len(ends) > MAX_DEPTH:
        scope = scope[: ends.pop()]
    if scope != "/":
        yield scope
    for end in reversed(ends[1:]):
        yield scope[:end]
    yield "/"
