"""Attributes of a request, as the engine reads them where nobody else's code may run.

Whatever is not a plain ``dict`` of plain texts may run code of its own when it is read: mappings,
values that are no texts, names that compare themselves. While an engine is being changed, nothing
of that may happen: such values are read before, one name at a time, and kept as texts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

from ratectl.engine.buckets.counters import exact_text
from ratectl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Attributes", "Reader", "exact_scope", "readable", "with_all_read"]

T = TypeVar("T")

Attributes = Any
"""A plain dict of plain texts, or a ``Reader``."""

_TEXT: Final = {str}
_TEXT_OR_NONE: Final = {str, type(None)}


class _Unread(Exception):
    """Raised for an attribute that nobody has read yet."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class Reader:
    """Attributes of one request, each read once, as texts. For one thread at a time."""

    __slots__ = ("_source", "_texts", "closed")

    def __init__(self, source: Mapping[str, object]) -> None:
        self._source = source
        self._texts: dict[str, str | None] = {}
        self.closed = False
        """True while no more may be read."""

    def get(self, name: str) -> str | None:
        """Return the text of an attribute; None for an absent one.

        :raises _Unread: it was not read before, and may not be now.
        """
        if name not in self._texts:
            if self.closed:
                raise _Unread(name)
            self.read(name)
        return self._texts[name]

    def read(self, name: str) -> None:
        """Read an attribute, which may run code of the mapping and of the value."""
        try:
            value = self._source.get(name)
            text = None if value is None else exact_text(value)
        except UsageError as error:  # not ours: the caller of the engine has made no mistake
            raise RuntimeError(f"reading attribute {name!r} failed") from error
        self._texts[name] = text


def exact_scope(scope: object) -> str:
    """Return a scope as a plain text.

    :raises TypeError: it is no text.
    """
    if not issubclass(type(scope), str):
        raise TypeError(f"a scope is a text, not a {type(scope).__name__}")
    return exact_text(scope)


def readable(attributes: Mapping[str, object] | Reader) -> Attributes:
    """Return attributes that can be read without running anybody's code."""
    if type(attributes) is Reader:
        return attributes
    if type(attributes) is dict:
        names, values = set(map(type, list(attributes))), set(map(type, list(attributes.values())))
        if names <= _TEXT and values <= _TEXT_OR_NONE:
            return attributes
    return Reader(attributes)  # type: ignore[arg-type]


def with_all_read(attributes: Attributes, work: Callable[[], T]) -> T:
    """Return what ``work`` returns, once the attributes that it asks for have been read."""
    if type(attributes) is not Reader:
        return work()
    while True:
        attributes.closed = True
        try:
            return work()
        except _Unread as missing:
            attributes.closed = False
            attributes.read(missing.name)
        finally:
            attributes.closed = False
