"""Events of the YAML parser, and the collections that are open between them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

from ratectl.policy.yaml.nodes import BROKEN

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ratectl.policy.yaml.nodes import Node

__all__ = ["Frame", "Malformed", "events"]

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Malformed(Exception):
    """Raised when the parser fails."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


def events(text: str) -> Iterator[Any]:
    """Yield the events of a text.

    :raises Malformed: the text is not YAML.
    """
    try:
        yield from yaml.parse(text, Loader=_LOADER)
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        # Not only YAMLError: the pure-Python scanner passes any number to chr().
        raise Malformed(error) from error


class Frame:
    """Collection that is being read. ``key`` is None if the next value is to be ignored.

    ``refused``: a key was refused.
    """

    __slots__ = ("flow", "is_map", "key", "node", "on_key", "refused")

    def __init__(self, node: Node, *, is_map: bool, flow: bool) -> None:
        self.node = node
        self.is_map = is_map
        self.flow = flow
        self.on_key = is_map
        self.key: str | None = None
        self.refused = False

    def add(self, node: Node) -> None:
        """Add a value, which may be filled later."""
        children: Any = self.node.children
        if not self.is_map:
            children[len(children)] = node
            self.node.value.append(node.value)
            return
        self.on_key = True
        if self.key is not None:
            children[self.key] = node
            self.node.value[self.key] = node.value

    def refuse_last(self, node: Node) -> None:
        """Refuse the value that was added last."""
        node.value = BROKEN
        if not self.is_map:
            self.node.value[-1] = BROKEN
        elif self.key is not None:
            self.node.value[self.key] = BROKEN
