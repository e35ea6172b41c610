"""Publish a whole tree, or one set of it: what would be live then, and who would own it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ratectl.errors import BundleError, NotFound, PolicyError, Refused, UsageError
from ratectl.history.generations import highest_generation, live_entry, read_entry
from ratectl.policy.language.model import PolicyTree
from ratectl.policy.language.scopes import checked_scope
from ratectl.policy.loading.loader import with_source_lines
from ratectl.publishing.head import owners_to_respect
from ratectl.publishing.ownership import judged, merge, owners_blob, read_owners, set_problem
from ratectl.publishing.reading import publishable
from ratectl.publishing.source_files import Beside, Documents, read_documents
from ratectl.runtime.wording import listed
from ratectl.signing.continuation import doubt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ratectl.history.generations import Live
    from ratectl.policy.loading.loader import Loaded
    from ratectl.publishing.ownership import Merged, Owners
    from ratectl.publishing.reading import PolicySource
    from ratectl.signing.signatures import Signer
    from ratectl.stores.base import Store

__all__ = ["SetChoice", "WholeTree", "assemble"]

_MAX_NAMED = 10
"""Sets named, at most, in a message."""


@dataclass(frozen=True, slots=True)
class SetChoice:
    """The set to publish, and how.

    :raises UsageError: ``name`` is not the name of a set, or ``take`` holds no scopes.
    """

    name: str
    prune: bool = False
    """Remove what the set owns and the new policies do not hold."""
    take: Sequence[str] = ()
    """Scopes at and below which the set takes over documents that it does not own."""

    def __post_init__(self) -> None:
        problem = set_problem(self.name)
        if problem:
            raise UsageError(f"{self.name!r} is not the name of a set: {problem}")
        if isinstance(self.take, str):
            raise UsageError(f"scopes to take over are a list, like [{self.take!r}]")
        for scope in self.take:
            checked_scope(scope)


@dataclass(frozen=True, slots=True)
class WholeTree:
    """The whole tree that would be live, with the findings that concern the publisher."""

    source: PolicySource
    loaded: Loaded
    before: Owners
    merged: Merged | None = None
    """The merge, if a set is published; None for a whole tree."""
    disowned: str | None = None
    """Why owners do not count, where a whole tree is published in spite of them."""

    @property
    def reowned(self) -> bool:
        """True if publishing it changes who owns what."""
        if self.merged is None:
            return self.disowned is not None
        return self.merged.owners != self.before

    def beside(self, store: Store, base: Live) -> Beside:
        """Return what is kept beside the bundle: source files, and owners."""
        path, loaded = self.source.path, self.loaded
        if self.merged is None:
            return Beside(Documents.read(path, loaded))
        documents = Documents.read(path, loaded, self.merged.name)
        if base.head is not None:
            others = read_documents(store, live_entry(store, base))
            documents = documents.beside(others, self.merged.name)
        return Beside(documents, self.merged.owners)


def assemble(
    store: Store,
    base: Live,
    live: PolicyTree | None,
    source: PolicySource,
    choice: SetChoice | None,
    signer: Signer | None = None,
) -> WholeTree:
    """Return what publishing ``source`` would make live, where ``live``, of ``base``, is live now.

    A whole tree is published whatever somebody did to the owners of the live generation: owners
    count if they can be read and, with a ``signer``, if its key has signed them.

    :raises PolicyError: the tree is invalid.
    :raises Refused: the set names documents of another set, or a whole tree would replace sets.
    :raises BundleError, NotFound: what is live, or who owns it, cannot be read, and a set is to be
        published beside it.
    """
    _refuse_without_head(store, base, choice, signer)
    if choice is not None:
        return _with_set(store, base, live, source, choice)
    owners, disowned = owners_to_respect(store, base, signer)
    if owners:
        raise Refused(_instead_of_sets(base.generation, owners))
    return WholeTree(source, publishable(source.loaded, live), owners, disowned=disowned)


def _with_set(
    store: Store, base: Live, live: PolicyTree | None, source: PolicySource, choice: SetChoice
) -> WholeTree:
    """Return what is live with one set of it replaced; raises as ``assemble``."""
    owners = _owners(store, base)
    if live is None and base.head is not None:
        raise BundleError(
            f"generation {base.generation} cannot be read, so no set can be published beside the "
            "others: go back to one that can (`ratectl rollback --to GEN`)"
        )
    live = live or PolicyTree({})
    merged = merge(
        choice.name,
        source.loaded.tree,
        live,
        owners,
        generation=base.generation,
        prune=choice.prune,
        take=choice.take,
    )
    if merged.conflicts:
        count = len(merged.conflicts)
        raise Refused(
            f"{count} {'document' if count == 1 else 'documents'} in PATH "
            f"{'does' if count == 1 else 'do'} not belong to this set in generation "
            f"{base.generation}",
            with_source_lines(merged.conflicts, source.loaded.texts),
        )
    loaded = judged(source.loaded, merged, live, owners)
    if not loaded.ok:
        raise PolicyError(loaded.diagnostics)
    return WholeTree(source, loaded, owners, merged)


def _owners(store: Store, base: Live) -> Owners:
    """Return who owns what, for a set that is published beside others.

    :raises BundleError, NotFound: it cannot be read; says how to start afresh.
    """
    try:
        return read_owners(store, owners_blob(store, base))
    except (BundleError, NotFound) as error:
        error.add_note(
            "to start afresh, apply the files of the whole tree without --set, or go back to an "
            "earlier generation (`ratectl rollback --to GEN`)"
        )
        raise


def _refuse_without_head(
    store: Store, base: Live, choice: SetChoice | None, signer: Signer | None
) -> None:
    """Return if publishing takes nothing from sets, where the head is gone or cannot be read.

    :raises Refused: sets own parts of the last generation, or a set is to be published.
    """
    last = 0 if base.head is not None else highest_generation(store)
    if not last:
        return
    if _has_owners(store, last, signer):
        raise Refused(
            f"no readable generation is live, and sets own parts of generation {last}, the last "
            f"one: publish that one again first (`ratectl rollback --to {last}`)"
        )
    if choice is not None:
        raise Refused(
            "no readable generation is live, so no set can be published beside the others: apply "
            "the files of the whole tree without --set first, or go back to an earlier generation "
            "(`ratectl rollback --to GEN`)"
        )


def _has_owners(store: Store, generation: int, signer: Signer | None) -> bool:
    """Return True where sets own parts of a generation, by an entry that can be vouched for."""
    try:
        entry = read_entry(store, generation)
    except (BundleError, NotFound):
        return False
    return entry.owners is not None and (signer is None or doubt(store, signer, entry) is None)


def _instead_of_sets(generation: int, owners: Owners) -> str:
    sets = owners.sets
    named = listed(sets, _MAX_NAMED)
    return (
        f"generation {generation} belongs to {'set' if len(sets) == 1 else 'sets'} "
        f"{named}, and PATH without --set is the whole tree: it would take all "
        "policies from their sets. Add --set NAME; to make one set of all, add --take-ownership / "
        "as well"
    )
