"""Check of the environment: which one was examined, and what was ever published there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ratectl.environments import place_of
from ratectl.environments.protection import stored
from ratectl.errors import Refused
from ratectl.health.checks import Check
from ratectl.history.generations import highest_generation, read_base
from ratectl.records import ENVIRONMENT, Environment
from ratectl.runtime.urls import shown

if TYPE_CHECKING:
    from ratectl.environments import Target
    from ratectl.environments.protection import Place
    from ratectl.stores.base import Store

__all__ = ["check_environment", "unknown_environment"]


def unknown_environment(target: Target) -> Check:
    """Return the check of an environment whose store does not answer."""
    details = {"environment": target.environment, "store": shown(target.url)}
    return Check("environment", "skipped", f"{target}: its store does not answer", details)


def check_environment(store: Store, target: Target) -> Check:
    """Check that the store is that of the environment, and say if anything was published there."""
    details: dict[str, Any] = {"environment": target.environment, "store": shown(target.url)}
    try:
        place = place_of(store, target)
    except Refused as refused:
        return Check("environment", "failed", str(refused), details)
    details = {
        "environment": place.environment,
        "store": shown(place.url),
        "identity": place.identity,
        "published": _published(store),
        "protection": place.protection.data(),
    }
    if place.problem is not None:
        return Check("environment", "failed", f"{place}: {place.problem}", details)
    if not details["published"]:
        message = f"{place}: nothing was ever published there"
        return Check("environment", "warning", message, details)
    missing = _unstored(store, target)
    if missing:
        return Check("environment", "warning", missing, details)
    return Check("environment", "ok", _summary(place, store), details)


def _published(store: Store) -> bool:
    base = read_base(store)
    return base.head is not None or base.unreadable is not None or highest_generation(store) > 0


def _summary(place: Place, store: Store) -> str:
    latest = highest_generation(store)
    protection = f", {place.protection}" if place.protection else ", no protection"
    return f"{place}: generation {latest} is the latest{protection}"


def _unstored(store: Store, target: Target) -> str | None:
    """Return a message about protection that only the file declares; None without any."""
    item = store.get(ENVIRONMENT)
    record = Environment.decode(item.value) if item else None
    missing = target.protection.without(stored(record))
    if not missing:
        return None
    return (
        f"{target}: only ratectl.yaml declares {missing}; `ratectl env protect "
        f"{target.environment}` keeps it in the store as well"
    )
