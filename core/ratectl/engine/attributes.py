"""Attributes of a request, read without foreign code while an engine is being changed.

Only a plain ``dict`` of plain texts is read without foreign code. Mappings, values that are no
texts, and names with their own comparison may run code. While an engine is being changed, no such
code may run: these values are read before, one name at a time, and kept as texts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

from ratectl.engine.buckets.counters import exact_text
from ratectl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Attributes", "Reader", "readable", "with_all_read"]

T = TypeVar("T")

Attributes = Any
"""A plain dict of plain texts, or a ``Reader``."""

_TEXT: Final = {str}
_TEXT_OR_NONE: Final = {str, type(None)}


class _Unread(Exception):
    """Raised when an attribute is needed that has not been read yet."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class Reader:
    """Attributes of one request, each read once, as texts. Not thread-safe."""

    __slots__ = ("_source", "_texts", "closed")

    def __init__(self, source: Mapping[str, object]) -> None:
        self._source = source
        self._texts: dict[str, str | None] = {}
        self.closed = False
        """True while no further attribute may be read."""

    def get(self, name: str) -> str | None:
        """Return the text of an attribute; None for an absent one.

        :raises _Unread: it was not read before, and the reader is closed.
        """
        if name not in self._texts:
            if self.closed:
                raise _Unread(name)
            self.read(name)
        return self._texts[name]

    def let_go(self) -> None:
        """Keep the texts that were read, and not the mapping: all others are absent from now on."""
        self._source = {}

    def read(self, name: str) -> None:
        """Read an attribute. May run code of the mapping and of the value."""
        try:
            value = self._source.get(name)
            text = None if value is None else exact_text(value)
        except UsageError as error:  # from the mapping: not a usage error of the engine
            raise RuntimeError(f"reading attribute {name!r} failed") from error
        self._texts[name] = text


def readable(attributes: Mapping[str, object] | Reader) -> Attributes:
    """Return attributes that can be read without foreign code."""
    if type(attributes) is Reader:
        return attributes
    if type(attributes) is dict:
        names, values = set(map(type, list(attributes))), set(map(type, list(attributes.values())))
        if names <= _TEXT and values <= _TEXT_OR_NONE:
            return attributes
    return Reader(attributes)  # type: ignore[arg-type]


def with_all_read(attributes: Attributes, work: Callable[[], T]) -> T:
    """Return the result of ``work``, after reading the attributes that it needs."""
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
