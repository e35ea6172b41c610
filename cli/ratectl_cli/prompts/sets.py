"""Publishing a part of a tree: ``--set NAME``, ``--prune`` and ``--take-ownership``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ratectl_cli.framework.text import bold, plural

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ratectl.history.generations import Live
    from ratectl.policy.language.model import PolicyTree
    from ratectl.policy.loading.loader import Loaded
    from ratectl.publishing.handover import Item
    from ratectl.publishing.ownership import Merged, Owners
    from ratectl.publishing.source_files import Beside
    from ratectl.signing.signatures import Signer
    from ratectl.stores.base import Store
    from ratectl_cli.framework.text import Block

__all__ = [
    "Choice",
    "Prune",
    "SetName",
    "Take",
    "Whole",
    "choice_of",
    "set_blocks",
    "set_data",
    "set_lines",
    "whole_of",
]

_NAMED = 10
"""Documents named, at most, in a line."""

SetName = Annotated[
    str | None,
    typer.Option("--set", metavar="NAME", help="PATH is only what this set owns of the tree."),
]
Prune = Annotated[
    bool, typer.Option("--prune", help="Remove what the set owns and PATH does not hold.")
]
Take = Annotated[
    list[str] | None,
    typer.Option(
        "--take-ownership",
        metavar="SCOPE",
        help="Let the set take over what PATH says at and below SCOPE. Repeatable.",
    ),
]


@dataclass(frozen=True, slots=True)
class Choice:
    """The set to publish, and how."""

    name: str
    prune: bool = False
    take: Sequence[str] = ()


def choice_of(name: str | None, *, prune: bool, take: Sequence[str] | None = None) -> Choice | None:
    """What the options say; None for a whole tree.

    :raises UsageError: one of them cannot be.
    """
    from ratectl.errors import UsageError
    from ratectl.publishing.ownership import set_problem
    from ratectl_cli.inputs.policies import scope_of

    if name is None:
        if prune or take:
            raise UsageError(
                f"{'--prune' if prune else '--take-ownership'} is for a set: add --set NAME"
            )
        return None
    problem = set_problem(name)
    if problem:
        raise UsageError(f"--set {name!r} is not the name of a set: {problem}")
    return Choice(name, prune, tuple(map(scope_of, take or ())))


@dataclass(frozen=True, slots=True)
class Whole:
    """The whole tree that would be live, with the findings that concern whoever publishes it."""

    loaded: Loaded
    merged: Merged | None
    """Where only a set is published."""
    before: Owners
    disowned: str | None = None
    """Why owners do not count, where a whole tree is published in spite of them."""

    @property
    def reowned(self) -> bool:
        """Whether publishing it changes who owns what."""
        if self.merged is None:
            return self.disowned is not None
        return self.merged.owners != self.before

    def beside(self, store: Store, base: Live, path: str) -> Beside:
        """What to keep with it."""
        from ratectl.history.generations import live_entry
        from ratectl.publishing.source_files import Beside, Documents, read_documents

        if self.merged is None:
            return Beside(Documents.read(path, self.loaded))
        documents = Documents.read(path, self.loaded, self.merged.name)
        if base.head is not None:
            others = read_documents(store, live_entry(store, base))
            documents = documents.beside(others, self.merged.name)
        return Beside(documents, self.merged.owners)


def whole_of(
    store: Store,
    base: Live,
    live: PolicyTree | None,
    loaded: Loaded,
    choice: Choice | None,
    signer: Signer | None = None,
) -> Whole:
    """What publishing what was read would make live, where ``live`` is, of ``base``.

    A whole tree is published whatever somebody did to the owners of the live generation: they count
    where they can be read and, for a ``signer``, where its key has signed them.

    :raises PolicyError: it does not hold together.
    :raises Refused: a set says what belongs to another, or a whole tree would be published in
        place of sets.
    :raises BundleError, NotFound: what is live, or who owns it, cannot be read, and a set is to be
        published beside it.
    """
    from ratectl.publishing.head import owners_to_respect
    from ratectl_cli.errors import Refused
    from ratectl_cli.inputs.policies import publishable

    _refuse_without_head(store, base, choice, signer)
    if choice is not None:
        return _with_set(store, base, live, loaded, choice)
    owners, disowned = owners_to_respect(store, base, signer)
    if owners:
        raise Refused(_instead_of_sets(base.generation, owners))
    return Whole(publishable(loaded, live), None, owners, disowned)


def _with_set(
    store: Store, base: Live, live: PolicyTree | None, loaded: Loaded, choice: Choice
) -> Whole:
    """Return what is live with one set of it replaced by what was read; raises as ``whole_of``."""
    from ratectl.errors import BundleError, PolicyError
    from ratectl.policy.language.model import PolicyTree
    from ratectl.publishing.ownership import judged, merge
    from ratectl_cli.errors import Refused

    owners = _owners(store, base)
    if live is None and base.head is not None:
        raise BundleError(
            f"generation {base.generation} cannot be read, so no set can be published beside the "
            "others: go back to one that can (`ratectl rollback --to GEN`)"
        )
    live = live or PolicyTree({})
    merged = merge(
        choice.name,
        loaded.tree,
        live,
        owners,
        generation=base.generation,
        prune=choice.prune,
        take=choice.take,
    )
    if merged.conflicts:
        from ratectl.policy.loading.loader import with_source_lines

        raise Refused(
            f"{plural(len(merged.conflicts), 'document')} of this set "
            f"{'is' if len(merged.conflicts) == 1 else 'are'} not its own in generation "
            f"{base.generation}",
            tuple(with_source_lines(merged.conflicts, loaded.texts)),
        )
    loaded = judged(loaded, merged, live, owners)
    if not loaded.ok:
        raise PolicyError(loaded.diagnostics)
    return Whole(loaded, merged, owners)


def _owners(store: Store, base: Live) -> Owners:
    """Return who owns what, for a set that is published beside others.

    :raises BundleError, NotFound: it cannot be read; says how to start afresh.
    """
    from ratectl.errors import BundleError, NotFound
    from ratectl.publishing.ownership import owners_blob, read_owners

    try:
        return read_owners(store, owners_blob(store, base))
    except (BundleError, NotFound) as error:
        error.add_note(
            "to start afresh, apply the files of the whole tree without --set, or go back to an "
            "earlier generation (`ratectl rollback --to GEN`)"
        )
        raise


def _refuse_without_head(
    store: Store, base: Live, choice: Choice | None, signer: Signer | None
) -> None:
    """Return if publishing takes nothing from sets, where the head is gone or cannot be read.

    :raises Refused: sets own parts of the last generation, or a set is to be published.
    """
    from ratectl.history.generations import highest_generation
    from ratectl_cli.errors import Refused

    last = 0 if base.head is not None else highest_generation(store)
    if not last:
        return
    if _has_owners(store, last, signer):
        raise Refused(
            f"nothing is live that can be read, and sets own parts of generation {last}, the last "
            f"one: publish it again first (`ratectl rollback --to {last}`)"
        )
    if choice is not None:
        raise Refused(
            "nothing is live that can be read, so no set can be published beside the others: apply "
            "the files of the whole tree without --set first, or go back to an earlier generation "
            "(`ratectl rollback --to GEN`)"
        )


def _has_owners(store: Store, generation: int, signer: Signer | None) -> bool:
    """Return True where sets own parts of a generation, by an entry that can be vouched for."""
    from ratectl.errors import BundleError, NotFound
    from ratectl.history.generations import read_entry
    from ratectl.signing.continuation import doubt

    try:
        entry = read_entry(store, generation)
    except (BundleError, NotFound):
        return False
    return entry.owners is not None and (signer is None or doubt(store, signer, entry) is None)


def _instead_of_sets(generation: int, owners: Owners) -> str:
    sets = owners.sets
    return (
        f"generation {generation} belongs to {'set' if len(sets) == 1 else 'sets'} "
        f"{_listed(sets)}, and PATH without --set is the whole tree: it would take from them what "
        "they own. Add --set NAME; to make one set of all, add --take-ownership / as well"
    )


# What is said of it -----------------------------------------------------------------------------


def set_data(name: str | None, merged: Merged | None) -> dict[str, Any]:
    """A set for programs: what it leaves, removes and takes."""
    from ratectl.publishing.handover import Moved

    return {"set": name, **(merged.moved if merged else Moved()).data()}


def set_lines(merged: Merged | None) -> Iterator[tuple[str, str]]:
    """A word and what it is about, for each thing that is worth saying of a set."""
    if merged is None:
        return
    moved = merged.moved
    if moved.taken:
        owners: dict[str, list[Item]] = {}
        for each in moved.taken:
            owners.setdefault(each.owner or "nobody", []).append(each)
        taken = [f"from {owner}: {_listed(items)}" for owner, items in sorted(owners.items())]
        yield "taken", f"set {merged.name} takes over, {'; '.join(taken)}"
    if moved.pruned:
        yield "pruned", f"set {merged.name} no longer holds {_listed(moved.pruned)}"
    if moved.left:
        left = f"set {merged.name} no longer holds {_listed(moved.left)}"
        yield "left", f"{left}, which stays as it is (--prune removes it)"


def set_blocks(merged: Merged | None) -> Iterator[Block]:
    """The same for people."""
    for word, text in set_lines(merged):
        yield [bold(f"{word}: ", "yellow"), text]


def _listed(found: Sequence[object]) -> str:
    more = len(found) - _NAMED
    return ", ".join(map(str, found[:_NAMED])) + (f" and {more} more" if more > 0 else "")
