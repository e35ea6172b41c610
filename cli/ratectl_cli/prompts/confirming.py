"""Questions before a change, for an environment that needs its name as confirmation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratectl.errors import UsageError
from ratectl_cli.errors import Declined

if TYPE_CHECKING:
    from ratectl.environments import Place
    from ratectl_cli.framework.session import Session

__all__ = ["check_name", "confirmed"]


def confirmed(
    session: Session, place: Place, question: str, *, yes: bool, name: str | None
) -> str | None:
    """Ask before a change; return the environment's name if it was given.

    ``question`` names the place.

    ``name``: from ``--confirm``. The right name replaces yes.

    :raises UsageError: ``name`` is another name, or nobody can be asked.
    :raises Declined: the answer is not yes, or not the name.
    """
    check_name(place, name)
    if name is None and place.protection.confirm:
        return _typed(session, place, question)
    session.confirm(question, yes=yes or name is not None)
    return name


def check_name(place: Place, name: str | None) -> None:
    """Return if ``name``, from ``--confirm``, is that of the place, or none is given.

    :raises UsageError: it is another name.
    """
    if name is not None and name != place.name:
        raise UsageError(f"--confirm {name!r} is not the name of {place}: that is {place.name}")


def _typed(session: Session, place: Place, question: str) -> str:
    if not session.can_ask:
        raise UsageError(
            f"{question} This needs its name as confirmation: add --confirm {place.name}"
        )
    answer = session.ask(f"{question} Write {place.name} to confirm:")
    if answer != place.name:
        raise Declined(f"declined: {answer!r} is not {place.name!r}; nothing was changed")
    return answer
