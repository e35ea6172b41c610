"""Decoding of many records, where one that cannot be read must not hide the others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

from ratectl.errors import BundleError
from ratectl.records.base import Record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["readable"]

R = TypeVar("R", bound=Record)


class _Item(Protocol):
    """An item of a store."""

    @property
    def key(self) -> str: ...

    @property
    def value(self) -> bytes: ...


def readable(
    kind: type[R], items: Iterable[_Item], warn: Callable[[str], None] | None = None
) -> Iterator[R]:
    """Yield the records of these items; ``warn`` gets a message for each that cannot be read."""
    for item in items:
        try:
            yield kind.decode(item.value)
        except BundleError as error:
            if warn is not None:
                warn(f"{item.key} is left out: {error}")
