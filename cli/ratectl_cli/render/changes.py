"""What a publication changes, grouped by scope, with what follows from above folded."""

from __future__ import annotations

from collections import Counter
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

from ratectl_cli.text import Styled, aligned, bold, dim, plural

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ratectl.compare import Change
    from ratectl_cli.text import Block, Piece

__all__ = ["change_blocks", "change_data", "changes_line"]

_SIGNS: Final = {
    "added": ("+", "green"),
    "removed": ("-", "red"),
    "tightened": ("~", "yellow"),
    "loosened": ("~", "cyan"),
    "changed": ("~", "blue"),
}


def change_blocks(changes: Sequence[Change], *, unfold: bool = False) -> Iterator[Block]:
    """The changes by scope; ``unfold`` lists those that follow from a scope above as well."""
    below = _followers(changes)
    shown = [change for change in changes if unfold or not change.inherited]
    for scope, group in groupby(shown, key=lambda change: change.scope):
        yield bold(scope)
        rows: list[list[Piece]] = []
        for change in group:
            rows += _rows(change, 0 if unfold else below[change.scope, change.limit])
        yield from aligned(rows)


def changes_line(changes: Sequence[Change]) -> str:
    """``3 changes: 2 tightened, 1 added``."""
    own = [change for change in changes if not change.inherited]
    counts = Counter[str](change.kind for change in own)
    kinds = ", ".join(f"{counts[kind]} {kind}" for kind in _SIGNS if counts[kind])
    return f"{plural(len(own), 'change')}: {kinds}" if own else "no changes"


def change_data(change: Change) -> dict[str, Any]:
    """A change for programs; ``limit`` is null for ``on_error``."""
    return {
        "scope": change.scope,
        "limit": change.limit,
        "kind": change.kind,
        "before": change.before,
        "after": change.after,
        "inherited": change.inherited,
    }


def _rows(change: Change, followers: int) -> Iterator[list[Piece]]:
    sign, colour = _SIGNS[change.kind]
    head: list[Piece] = [
        f"  {sign}",
        bold(change.limit or "on_error"),
        Styled(change.kind, colour),
    ]
    before, after = (_words(change, text) for text in (change.before, change.after))
    if before and after:
        yield [*head, f"{before} → {after}"]
    else:
        yield [*head, after or before]
    if followers:
        yield ["   ", "", "", dim(f"and {plural(followers, 'scope')} below")]


def _words(change: Change, text: str | None) -> str:
    """The column before says ``on_error`` already."""
    return (text or "").removeprefix("on_error ") if change.limit is None else text or ""


def _followers(changes: Sequence[Change]) -> Counter[tuple[str, str | None]]:
    """How many scopes below change just as the scope of a change does, and because of it."""
    from ratectl.policy.scopes import ancestry

    leaders = {(change.scope, change.limit) for change in changes if not change.inherited}
    counts: Counter[tuple[str, str | None]] = Counter()
    for change in changes:
        if change.inherited:
            above = (scope for scope in ancestry(change.scope) if (scope, change.limit) in leaders)
            leader = next(above, None)
            if leader is not None:
                counts[leader, change.limit] += 1
    return counts
