"""Sets of a tree, as text and as data: what publishing a set leaves, removes and takes over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ratectl.publishing.handover import Moved
from ratectl.runtime.wording import listed
from ratectl_cli.framework.text import bold

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ratectl.publishing.handover import Item
    from ratectl.publishing.ownership import Merged
    from ratectl_cli.framework.text import Block

__all__ = ["set_blocks", "set_data", "set_lines"]

_NAMED = 10
"""Most documents that a line names."""


def set_data(name: str | None, merged: Merged | None) -> dict[str, Any]:
    """Return what a set leaves, removes and takes over, for programs."""
    return {"set": name, **(merged.moved if merged else Moved()).data()}


def set_lines(merged: Merged | None) -> Iterator[tuple[str, str]]:
    """Yield a label and a sentence for each effect on other policies; nothing without a set."""
    if merged is None:
        return
    moved = merged.moved
    if moved.taken:
        owners: dict[str, list[Item]] = {}
        for item in moved.taken:
            owners.setdefault(item.owner or "nobody", []).append(item)
        taken = [
            f"from {owner}: {listed(items, _NAMED)}" for owner, items in sorted(owners.items())
        ]
        yield "taken", f"set {merged.name} takes over, {'; '.join(taken)}"
    if moved.pruned:
        yield "pruned", f"PATH does not contain {listed(moved.pruned, _NAMED)} of set {merged.name}"
    if moved.left:
        left = f"PATH does not contain {listed(moved.left, _NAMED)} of set {merged.name}"
        yield "left", f"{left}, which stays as it is (--prune removes it)"


def set_blocks(merged: Merged | None) -> Iterator[Block]:
    """Yield the effects on other policies for people."""
    for word, text in set_lines(merged):
        yield [bold(f"{word}: ", "yellow"), text]
