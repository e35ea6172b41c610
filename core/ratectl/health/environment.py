"""Check of the environment: which one was examined, and what was ever published there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ratectl.environments import place_of
from ratectl.errors import Refused
from ratectl.health.checks import Check
from ratectl.history.generations import highest_generation, read_base
from ratectl.runtime.urls import shown

if TYPE_CHECKING:
    from ratectl.environments import Target
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
    base, latest = read_base(store), highest_generation(store)
    published = base.head is not None or base.unreadable is not None or latest > 0
    details = {
        "environment": place.environment,
        "store": shown(place.url),
        "identity": place.identity,
        "published": published,
        "protection": place.protection.data(),
    }
    if place.problem is not None:
        return Check("environment", "failed", f"{place}: {place.problem}", details)
    if not published:
        message = f"{place}: nothing was ever published there"
        return Check("environment", "warning", message, details)
    missing = target.protection.without(place.kept)
    if missing:
        message = (
            f"{target}: only ratectl.yaml declares {missing}; `ratectl env protect "
            f"{target.environment}` keeps it in the store as well"
        )
        return Check("environment", "warning", message, details)
    protection = place.protection or "no protection"
    message = f"{place}: generation {latest} is the latest, {protection}"
    return Check("environment", "ok", message, details)
