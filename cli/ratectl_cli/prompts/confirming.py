"""Questions before a change, for an environment that needs its name as confirmation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratectl.errors import UsageError
from ratectl_cli.errors import Declined

if TYPE_CHECKING:
    from ratectl.environments import Place
    from ratectl_cli.framework.session import Session

__all__ = ["confirmed"]


def confirmed(
    session: Session, place: Place, question: str, *, yes: bool, name: str | None
) -> str | None:
    """Ask before a change; return the environment's name if it was given.

    ``question`` names the place.

    ``name``: from ``--confirm``. In an environment that needs its name, the name replaces yes.

    :raises UsageError: ``name`` is another name, or nobody can be asked.
    :raises Declined: the answer is not yes, or not the name.
    """
    if name is not None and name != place.name:
        raise UsageError(f"--confirm {name!r} is not the name of {place}: that is {place.name}")
    if not place.protection.confirm:
        session.confirm(question, yes=yes)
        return name
    return name or _typed(session, place, question)


def _typed(session: Session, place: Place, question: str) -> str:
    if not session.can_ask:
        raise UsageError(
            f"{question} This needs its name as confirmation: add --confirm {place.name}"
        )
    answer = session.ask(f"{question} Write {place.name} to confirm:")
    if answer != place.name:
        raise Declined(f"declined: {answer!r} is not {place.name!r}; nothing was changed")
    return answer
