"""Fields that the comments ``# ratectl: ignore`` of a document are for."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import yaml

from ratectl.policy.yaml.ignores import ignores_of, may_ignore

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["ignored"]


def ignored(text: str, root: Any) -> list[tuple[str, list[str]]]:
    """Return each comment for ratectl, with the keys and values that it is for; sorted.

    ``root``: the node of the document.
    """
    if not may_ignore(text.encode()):
        return []
    lines: dict[int, set[str]] = defaultdict(set)
    for line, place in [(_line(root), "the document"), *_places(root, "")]:
        lines[line].add(place)
    return sorted(
        (comment.text, ["all"] if comment.target is None else sorted(lines[comment.target]))
        for comment in ignores_of(text).comments
    )


def _places(node: Any, path: str) -> Iterator[tuple[int, str]]:
    """Yield the line at which each key and value begins, and its path: findings may be there.

    The item of a list has the path of the list, because it may be written without the list.
    """
    if isinstance(node, yaml.ScalarNode) or not node.value:
        yield _line(node), path
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            if isinstance(item, yaml.MappingNode):
                yield _line(item), f"{path}:item"
            yield from _places(item, path)
    else:
        for name, value in node.value:
            yield _line(name), f"{path}/{name.value}:"
            yield from _places(value, f"{path}/{name.value}")


def _line(node: Any) -> int:
    return int(node.start_mark.line) + 1
