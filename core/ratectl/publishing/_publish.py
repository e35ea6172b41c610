"""Make a tree the next generation, atomically and at any size. No guard is asked here.

Private: see ``ratectl.publishing.proposal`` for the way in.

The bytes go first, in chunks under their hash, which nobody reads yet. Then one transaction, which
compares the head with what the publisher saw and the blobs' manifests with what it wrote, swaps the
head and adds the history entry. Of two publishers exactly one wins.
"""

from __future__ import annotations

import uuid
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from ratectl.errors import BundleError, Conflict
from ratectl.history.blobs import (
    collect_garbage,
    is_intact,
    still_stored,
    want_blob,
    want_if_kept,
    write_blob,
)
from ratectl.history.generations import Live, read_base, read_entry
from ratectl.policy.bundle import EncodedTree, digest, encode_origins
from ratectl.publishing.head import lost_race, publishing_base, signed, swap_head
from ratectl.publishing.ownership import owners_blob
from ratectl.records import (
    Candidate,
    Head,
    HistoryEntry,
    history_key,
    rollout_key,
    utc_now,
)
from ratectl.signing.continuation import ensure_environment, signature, vouch
from ratectl.stores.base import Compare, Delete

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ratectl.policy.language.model import PolicyTree
    from ratectl.publishing.provenance import Provenance
    from ratectl.publishing.source_files import Beside
    from ratectl.signing.signatures import Signer
    from ratectl.stores.base import Item, Op, Store

__all__ = [
    "KEPT",
    "Trial",
    "being_tried",
    "commit",
    "is_live",
    "no_rollout",
    "publish",
    "rollback",
    "upload",
    "vouch_for_entry",
]

KEPT: Final = 1_000
"""Generations kept in the history."""

_COLLECT_EVERY: Final = 50
_ATTEMPTS: Final = 20
_APPLY_INSTEAD: Final = (
    "Apply its files instead, from where they are reviewed; `ratectl pull --generation {}` shows "
    "what the store holds, which anybody may have written"
)


@dataclass(frozen=True, slots=True)
class Content:
    """Contents of a generation, without its number and time."""

    action: str
    bundle: str
    origins: str | None
    summary: Mapping[str, int]
    manifests: Sequence[Item]
    """Manifests of its blobs. ``commit`` fails if one of them was collected as garbage."""
    rollback_of: int | None = None
    documents: str | None = None
    owners: str | None = None
    trial: Trial | None = None
    """Terms of a candidate; None to go live at once."""

    def head(self, base: Live) -> Head:
        """Return the head that replaces ``base``."""
        sequence = base.next_sequence
        if self.trial is None:
            return Head(
                sequence=sequence, generation=base.next, bundle=self.bundle, latest=base.next
            )
        assert base.head is not None, "a candidate is tried beside a live generation"
        candidate = Candidate(
            generation=base.next,
            bundle=self.bundle,
            rollout=self.trial.rollout,
            percent=self.trial.percent,
            mode=self.trial.mode,
            terms=self.trial.terms,
        )
        return replace(base.head, sequence=sequence, candidate=candidate, latest=base.next)


class Trial(NamedTuple):
    """First stage of a candidate."""

    rollout: str
    percent: float
    mode: Literal["enforce", "shadow"]
    terms: str
    """See ``Candidate``."""


def publish(
    store: Store,
    tree: PolicyTree | EncodedTree,
    provenance: Provenance,
    *,
    base: Live | None = None,
    summary: Mapping[str, int] | None = None,
    signer: Signer | None = None,
    beside: Beside | None = None,
    rewrite: bool = False,
) -> HistoryEntry | None:
    """Make ``tree`` the live generation; None if its bundle is live already.

    ``rewrite``: publish it even if it is live, to remove its signature. A signer always
    publishes it if the head in the store must not be continued (see ``head``).

    ``base``: the head that the publisher saw (default: read now). A change of owners makes a new
    generation of the same tree.

    ``signer`` signs the whole tree. A caller that merged live parts into it verifies them first
    (``head.must_continue``).

    :raises Conflict: somebody published since ``base`` (the message says who and when), or a
        rollout is under way.
    :raises OutcomeUnknown: the reply was lost and re-reading did not settle it. Publishing again is
        safe: it makes no second generation of the same content.
    """
    tree = EncodedTree.of(tree)
    base = publishing_base(store, signer, base)
    no_rollout(base)
    if not rewrite and is_live(store, base, tree.address, beside):
        return None
    content = upload(store, tree, "apply", summary or {}, beside=beside)
    return commit(store, base, content, provenance, signer=signer)


def is_live(store: Store, base: Live, address: str, beside: Beside | None) -> bool:
    """Return True if the bundle at an address is live already, with the same owners.

    A bundle that cannot be read does not count as live.
    """
    if base.fresh or base.head is None or base.head.bundle != address:
        return False
    if not is_intact(store, base.head.bundle):
        return False
    try:
        return beside is None or owners_blob(store, base) == _address(beside.encode()[1])
    except BundleError:
        return False


