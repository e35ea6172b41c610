"""Options that choose a set of a tree: ``--set NAME``, ``--prune`` and ``--take-ownership``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ratectl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ratectl.publishing.sets import SetChoice

__all__ = ["Prune", "SetName", "Take", "choice_of"]

SetName = Annotated[
    str | None,
    typer.Option("--set", metavar="NAME", help="PATH is only what this set owns of the tree."),
]
Prune = Annotated[
    bool, typer.Option("--prune", help="Remove what the set owns and PATH does not hold.")
]
Take = Annotated[
    list[str] | None,
    typer.Option(
        "--take-ownership",
        metavar="SCOPE",
        help="Let the set take over what PATH says at and below SCOPE. Repeatable.",
    ),
]


def choice_of(
    name: str | None, *, prune: bool, take: Sequence[str] | None = None
) -> SetChoice | None:
    """Return the set that the options choose; None for a whole tree.

    :raises UsageError: an option is wrong.
    """
    from ratectl.publishing.ownership import set_problem
    from ratectl.publishing.sets import SetChoice
    from ratectl_cli.inputs.policies import scope_of

    if name is None:
        if prune or take:
            raise UsageError(
                f"{'--prune' if prune else '--take-ownership'} is for a set: add --set NAME"
            )
        return None
    problem = set_problem(name)
    if problem:
        raise UsageError(f"--set {name!r} is not the name of a set: {problem}")
    return SetChoice(name, prune, tuple(map(scope_of, take or ())))
