"""Nodes: values of strict YAML with their places."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ratectl.diagnostics import Diagnostic

__all__ = [
    "BROKEN", "MAX_ALIASED_NODES", "MAX_DEPTH", "MAX_DOCUMENT_NODES", "MAX_FILE_NODES",
    "AliasNode", "Broken", "Document", "Node", "Place", "Reading", "detach_kind", "expanded",
    "new_mapping",
]  # fmt: skip

MAX_DEPTH: Final = 32
"""Maximum depth of nested collections; a policy needs 5."""

MAX_DOCUMENT_NODES: Final = 50_000
"""Maximum keys, values and collections of one document."""

MAX_FILE_NODES: Final = 1_000_000
"""Maximum keys, values and collections of one file: 10,000 policies of 90 each."""

MAX_ALIASED_NODES: Final = 1_000
"""Maximum values that the aliases of a document stand for, written out."""

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


class AliasNode(Node):
    """Value that is written at an anchor, with the place of its alias."""

    __slots__ = ()

    def __init__(self, target: Node, place: Place) -> None:
        super().__init__(target.value, place)
        self.keys, self.children = target.keys, target.children


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


def new_mapping() -> Node:
    """Return an empty mapping to be filled; its place is set later."""
    node = Node({}, (0, 0, 0))
    node.keys, node.children = {}, {}
    return node


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


def detach_kind(node: Node, line: int) -> tuple[Place, Node] | None:
    """Take the key ``kind`` out of a mapping if it is its last one, on this line."""
    keys: Any = node.keys
    if len(keys) < 2 or next(reversed(keys)) != "kind" or keys["kind"][0] != line:
        return None
    del node.value["kind"]
    children: Any = node.children
    return keys.pop("kind"), children.pop("kind")