def upload(
    store: Store,
    tree: PolicyTree | EncodedTree,
    action: str,
    summary: Mapping[str, int],
    trial: Trial | None = None,
    beside: Beside | None = None,
) -> Content:
    """Write the blobs of a generation under their hashes: no reader looks for them yet."""
    ensure_environment(store)
    encoded = EncodedTree.of(tree)
    origins = encode_origins(encoded.tree) if encoded.tree.sources else None
    files, owners = beside.encode() if beside else (None, None)
    blobs = (encoded.policies, origins, files, owners)
    return Content(
        action,
        encoded.address,
        _address(origins),
        summary,
        [write_blob(store, blob) for blob in blobs if blob is not None],
        documents=_address(files),
        owners=_address(owners),
        trial=trial,
    )


def _address(blob: bytes | None) -> str | None:
    return None if blob is None else digest(blob)


def no_rollout(base: Live) -> None:
    """:raises Conflict: a candidate is being tried beside the live generation."""
    tried = being_tried(base)
    if tried is not None:
        raise Conflict(tried)


def being_tried(base: Live) -> str | None:
    """Return why nothing can be published while a candidate is tried; None if none is.

    A candidate of a head that must not be continued does not prevent publishing.
    """
    if base.candidate is None or base.fresh is not None:
        return None
    return (
        f"generation {base.candidate.generation} is being tried beside generation "
        f"{base.generation}: `ratectl rollout promote` or `ratectl rollout abort` first"
    )


def rollback(
    store: Store, to: int, provenance: Provenance, *, base: Live | None = None,
    summary: Mapping[str, int] | None = None, signer: Signer | None = None,
) -> HistoryEntry | None:  # fmt: skip
    """Publish the content of generation ``to`` again, as a new generation.

    None if that content is live already.

    :raises NotFound: generation ``to``, its bundle, or who owned it is not kept.
    :raises Conflict: somebody published since ``base``, or a rollout is under way.
    :raises Untrusted: the key of ``signer`` has not signed generation ``to``.
    """
    base = publishing_base(store, signer, base)
    no_rollout(base)
    entry = read_entry(store, to)
    if (
        base.head is not None
        and base.fresh is None
        and base.head.bundle == entry.bundle
        and owners_blob(store, base) == entry.owners
    ):
        return None
    if signer is not None:
        vouch_for_entry(store, signer, entry)
    manifests = [want_blob(store, blob) for blob in (entry.bundle, entry.owners) if blob]
    content = Content(
        "rollback",
        entry.bundle,
        want_if_kept(store, entry.origins, manifests),
        summary or {},
        manifests,
        rollback_of=to,
        documents=want_if_kept(store, entry.documents, manifests),
        owners=entry.owners,
    )
    return commit(store, base, content, provenance, signer=signer)


def vouch_for_entry(store: Store, signer: Signer, entry: HistoryEntry) -> None:
    """Return if ``signer`` may publish a generation again.

    :raises Untrusted: it has not signed that generation.
    """
    generation = entry.generation
    vouch(store, signer, entry, f"generation {generation}", _APPLY_INSTEAD.format(generation))


def commit(
    store: Store,
    base: Live,
    content: Content,
    provenance: Provenance,
    others: Sequence[Op] = (),
    *,
    signer: Signer | None = None,
) -> HistoryEntry:
    """Swap the head and add the history entry, and write ``others`` in the same transaction.

    :raises Conflict: the head is not ``base`` any more.
    :raises OutcomeUnknown: the reply was lost and re-reading did not settle it.
    """
    entry = _entry(base.next, content, provenance)
    entry = replace(entry, signature=signature(store, signer, entry))
    head = signed(store, content.head(base), signer)
    write = [*others]
    if entry.generation > KEPT:
        oldest = entry.generation - KEPT
        write += [Delete(history_key(oldest)), Delete(rollout_key(oldest))]
    key = history_key(entry.generation)
    manifests = content.manifests
    again = "roll back again" if content.action == "rollback" else "apply again"
    for _ in range(_ATTEMPTS):
        compare = [Compare(item.key, item.mod_revision) for item in manifests]
        if swap_head(store, base, head, key, entry, write, compare):
            break
        if read_base(store).mod_revision != base.mod_revision:
            raise lost_race(store, base, again)
        # Only a manifest changed: another publisher uses the same bytes. That is no conflict.
        manifests = [still_stored(store, item) for item in manifests]
    else:
        raise Conflict(f"the same bytes are being published by many at once: {again}")
    if entry.generation % _COLLECT_EVERY == 0:
        with suppress(BundleError):  # an unreadable entry may name blobs: collect none
            collect_garbage(store)
    return entry


def _entry(generation: int, content: Content, provenance: Provenance) -> HistoryEntry:
    return HistoryEntry(
        generation=generation,
        bundle=content.bundle,
        origins=content.origins,
        action=content.action,
        author=provenance.author,
        time=utc_now(),
        message=provenance.message,
        commit=provenance.commit,
        dirty=provenance.dirty,
        summary=dict(content.summary),
        request=uuid.uuid4().hex,
        rollback_of=content.rollback_of,
        documents=content.documents,
        owners=content.owners,
        set=provenance.set,
        passed=dict(provenance.passed),
    )
