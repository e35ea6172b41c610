"""The set of a tree that ``--set``, ``--prune`` and ``--take-ownership`` choose."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratectl.errors import UsageError
from ratectl.publishing.sets import SetChoice

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["choice_of"]


def choice_of(
    name: str | None, *, prune: bool, take: Sequence[str] | None = None
) -> SetChoice | None:
    """Return the set that the options choose; None for a whole tree.

    :raises UsageError: an option is wrong.
    """
    if name is None:
        if prune or take:
            raise UsageError(
                f"{'--prune' if prune else '--take-ownership'} needs a set: add --set NAME"
            )
        return None
    return SetChoice(name, prune, tuple(take or ()))
