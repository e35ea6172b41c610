"""Name of the store that a command changes, as questions show it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ratectl.stores.base import Store

__all__ = ["destination"]


def destination(store: Store) -> str:
    """Return the name to show for a store, like ``etcd://db:2379/production``."""
    return store.url
