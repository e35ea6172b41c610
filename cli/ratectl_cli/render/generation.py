"""The policies of a generation, as YAML for people and as data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ratectl.policy.format.tree_text import document_data, policy_lines
from ratectl.publishing.ownership import part_of
from ratectl_cli.framework.text import dim, plural
from ratectl_cli.render.history import action_text, commit_text, entry_data

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ratectl.policy.language.model import PolicyTree
    from ratectl.publishing.ownership import Owners
    from ratectl.records import HistoryEntry
    from ratectl_cli.framework.text import Block

__all__ = ["generation_blocks", "generation_data"]


def generation_data(
    entry: HistoryEntry, tree: PolicyTree, owners: Owners, *, live: int
) -> dict[str, Any]:
    """Return a generation for programs; ``live`` is the number of the live generation."""
    return {
        **entry_data(entry, live=live),
        "policies": [document_data(policy) for _, policy in sorted(tree.policies.items())],
        "exceptions": [document_data(exception) for exception in tree.exceptions],
        "owners": owners.data() if owners else None,
    }


def generation_blocks(
    entry: HistoryEntry, tree: PolicyTree, owners: Owners, *, live: int
) -> Iterator[Block]:
    """Yield the policies as YAML, below comments that say who published them and when."""
    state = ", live" if entry.generation == live else ""
    yield dim(f"# generation {entry.generation}{state}")
    yield dim(f"# {action_text(entry)} by {entry.author} at {entry.time}")
    if entry.commit:
        differed = " (the files differed from it)" if entry.dirty else ""
        yield dim(f"# from commit {commit_text(entry).rstrip('+')}{differed}")
    if entry.message:
        yield dim(f"# {entry.message}")
    yield from (dim(f"# {line}") for line in _owned(tree, owners))
    yield from policy_lines(tree)


def _owned(tree: PolicyTree, owners: Owners) -> Iterator[str]:
    """Yield ``set payments owns /payments, /payments/checkout, 1 exception`` for each set."""
    for name in owners.sets:
        part = part_of(tree, owners, name)
        exceptions = [plural(len(part.exceptions), "exception")] if part.exceptions else []
        yield f"set {name} owns {', '.join([*sorted(part.policies), *exceptions])}"
