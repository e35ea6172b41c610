"""Find a generation in a store, and read its policies."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ratectl.errors import BundleError, NotFound, NothingPublished, UsageError
from ratectl.history.generations import (
    highest_generation,
    live_entry,
    read_base,
    read_encoded,
    read_entry,
    read_live,
    read_tree,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from ratectl.history.generations import Live
    from ratectl.policy.bundle import EncodedTree
    from ratectl.policy.language.model import PolicyTree
    from ratectl.records import HistoryEntry
    from ratectl.stores.base import Store

__all__ = ["LiveTree", "find_entry", "live_tree", "tree_to_compare"]


class LiveTree(NamedTuple):
    """The policies of the live generation, and its number."""

    generation: int
    tree: PolicyTree


def live_tree(store: Store) -> LiveTree:
    """Return the live policies.

    :raises NothingPublished: there are none.
    """
    live = read_live(store)
    if live.head is None:
        raise NothingPublished(store.url)
    return LiveTree(live.generation, read_tree(store, live_entry(store, live)))


def tree_to_compare(store: Store, live: Live, warn: Callable[[str], None]) -> EncodedTree | None:
    """Return the live policies; None if there are none, or none that can be read (see ``warn``).

    A damaged generation must not prevent a publisher from replacing it. The head names the policies
    too: if only the history entry is damaged, guards still compare with them.
    """
    if live.head is None:
        return None
    try:
        try:
            entry = live_entry(store, live)
        except (BundleError, NotFound):
            return read_encoded(store, live.head.bundle)
        return read_encoded(store, entry.bundle, entry.origins)
    except (BundleError, NotFound) as error:
        warn(f"generation {live.generation} cannot be read: {error}")
        return None


def find_entry(store: Store, generation: int | None) -> HistoryEntry:
    """Return the history entry of a generation; None for the live one.

    :raises UsageError: there is no generation of this number.
    :raises NothingPublished: the store holds no generation.
    """
    live = read_base(store)
    if live.head is None and (generation is None or not highest_generation(store)):
        raise (
            NothingPublished(store.url) if live.unreadable is None else BundleError(live.unreadable)
        )
    try:
        return read_entry(store, live.generation if generation is None else generation)
    except NotFound as error:
        if generation is None:
            raise
        raise UsageError(str(error)) from error
