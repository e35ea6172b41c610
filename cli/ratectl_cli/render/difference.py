"""The difference between two trees of policies, as text and as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ratectl_cli.render.changes import change_blocks, change_data, changes_line
from ratectl_cli.render.sets import set_blocks, set_data

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ratectl.changes.compare import Change
    from ratectl.publishing.ownership import Merged
    from ratectl_cli.framework.text import Block

__all__ = ["Difference", "difference_blocks", "difference_data"]


@dataclass(frozen=True, slots=True)
class Difference:
    """Result of comparing two trees of policies."""

    title: str
    changes: Sequence[Change]
    """Changes that requests would notice."""
    identical: bool
    """True if the trees are equal in every field."""
    merged: Merged | None = None
    """The tree with the set that is compared; None for whole trees."""


def difference_data(difference: Difference) -> dict[str, Any]:
    """Return a difference for programs."""
    merged = difference.merged
    return {
        "title": difference.title,
        "differs": bool(difference.changes),
        "identical": difference.identical,
        "changes": [change_data(change) for change in difference.changes],
        **set_data(merged.name if merged else None, merged),
    }


def difference_blocks(difference: Difference, *, unfold: bool) -> Iterator[Block]:
    """Yield a difference for people; ``unfold`` lists inherited changes as well."""
    yield difference.title
    if difference.changes:
        yield ""
        yield from change_blocks(difference.changes, unfold=unfold)
        yield ""
        yield changes_line(difference.changes)
    elif difference.identical:
        yield "no differences"
    else:
        yield "no request is affected: only descriptions, owners, caps or spelling differ"
    yield from set_blocks(difference.merged)
