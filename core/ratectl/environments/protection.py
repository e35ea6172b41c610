"""Protection of an environment, kept with the store's identity.

The record in the store applies to everybody who changes the store. A file may ask for more, never
for less. It protects from mistakes: whoever may write to the store can also change the record.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ratectl.environments.project import NAME_FORM
from ratectl.environments.target import UNPROTECTED, Protection, Target, named
from ratectl.errors import BundleError, Conflict, Refused, UsageError
from ratectl.records import ENVIRONMENT, Environment
from ratectl.runtime.urls import shown
from ratectl.signing.continuation import NEEDS_SIGNATURE, ensure_environment, read_environment
from ratectl.stores.base import Compare, Put

if TYPE_CHECKING:
    from ratectl.signing.signatures import Signer
    from ratectl.stores.base import Store

__all__ = ["Place", "Protection", "Unconfirmed", "place_of", "protect", "stored", "unprotect"]


class Unconfirmed(Refused):
    """Raised for a change of an environment whose name was not given. ``name``: that name."""

    def __init__(self, place: Place) -> None:
        self.name = place.name
        super().__init__(
            f"changes of {place} need its name as confirmation: add --confirm {place.name}"
        )


@dataclass(frozen=True, slots=True)
class Place:
    """A store that a command changes: its environment, its URL, and its protection."""

    url: str
    environment: str | None = None
    """Name of the environment, by the store or else by ``ratectl.yaml``; None if it has none."""
    protection: Protection = UNPROTECTED
    """Protection by the store and by ``ratectl.yaml``."""
    identity: str | None = None
    """Identity of the environment; None if nothing was ever written there."""
    problem: str | None = None
    """Why the store's record cannot be read, or contradicts the file."""
    kept: Protection = UNPROTECTED
    """Protection by the store alone."""

    def __str__(self) -> str:
        return named(self.environment, self.url)

    @property
    def name(self) -> str:
        """Name that confirms a change."""
        return self.environment or self.identity or self.url

    def require_signer(self, signer: Signer | None) -> None:
        """Return if a change may be made with this key, or without one.

        :raises Refused: the environment needs signatures, and there is no key.
        """
        if signer is None and self.protection.sign:
            raise Refused(f"{self} {NEEDS_SIGNATURE}")

    def require_confirmed(self, name: str | None) -> None:
        """Return if ``name`` confirms a change, or if none is needed.

        :raises Unconfirmed: the environment needs its name, and ``name`` is another one.
        :raises BundleError: the record of the environment cannot be read.
        """
        if self.problem is not None:
            raise BundleError(f"{self} cannot be changed: {self.problem}")
        if self.protection.confirm and name != self.name:
            raise Unconfirmed(self)


def stored(record: Environment | None) -> Protection:
    """Return the protection in a record."""
    return Protection(record.confirm, record.sign_required) if record else UNPROTECTED


def place_of(store: Store, target: Target | None = None, *, urgent: bool = False) -> Place:
    """Return how changes name a store, and how it is protected.

    ``urgent``: for a way out of trouble. Another name is then a problem of the place, no error.

    :raises Refused: the store says that it is another environment than ``target``.
    """
    target = target or Target(store.url)
    try:
        record = read_environment(store)
    except BundleError as error:
        unknown = f"the protection is unknown: {error}"
        return Place(target.url, target.environment, target.protection, problem=unknown)
    if record is None:
        return Place(target.url, target.environment, target.protection)
    problem = name_problem(record, target)
    if problem is not None and not urgent:
        raise Refused(problem)
    kept = stored(record)
    name = record.name or target.environment
    return Place(target.url, name, target.protection | kept, record.id, problem, kept)


def name_problem(record: Environment, target: Target) -> str | None:
    """Return how the store's name contradicts the target; None if it does not."""
    if not record.name or target.environment in (None, record.name):
        return None
    url = shown(target.url)
    return (
        f"environment {target.environment} is to be in {url}, and that store is environment "
        f"{record.name}: correct the store or the name in ratectl.yaml; if the store's name is "
        f"wrong, `ratectl env unprotect {record.name} --store {shlex.quote(url)}` removes it"
    )


def protect(store: Store, name: str, protection: Protection) -> Protection:
    """Add protection to a store, and name it; returns the protection that it has then.

    :raises UsageError: ``name`` cannot name an environment.
    :raises Refused: the store has another name.
    :raises Conflict: somebody changed the record at the same time.
    """
    if not NAME_FORM.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot name an environment: use letters, digits, '.', '_' and '-'"
        )
    ensure_environment(store)
    record, revision = _record(store)
    problem = name_problem(record, Target(store.url, name))
    if problem is not None:
        raise Refused(problem)
    total = stored(record) | protection
    _write(store, replace(record, name=name), total, revision)
    return total


def unprotect(store: Store, confirmed: str | None, target: Target | None = None) -> Protection:
    """Remove all protection and the name from a store; returns the protection that it had.

    ``confirmed``: the environment's name, always needed.

    :raises Unconfirmed: ``confirmed`` is not that name.
    :raises Refused: the store has neither protection nor name, or another name than the target.
    :raises Conflict: somebody changed the record at the same time.
    """
    place = place_of(store, target)
    replace(place, protection=Protection(confirm=True)).require_confirmed(confirmed)
    if place.identity is None:
        raise Refused(f"{place} has no protection: nothing was ever written there")
    record, revision = _record(store)
    before = stored(record)
    if not before and not record.name:
        raise Refused(f"{place} has no protection in the store")
    _write(store, replace(record, name=""), UNPROTECTED, revision)
    return before


def _record(store: Store) -> tuple[Environment, int]:
    item = store.get(ENVIRONMENT)
    if item is None:
        raise Conflict("the environment's identity was deleted meanwhile")
    return Environment.decode(item.value), item.mod_revision


def _write(store: Store, record: Environment, protection: Protection, revision: int) -> None:
    record = replace(record, confirm=protection.confirm, sign_required=protection.sign)
    done = store.txn([Compare(ENVIRONMENT, revision)], [Put(ENVIRONMENT, record.encode())])
    if not done.ok:
        raise Conflict("somebody changed the protection at the same time: look at `ratectl env`")
