"""Values that know their place: what strict YAML is read into."""

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
    """Stands for a value that was refused: its problem is reported already."""

    __slots__ = ()


BROKEN: Final = Broken()

_NO_KEYS: Final[Mapping[str, Place]] = MappingProxyType({})
_NO_CHILDREN: Final[Mapping[str | int, Any]] = MappingProxyType({})


class Node:
    """A value, where it stands, and the same of its parts.

    ``place`` is the value's own; of a mapping it is its first key's. ``keys`` holds the places of
    a mapping's keys.
    """

    __slots__ = ("children", "keys", "place", "value")

    def __init__(self, value: Any, place: Place) -> None:
        self.value = value
        self.place = place
        self.keys: Mapping[str, Place] = _NO_KEYS
        self.children: Mapping[str | int, Node] = _NO_CHILDREN

    def place_of(self, key: str) -> Place:
        """Where to point for a field: at its value, or at its key where that is a mapping."""
        child = self.children[key]
        return self.keys[key] if isinstance(child.value, dict) else child.place


@dataclass(frozen=True, slots=True)
class Document:
    """One document. Where ``ok`` is false, problems are reported and ``BROKEN`` values remain.

    ``unread_from``: the line from which on it could not be read.
    """

    root: Node
    ok: bool
    unread_from: int | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """What a text holds. ``complete`` is false where reading had to stop before its end."""

    documents: tuple[Document, ...]
    diagnostics: tuple[Diagnostic, ...]
    lines: tuple[str, ...]
    complete: bool


def expanded(node: Node, bound: int) -> tuple[int, int]:
    """How many values ``node`` holds when its aliases are written out, and how deep they go.

    Counting ends just above ``bound``.
    """
    size = depth = 0
    level = [node]
    while level and size <= bound:
        depth += any(isinstance(each.value, list | dict) for each in level)
        size += sum(1 + len(each.keys) for each in level)
        level = [child for each in level for child in each.children.values()]
    return size, depth
