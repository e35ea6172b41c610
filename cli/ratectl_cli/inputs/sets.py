"""The set of a tree that ``--set``, ``--prune`` and ``--take-ownership`` choose."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratectl.errors import UsageError
from ratectl.publishing.ownership import set_problem
from ratectl.publishing.sets import SetChoice
from ratectl_cli.inputs.policies import scope_of

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
    problem = set_problem(name)
    if problem:
        raise UsageError(f"--set {name!r} is not the name of a set: {problem}")
    return SetChoice(name, prune, tuple(map(scope_of, take or ())))
