"""``ratectl show``."""

from typing import TYPE_CHECKING, Annotated

import typer

from ratectl_cli.commands.history import action_text, commit_text, entry_data
from ratectl_cli.framework.session import session_of
from ratectl_cli.framework.text import dim, plural

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ratectl.policy.language.model import PolicyTree
    from ratectl.publishing.ownership import Owners
    from ratectl.records import HistoryEntry
    from ratectl_cli.framework.text import Block


def show(
    ctx: typer.Context,
    generation: Annotated[
        int | None,
        typer.Argument(metavar="GEN", min=1, help="Generation.  [default: the live one]"),
    ] = None,
) -> int:
    """Print the policies of a generation as YAML.

    The text is normalised, without the comments and files that it was written with, and can be
    applied again.

    Examples:
      ratectl show
      ratectl show 411 > before.yaml
      diff <(ratectl show 411) <(ratectl show 412)

    Exit codes:
      0   printed
      64  no such generation
      65  nothing is published, or the stored bytes are damaged
      69  store unreachable
    """
    from ratectl.history.generations import read_live, read_tree
    from ratectl.history.trees import find_entry
    from ratectl.policy.format.tree_text import document_data
    from ratectl.publishing.ownership import read_owners

    session = session_of(ctx)
    with session.store() as store, session.busy("reading policies"):
        entry = find_entry(store, generation)
        live = read_live(store).generation
        tree = read_tree(store, entry)
        owners = read_owners(store, entry.owners)
    data = {
        **entry_data(entry, live=live),
        "policies": [document_data(policy) for _, policy in sorted(tree.policies.items())],
        "exceptions": [document_data(exception) for exception in tree.exceptions],
        "owners": owners.data() if owners else None,
    }
    session.answer("Generation", data, lambda: _blocks(entry, tree, live, owners))
    return 0


def _blocks(
    entry: "HistoryEntry", tree: "PolicyTree", live: int, owners: "Owners"
) -> "Iterator[Block]":
    from ratectl.policy.format.tree_text import policy_lines

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


def _owned(tree: "PolicyTree", owners: "Owners") -> "Iterator[str]":
    """``set payments owns /payments, /payments/checkout, 1 exception``."""
    from ratectl.publishing.ownership import part_of

    for name in owners.sets:
        part = part_of(tree, owners, name)
        exceptions = [plural(len(part.exceptions), "exception")] if part.exceptions else []
        yield f"set {name} owns {', '.join([*sorted(part.policies), *exceptions])}"


__all__ = ["show"]
