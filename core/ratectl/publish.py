"""Publishing: a tree becomes the next generation, atomically and at any size.

The bytes go first, in chunks under their hash, which nobody reads yet. Then one transaction, which
compares the head with what the publisher saw and the blobs' manifests with what it wrote, swaps the
head and adds the history entry. Of two publishers exactly one wins.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from ratectl.errors import Conflict, NotFound, OutcomeUnknown
from ratectl.generations import Live, read_entry, read_history, read_live
from ratectl.heads import ensure_environment, lost_race, signed, swap_head
from ratectl.policy.bundle import digest, encode_origins, encode_policies
from ratectl.records import (
    BUNDLES,
    MANIFESTS,
    Candidate,
    Head,
    HistoryEntry,
    Manifest,
    chunk_key,
    history_key,
    rollout_key,
    utc_now,
)
from ratectl.sets import owners_blob
from ratectl.signing import Untrusted
from ratectl.stores.base import MAX_OPS, Compare, Delete, Put

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ratectl.documents import Beside
    from ratectl.policy.model import PolicyTree
    from ratectl.signing import Signer
    from ratectl.stores.base import Item, Op, Store

__all__ = [
    "CHUNK_BYTES",
    "KEPT",
    "Provenance",
    "Trial",
    "collect_garbage",
    "commit",
    "is_live",
    "no_rollout",
    "publish",
    "rollback",
    "upload",
]

CHUNK_BYTES: Final = 512 * 1024
"""A third of what etcd accepts in a request by default."""

KEPT: Final = 1_000
"""Generations kept in the history."""

GARBAGE_AGE: Final = timedelta(hours=1)
"""A blob that no kept generation names lives this long: a slow publisher may still want it."""

_COLLECT_EVERY: Final = 50
_ATTEMPTS: Final = 20


@dataclass(frozen=True, slots=True)
class Provenance:
    """Who publishes, why, and from which state of which repository."""

    author: str
    message: str = ""
    commit: str | None = None
    dirty: bool | None = None
    passed: Mapping[str, str] = field(default_factory=dict)
    """Guards that said no (see ``guards``), and why it was done all the same."""
    set: str | None = None
    """The part of the tree that is published (see ``sets``)."""


@dataclass(frozen=True, slots=True)
class Content:
    """What a generation will hold, besides its number and time."""

    action: str
    bundle: str
    origins: str | None
    summary: Mapping[str, int]
    manifests: Sequence[Item]
    """Of the blobs that it consists of: nobody may collect these meanwhile."""
    rollback_of: int | None = None
    documents: str | None = None
    owners: str | None = None
    trial: Trial | None = None
    """For a candidate: how it is tried. Otherwise it goes live at once."""

    def head(self, base: Live) -> Head:
        """The head that publishes it where ``base`` is the head."""
        sequence = base.head.sequence + 1 if base.head else 1
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
    """How a candidate is tried at first."""

    rollout: str
    percent: float
    mode: Literal["enforce", "shadow"]
    terms: str
    """See ``Candidate``."""


def publish(
    store: Store,
    tree: PolicyTree,
    provenance: Provenance,
    *,
    base: Live | None = None,
    summary: Mapping[str, int] | None = None,
    signer: Signer | None = None,
    beside: Beside | None = None,
) -> HistoryEntry | None:
    """Make ``tree`` the live generation; None when it already is, to the letter of its bundle.

    ``base`` is the head that the decision to publish was made on (read now when not given).
    Owners that are others than before make a generation of the same tree.

    :raises Conflict: somebody published since ``base`` (the message says who and when), or a
        rollout is under way.
    :raises OutcomeUnknown: the reply was lost and re-reading did not settle it. Publishing again is
        safe: it cannot make a second generation of the same content.
    """
    base = base or read_live(store)
    no_rollout(base)
    if is_live(store, base, tree, beside):
        return None
    content = upload(store, tree, "apply", summary or {}, beside=beside)
    return commit(store, base, content, provenance, signer=signer)


def is_live(store: Store, base: Live, tree: PolicyTree, beside: Beside | None) -> bool:
    """Whether the tree is live already, and owned as it is to be."""
    if base.head is None or base.head.bundle != digest(encode_policies(tree)):
        return False
    return beside is None or owners_blob(store, base) == _address(beside.encode()[1])


def upload(
    store: Store,
    tree: PolicyTree,
    action: str,
    summary: Mapping[str, int],
    trial: Trial | None = None,
    beside: Beside | None = None,
) -> Content:
    """Write what a generation consists of, under its hashes: nobody reads it yet."""
    ensure_environment(store)
    bundle = encode_policies(tree)
    origins = encode_origins(tree) if tree.sources else None
    files, owners = beside.encode() if beside else (None, None)
    blobs = (bundle, origins, files, owners)
    return Content(
        action,
        digest(bundle),
        _address(origins),
        summary,
        [_write_blob(store, blob) for blob in blobs if blob is not None],
        documents=_address(files),
        owners=_address(owners),
        trial=trial,
    )


def _address(blob: bytes | None) -> str | None:
    return None if blob is None else digest(blob)


def no_rollout(base: Live) -> None:
    """:raises Conflict: a candidate is being tried beside the live generation."""
    if base.head is not None and base.head.candidate is not None:
        raise Conflict(
            f"generation {base.head.candidate.generation} is being tried beside generation "
            f"{base.generation}: `ratectl rollout promote` or `ratectl rollout abort` first"
        )


def rollback(
    store: Store, to: int, provenance: Provenance, *, base: Live | None = None,
    summary: Mapping[str, int] | None = None, signer: Signer | None = None,
) -> HistoryEntry | None:  # fmt: skip
    """Publish the content of generation ``to`` again, as a new generation.

    None when that content is live already.

    :raises NotFound: generation ``to``, its bundle, or who owned it is not kept.
    :raises Conflict: somebody published since ``base``, or a rollout is under way.
    :raises Untrusted: the key of ``signer`` has not signed generation ``to``.
    """
    base = base or read_live(store)
    no_rollout(base)
    entry = read_entry(store, to)
    if (
        base.head is not None
        and base.head.bundle == entry.bundle
        and owners_blob(store, base) == entry.owners
    ):
        return None
    if signer is not None:
        _vouched_for(store, entry, signer)
    manifests = [_want_blob(store, blob) for blob in (entry.bundle, entry.owners) if blob]
    content = Content(
        "rollback",
        entry.bundle,
        _if_kept(store, entry.origins, manifests),
        summary or {},
        manifests,
        rollback_of=to,
        documents=_if_kept(store, entry.documents, manifests),
        owners=entry.owners,
    )
    return commit(store, base, content, provenance, signer=signer)


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
    entry = _signed_entry(store, _entry(base.next, content, provenance), signer)
    head = signed(store, content.head(base), signer, base.head if content.trial else None)
    key = history_key(entry.generation)
    write: list[Op] = [Put(key, entry.encode()), *others]
    if entry.generation > KEPT:
        oldest = entry.generation - KEPT
        write += [Delete(history_key(oldest)), Delete(rollout_key(oldest))]

    def landed() -> bool | None:
        item = store.get(key)
        if item is not None:
            return HistoryEntry.decode(item.value).request == entry.request
        return None if read_live(store).mod_revision == base.mod_revision else False

    manifests = content.manifests
    for _ in range(_ATTEMPTS):
        compare = [Compare(item.key, item.mod_revision) for item in manifests]
        if swap_head(store, base, head, write, compare, landed=landed):
            break
        if read_live(store).mod_revision != base.mod_revision:
            raise lost_race(store, base)
        # Only a manifest moved: another publisher wants the same bytes. That is no conflict.
        manifests = [_still_stored(store, item) for item in manifests]
    else:
        raise Conflict("the same bytes are being published by many at once: apply again")
    if entry.generation % _COLLECT_EVERY == 0:
        collect_garbage(store)
    return entry


def _signed_entry(store: Store, entry: HistoryEntry, signer: Signer | None) -> HistoryEntry:
    if signer is None:
        return entry
    environment = ensure_environment(store).id
    return replace(entry, signature=signer.sign("generation", environment, entry.signed_part()))


def _vouched_for(store: Store, entry: HistoryEntry, signer: Signer) -> None:
    """:raises Untrusted: this key has not signed what is to be published again."""
    try:
        environment = ensure_environment(store).id
        signer.trust.prove("generation", entry.signed_part(), entry.signature, environment)
    except Untrusted as error:
        raise Untrusted(
            f"generation {entry.generation} would be signed, and cannot be vouched for: {error}. "
            "Apply its files instead"
        ) from None


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


def _write_blob(store: Store, data: bytes) -> Item:
    """Upload the chunks, then the manifest; returns the manifest as stored."""
    sha256 = digest(data)
    try:
        return _want_blob(store, sha256)
    except NotFound:
        pass
    chunks = [data[at : at + CHUNK_BYTES] for at in range(0, len(data), CHUNK_BYTES)]
    for number, chunk in enumerate(chunks):
        _put(store, chunk_key(sha256, number), chunk)
    manifest = Manifest(size=len(data), chunks=len(chunks), wanted=utc_now())
    _put(store, MANIFESTS + sha256, manifest.encode())
    return _stored(store, sha256)


def _want_blob(store: Store, sha256: str) -> Item:
    """Mark a stored blob as wanted, so that nobody collects it meanwhile."""
    while True:
        item = _stored(store, sha256)
        known = Manifest.decode(item.value)
        wanted = Manifest(size=known.size, chunks=known.chunks, wanted=utc_now())
        # Compared, because the collector may be deleting the chunks just now.
        if store.txn([Compare(item.key, item.mod_revision)], [Put(item.key, wanted.encode())]).ok:
            return _stored(store, sha256)


def _if_kept(store: Store, sha256: str | None, manifests: list[Item]) -> str | None:
    """Want what is a comfort, and no condition: None where it is gone."""
    if sha256 is not None:
        try:
            manifests.append(_want_blob(store, sha256))
        except NotFound:
            return None
    return sha256


def _stored(store: Store, sha256: str) -> Item:
    item = store.get(MANIFESTS + sha256)
    if item is None:
        raise NotFound(f"bundle {sha256[:12]} is no longer in the store")
    return item


def _still_stored(store: Store, manifest: Item) -> Item:
    """:raises Conflict: a collector by whose clock it was an hour old has taken it away."""
    try:
        return _stored(store, manifest.key.removeprefix(MANIFESTS))
    except NotFound as error:
        raise Conflict(
            f"{error}: it was collected before it could go live, so some machine's clock is wrong. "
            "Apply again"
        ) from None


def _put(store: Store, key: str, value: bytes) -> None:
    """Write content-addressed bytes: twice does no harm, so a lost reply is retried."""
    try:
        store.put(key, value)
    except OutcomeUnknown:
        store.put(key, value)


def collect_garbage(store: Store, *, age: timedelta = GARBAGE_AGE) -> int:
    """Delete blobs that no kept generation names and nobody wanted for ``age``.

    Returns how many.
    """
    entries = read_history(store)
    named = {blob for entry in entries for blob in entry.blobs}
    live = read_live(store)
    if live.head is not None:
        named.add(live.head.bundle)
    oldest = datetime.now(UTC) - age
    deleted = 0
    for item in store.list(MANIFESTS).items:
        sha256 = item.key.removeprefix(MANIFESTS)
        wanted = datetime.fromisoformat(Manifest.decode(item.value).wanted)
        if sha256 not in named and wanted < oldest:
            deleted += _delete_blob(store, item, sha256)
    return deleted


def _delete_blob(store: Store, manifest: Item, sha256: str) -> bool:
    keys = [chunk.key for chunk in store.list(f"{BUNDLES}{sha256}/").items]
    first, rest = keys[: MAX_OPS - 2], keys[MAX_OPS - 2 :]
    mine = store.txn(
        [Compare(manifest.key, manifest.mod_revision)],
        [Delete(manifest.key), *(Delete(key) for key in first)],
    ).ok
    # Chunks beyond one transaction: nobody can name them any more without writing them again.
    while mine and rest:
        batch, rest = rest[:MAX_OPS], rest[MAX_OPS:]
        store.txn([Compare(manifest.key, 0)], [Delete(key) for key in batch])
    return mine
