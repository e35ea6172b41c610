"""`ratectl env`: list environments, and change their protection."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from ratectl.environments import Protection, Target, place_of, protect, survey, unprotect
from ratectl.errors import Refused, UsageError
from ratectl.stores.registry import same_store
from ratectl_cli.errors import USAGE
from ratectl_cli.prompts.confirming import confirmed
from ratectl_cli.render.environments import Listing, listing_blocks, listing_data, protection_blocks

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ratectl.environments import Declared
    from ratectl_cli.framework.session import Session

__all__ = ["listed", "protected", "unprotected"]

_SECONDS: Final = 4.0
"""Longest wait for one call of a store."""

_TELLS: Final = "ratectl env"


def listed(session: Session) -> int:
    """Print all environments and their states; return the exit code.

    It is 64 if a variable chooses the store wrongly, else 1 if an environment does not answer.
    """
    project = session.project
    declared = list(project.environments.values()) if project else []
    targets = [Target(each.store, each.name, each.protection) for each in declared]
    chosen, problem = _chosen(session)
    if chosen is not None and chosen.environment is None:
        targets.append(chosen)
    with session.busy("asking every environment"):
        found = survey(targets, min(_SECONDS, session.deadline.share() or _SECONDS))
    file = None if project is None else str(project.file)
    listing = Listing(file, session.policies, found, chosen, problem)
    session.answer("Environments", listing_data(listing), lambda: listing_blocks(listing))
    choice = session.choice
    by_variable = choice.environment_variable is not None or choice.store_variable is not None
    if problem is not None and by_variable:
        return USAGE
    return 1 if any(each.problem for each in found) else 0


def _chosen(session: Session) -> tuple[Target | None, str | None]:
    """Return the target of other commands, or why they have none."""
    try:
        return session.target, None
    except UsageError as error:
        if session.options.env is not None or session.options.store is not None:
            raise
        return None, str(error)


def protected(session: Session, name: str, *, confirm: bool, sign: bool) -> int:
    """Add protection to the store of an environment; return the exit code.

    :raises UsageError: no protection is named and none is declared, or there is no environment.
    """
    target = _target(session, name)
    if session.options.store is not None:
        _check_name_in_file(session, name)
    added = Protection(confirm, sign) or target.protection
    if not added:
        raise UsageError(
            f"ratectl.yaml declares no protection for {name}: add --confirm or --sign-required"
        )
    with session.store() as store:
        place = place_of(store, target)
        session.changes(replace(place, environment=name))
        session.deadline.changing(_TELLS)
        total = protect(store, name, added)
    _answer(session, total, "protected", str(total))
    return 0


def unprotected(session: Session, name: str, confirm: str | None) -> int:
    """Remove the protection from the store of an environment; return the exit code."""
    target = _target(session, name)
    with session.store() as store:
        place = place_of(store, target)
        session.changes(place)
        needing = replace(place, protection=Protection(confirm=True))
        question = f"Remove the protection of {place}?"
        answer = confirmed(session, needing, question, yes=False, name=confirm)
        session.deadline.changing(_TELLS)
        removed = unprotect(store, answer, target)
    parts = [str(removed)] if removed else []
    text = " and ".join([*parts, f"the name {place.environment}"])
    _answer(session, Protection(), "unprotected; removed", text)
    return 0


def _answer(session: Session, now: Protection, what: str, shown: str) -> None:
    session.answer("Protection", now.data(), lambda: protection_blocks(what, shown))


def _check_name_in_file(session: Session, name: str) -> None:
    """Return if ``ratectl.yaml`` does not give another name to the store of ``--store``.

    A file that is not used, or is not valid, names nothing.

    :raises UsageError: it does.
    """
    declared: Iterable[Declared] = ()
    with suppress(Refused, UsageError):
        declared = session.project.environments.values() if session.project else ()
    for environment in declared:
        if environment.name != name and same_store(environment.store, session.target.url):
            raise UsageError(
                f"{name} is not the name of this store: ratectl.yaml calls it {environment.name}; "
                f"write {environment.name}, or correct the file"
            )


def _target(session: Session, name: str) -> Target:
    """Return the environment of a name, and make it the target of the session.

    With ``--store``, this is the store of that URL.

    :raises UsageError: another environment is chosen with ``-e``, or there is none of that name.
    """
    options = session.options
    if options.env not in (None, name):
        raise UsageError(f"-e {options.env} and {name} name two environments: leave out -e")
    if options.store is not None:
        return replace(session.target, environment=name)
    session.options = replace(options, env=name)
    return session.target
