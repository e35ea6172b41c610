"""Changes of a publication, grouped by scope; inherited changes are counted."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

from ratectl.changes.compare import with_leaders
from ratectl.policy.language.labels import bucket_label
from ratectl_cli.framework.text import Aligned, Styled, bold, dim, paragraph, plural

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from ratectl.changes.compare import Change, Named
    from ratectl_cli.framework.text import Block, Piece

__all__ = [
    "SIGNS", "change_blocks", "change_data", "change_name", "changes_line", "followers_text",
]  # fmt: skip

SIGNS: Final = {
    "added": ("+", "green"),
    "removed": ("-", "red"),
    "tightened": ("~", "yellow"),
    "loosened": ("~", "cyan"),
    "clipped": ("~", "yellow"),
    "unclipped": ("~", "cyan"),
    "enforced": ("~", "bold yellow"),
    "shadowed": ("~", "cyan"),
    "changed": ("~", "blue"),
}


def change_blocks(
    changes: Sequence[Change],
    *,
    unfold: bool = False,
    notes: Callable[[Change], Iterable[Piece]] = lambda _: (),
) -> Iterator[Block]:
    """Yield the changes by scope; ``unfold`` also lists changes that scopes inherit.

    ``notes``: lines to print below a change.
    """
    below = {} if unfold else followers_text(changes)
    shown = [change for change in changes if unfold or not change.inherited]
    for scope, group in groupby(shown, key=lambda change: change.scope):
        yield paragraph(bold(scope))
        rows: list[list[Piece]] = []
        for change in group:
            rows += _rows(change)
            further = below.get(change.named)
            rows += [["   ", "", "", note] for note in notes(change)]
            rows += [["   ", "", "", dim(further)]] if further else []
        yield Aligned(rows)


def changes_line(changes: Sequence[Change]) -> str:
    """Return ``3 changes: 2 tightened, 1 added``."""
    own = [change for change in changes if not change.inherited]
    counts = Counter[str](change.kind for change in own)
    kinds = ", ".join(f"{counts[kind]} {kind}" for kind in SIGNS if counts[kind])
    return f"{plural(len(own), 'change')}: {kinds}" if own else "no changes"


def change_data(change: Change) -> dict[str, Any]:
    """Return a change for programs.

    ``limit`` is null for ``on_error``. At most one of ``override`` and ``exception`` is set: the
    change is for the requests that it matches.
    """
    return {
        "scope": change.scope,
        "limit": change.limit,
        "override": None if by_exception(change) else change.via,
        "exception": change.via if by_exception(change) else None,
        "kind": change.kind,
        "before": change.before,
        "after": change.after,
        "inherited": change.inherited,
    }


def by_exception(change: Change) -> bool:
    """Return True if the change is for requests of an exception, not of an override."""
    return change.via is not None and " until " in change.via


def change_name(change: Change) -> str:
    """Return ``spike``, ``spike [gold]`` or ``spike [exception]``, whose end is shown beside it."""
    name = change.limit or "on_error"
    if by_exception(change):
        return f"{name} [exception]"
    return bucket_label(name, change.scope, [change.via] if change.via else [])


def _rows(change: Change) -> Iterator[list[Piece]]:
    sign, colour = SIGNS[change.kind]
    head: list[Piece] = [
        f"  {sign}",
        bold(change_name(change)),
        Styled(change.kind, colour),
    ]
    before, after = (_words(change, text) for text in (change.before, change.after))
    if before and after:
        yield [*head, f"{before} → {after}"]
    else:
        yield [*head, after or before]


def _words(change: Change, text: str | None) -> str:
    """Return a value without the name ``on_error``, which the line shows already."""
    return (text or "").removeprefix("on_error ") if change.limit is None else text or ""


def followers_text(changes: Sequence[Change]) -> dict[Named, str]:
    """Return, by change, a text that counts the changes that follow from it."""
    return {
        (scope, limit, override): _following(counts, of_override=override is not None)
        for (scope, limit, override), counts in _followers(changes).items()
    }


def _followers(changes: Sequence[Change]) -> dict[Named, Counter[str]]:
    """Count, by change, the scopes and overrides that inherit it."""
    counts: dict[Named, Counter[str]] = defaultdict(Counter)
    for change, leader in with_leaders(changes):
        if leader is not change:
            counts[leader.named]["override" if change.via != leader.via else "scope"] += 1
    return counts


def _following(counts: Counter[str], *, of_override: bool) -> str:
    """Return ``and 2 overrides, 1 scope below``.

    All scopes below inherit what an override changes. Only scopes that redefine its limits are
    resolved again, so only these are counted.
    """
    parts = []
    if counts["override"]:
        parts.append(plural(counts["override"], "override"))
    if counts["scope"]:
        one = counts["scope"] == 1
        redefines = f" that redefine{'s' if one else ''} it" if of_override else ""
        parts.append(f"{plural(counts['scope'], 'scope')} below{redefines}")
    return f"and {', '.join(parts)}" if parts else ""
