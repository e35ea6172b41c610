"""Nodes: values of strict YAML with their places."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ratectl.diagnostics import Diagnostic

__all__ = ["BROKEN", "Broken", "Document", "Node", "Place", "Reading", "expanded"]

Place: TypeAlias = tuple[int, int, int]
"""Line, column and end column, from 1; the end is on the same line."""


class Broken:
    """Marker for a value that was refused; its problem has been reported."""

    __slots__ = ()


BROKEN: Final = Broken()

_NO_KEYS: Final[Mapping[str, Place]] = MappingProxyType({})
_NO_CHILDREN: Final[Mapping[str | int, Any]] = MappingProxyType({})


class Node:
    """Value with its place, and the nodes of its parts.

    ``place`` of a mapping is the place of its first key. ``keys`` has the places of the keys of a
    mapping.
    """

    __slots__ = ("children", "keys", "place", "value")

    def __init__(self, value: Any, place: Place) -> None:
        self.value = value
        self.place = place
        self.keys: Mapping[str, Place] = _NO_KEYS
        self.children: Mapping[str | int, Node] = _NO_CHILDREN

    def place_of(self, key: str) -> Place:
        """Return the place to show for a field: its value, or its key if the value is a mapping."""
        child = self.children[key]
        return self.keys[key] if isinstance(child.value, dict) else child.place


@dataclass(frozen=True, slots=True)
class Document:
    """Document of a file. If ``ok`` is false, its problems are reported; values may be ``BROKEN``.

    ``unread_from``: the first line that could not be read.
    """

    root: Node
    ok: bool
    unread_from: int | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """Result of reading a file. ``complete`` is false if reading stopped before the end."""

    documents: tuple[Document, ...]
    diagnostics: tuple[Diagnostic, ...]
    lines: tuple[str, ...]
    complete: bool


def expanded(node: Node, bound: int) -> tuple[int, int]:
    """Return the number of values in ``node`` with its aliases written out, and their depth.

    Counting stops just above ``bound``.
    """
    size = depth = 0
    level = [node]
    while level and size <= bound:
        depth += any(isinstance(inner.value, list | dict) for inner in level)
        size += sum(1 + len(inner.keys) for inner in level)
        level = [child for inner in level for child in inner.children.values()]
    return size, depth
