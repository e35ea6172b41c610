"""A message for stores where nothing was ever published: their names may be misspelt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratectl.history.generations import read_live

if TYPE_CHECKING:
    from ratectl.stores.base import Store
    from ratectl_cli.framework.session import Session

__all__ = ["warn_if_unpublished"]


def warn_if_unpublished(session: Session, store: Store) -> bool:
    """Return True, and say so, if nothing is published in the store of the command."""
    unpublished = read_live(store).head is None
    if unpublished:
        path = f"ratectl apply PATH{session.selector.reading}"
        session.say(f"nothing is published in {session.target} yet: {path}")
    return unpublished
