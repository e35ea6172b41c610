"""`ratectl diff`: compare two trees of policies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratectl.changes.compare import compare
from ratectl.errors import NothingPublished
from ratectl.history.generations import read_entry, read_live, read_tree
from ratectl.history.trees import find_entry
from ratectl.policy.bundle import encode_policies
from ratectl.publishing.sets import assemble
from ratectl_cli.framework import clock
from ratectl_cli.inputs.policies import read_source, read_valid
from ratectl_cli.render.difference import Difference, difference_blocks, difference_data

if TYPE_CHECKING:
    from ratectl.policy.language.model import PolicyTree
    from ratectl.publishing.ownership import Merged
    from ratectl.publishing.sets import SetChoice
    from ratectl.records import HistoryEntry
    from ratectl.stores.base import Store
    from ratectl_cli.framework.session import Session

__all__ = ["compared", "set_compared"]


def compared(session: Session, path: str | None, base: int | None, target: int | None) -> int:
    """Compare a generation with the policies at a path, or with the generation ``target``.

    Prints the difference and returns the exit code. None means the live generation.
    """
    tree = None
    if path is not None:
        with session.busy("reading policies"):
            tree = read_valid([path]).tree
    with session.store() as store, session.busy("comparing"):
        live = find_entry(store, None)
        old, old_name = _generation(store, live, base)
        new, new_name = (tree, path) if tree is not None else _generation(store, live, target)
    return _answer(session, old, new, f"{new_name} against {old_name}")


def set_compared(session: Session, path: str, choice: SetChoice) -> int:
    """Compare the live generation with the tree that publishing a set would make live."""
    with session.busy("reading policies"):
        source = read_source(path, part=True)
    with session.store() as store, session.busy("comparing"):
        base = read_live(store)
        if base.head is None:
            raise NothingPublished(store.url)
        live = read_tree(store, read_entry(store, base.generation))
        whole = assemble(store, base, live, source, choice)
    title = f"set {choice.name} of {path} against generation {base.generation} (live)"
    return _answer(session, live, whole.loaded.tree, title, whole.merged)


def _generation(store: Store, live: HistoryEntry, number: int | None) -> tuple[PolicyTree, str]:
    """Return the policies of a generation and its name in titles."""
    if number is None or number == live.generation:
        return read_tree(store, live), f"generation {live.generation} (live)"
    return read_tree(store, find_entry(store, number)), f"generation {number}"


def _answer(
    session: Session,
    old: PolicyTree,
    new: PolicyTree,
    title: str,
    merged: Merged | None = None,
) -> int:
    changes = compare(old, new, clock.now_ns())
    identical = encode_policies(old) == encode_policies(new)
    difference = Difference(title, changes, identical, merged)
    unfold = bool(session.options.verbose)
    session.answer(
        "Difference",
        difference_data(difference),
        lambda: difference_blocks(difference, unfold=unfold),
    )
    return 1 if changes else 0
