"""Scopes: ``/`` or a path such as ``/payments/checkout``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ratectl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

__all__ = [
    "MAX_DEPTH", "MAX_SCOPE_CHARS", "ancestry", "checked_scope", "nearest", "parent",
    "scope_problem", "sorted_scopes",
]  # fmt: skip

MAX_DEPTH = 64
"""Maximum number of segments of a scope."""

MAX_SCOPE_CHARS = 1024
"""Maximum length of a scope, in characters."""

_USUAL = re.compile(r"(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._-]+){1,64}", re.ASCII)
_FORM = "write / or a path like /payments/checkout"
_SEGMENT = re.compile(r"[A-Za-z0-9._-]+", re.ASCII)


def sorted_scopes(scopes: Iterable[str]) -> list[str]:
    """Return scopes so that everything below one follows it: ``/a``, ``/a/b``, ``/a-c``."""
    return sorted(scopes, key=lambda scope: scope.strip("/").split("/"))


def scope_problem(scope: str) -> str | None:
    """Return why a scope is not valid, as a sentence with a remedy; None if it is valid."""
    if scope == "/":
        return None
    if len(scope) > MAX_SCOPE_CHARS:
        return f"a scope has at most {MAX_SCOPE_CHARS} characters, this one has {len(scope)}"
    if not scope.startswith("/"):
        return f"a scope starts with '/': {_write(f'/{_path(scope)}')}"
    if scope.endswith("/"):
        return f"a scope does not end with '/': write {scope.rstrip('/') or '/'}"
    segments = scope[1:].split("/")
    if len(segments) > MAX_DEPTH:
        return f"a scope is at most {MAX_DEPTH} segments deep, this one has {len(segments)}"
    for segment in segments:
        if not segment:
            return "a scope has no empty segments: write single slashes"
        if segment in (".", ".."):
            return f"'{segment}' is not a scope segment: write the path out"
        if not _SEGMENT.fullmatch(segment):
            return _bad_segment(segment, segments)
    return None


def _bad_segment(segment: str, segments: Sequence[str]) -> str:
    problem = f"segment {segment!r} may hold only letters, digits, '.', '_' and '-'"
    if re.search(r"[*?{}<>:]", segment):
        before = "/" + "/".join(segments[: segments.index(segment)])
        problem = "a scope is not a pattern, and its limits also hold for the scopes below it"
        return f"{problem}: {_write(before)}"
    return f"{problem}: {_write('/' + '/'.join(segments))}"


def _path(text: str) -> str:
    """Return the path of a URL, or the text without slashes at its ends."""
    return re.sub(r"^[A-Za-z][A-Za-z0-9+.-]*://[^/]*", "", text).strip("/")


def _write(wanted: str) -> str:
    """Return a hint with a scope that is valid and as close to ``wanted`` as can be.

    What may hold a password, as a URL of a store does, is not repeated.
    """
    if re.search(r"[@:;=?#%]", wanted):
        return _FORM
    segments = [part for part in wanted.split("/") if part]
    cleaned = [re.sub(r"[^A-Za-z0-9._-]+", "-", part).strip("-") for part in segments]
    scope = "/" + "/".join(cleaned)
    return f"write {scope}" if _USUAL.fullmatch(scope) or not segments else _FORM


def checked_scope(text: str) -> str:
    """Return ``text`` if it is a scope.

    :raises UsageError: it is not.
    """
    problem = scope_problem(text)
    if problem:
        raise UsageError(f"{text!r} is not a scope: {problem}")
    return text


def parent(scope: str) -> str | None:
    """Return the scope one level up; None for ``/``."""
    if scope == "/":
        return None
    return scope.rpartition("/")[0] or "/"


def ancestry(scope: str) -> Iterator[str]:
    """Yield ``scope`` and its ancestors, deepest first, up to ``/``."""
    at: str | None = scope
    while at is not None:
        yield at
        at = parent(at)


def nearest(scope: str, declared: object) -> str | None:
    """Return the deepest of ``scope`` and its ancestors in the container ``declared``, or None."""
    return next((at for at in ancestry(scope) if at in declared), None)  # type: ignore[operator]
