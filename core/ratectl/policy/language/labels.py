"""Names of buckets for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["bucket_label", "short_ref"]


def bucket_label(limit: str, scope: str, overrides: Sequence[str], *, budget: bool = False) -> str:
    """Return ``spike [gold, charges@/]``: a limit and the overrides that select its bucket."""
    name = f"budget {limit}" if budget else limit
    if not overrides:
        return name
    return f"{name} [{', '.join(short_ref(ref, scope) for ref in overrides)}]"


def short_ref(ref: str, scope: str) -> str:
    """Return a reference without its scope if that is ``scope``; the result stays unique.

    ``ref``: an override (``gold@/``) or an exception (``exception@/ until 2026-11-30T00:00Z``).
    """
    name, _, rest = ref.partition("@")
    where, _, more = rest.partition(" ")
    if where != scope:
        return ref
    return f"{name} {more}" if more else name
