"""A message for stores where nothing was ever published: their names may be misspelt."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ratectl_cli.framework.session import Session

__all__ = ["say_if_unpublished"]


def say_if_unpublished(session: Session, generation: int) -> bool:
    """Return True, and say so, if nothing is live (0) in the store of the command."""
    if not generation:
        path = f"ratectl apply PATH{session.selector.reading}"
        session.say(f"nothing is published in {session.target} yet: {path}")
    return not generation
