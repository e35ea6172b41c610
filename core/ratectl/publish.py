"""Publishing: a tree becomes the next generation, atomically and at any size.

The bytes go first, in chunks under their hash, which nobody reads yet. Then one transaction, which
compares the head with what the publisher saw and the blobs' manifests with what it wrote, swaps the
head and adds the history entry. Of two publishers exactly one wins.
"""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from ratectl.errors import Conflict, NotFound, OutcomeUnknown, StoreUnavailable
from ratectl.generations import Live, read_entry, read_history, read_live
from ratectl.policy.bundle import digest, encode_origins, encode_policies
from ratectl.records import (
    BUNDLES,
    ENVIRONMENT,
    HEAD,
    MANIFESTS,
    Environment,
    Head,
    HistoryEntry,
    Manifest,
    chunk_key,
    history_key,
    utc_now,
)
from ratectl.stores.base import MAX_OPS, Compare, Delete, Put

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ratectl.policy.model import PolicyTree
    from ratectl.stores.base import Item, Op, Store

__all__ = ["CHUNK_BYTES", "KEPT", "Provenance", "collect_garbage", "publish", "rollback"]

CHUNK_BYTES: Final = 512 * 1024
"""A third of what etcd accepts in a request by default."""

KEPT: Final = 1_000
"""Generations kept in the history."""

GARBAGE_AGE: Final = timedelta(hours=1)
"""A blob that no kept generation names lives this long: a slow publisher may still want it."""

_COLLECT_EVERY: Final = 50
_READ_BACK_SECONDS: Final = 3.0
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


@dataclass(frozen=True, slots=True)
class _Content:
    """What a generation will hold, besides its number and time."""

    action: str
    bundle: str
    origins: str | None
    summary: Mapping[str, int]
    rollback_of: int | None = None


def publish(
    store: Store,
    tree: PolicyTree,
    provenance: Provenance,
    *,
    base: Live | None = None,
    summary: Mapping[str, int] | None = None,
) -> HistoryEntry | None:
    """Make ``tree`` the live generation; None when it already is, to the letter of its bundle.

    ``base`` is the head that the decision to publish was made on (read now when not given).

    :raises Conflict: somebody published since ``base``; the message says who and when.
    :raises OutcomeUnknown: the reply was lost and re-reading did not settle it. Publishing again is
        safe: it cannot make a second generation of the same content.
    """
    base = base or read_live(store)
    bundle = encode_policies(tree)
    if base.head is not None and base.head.bundle == digest(bundle):
        return None
    ensure_environment(store)
    origins = encode_origins(tree) if tree.sources else None
    blobs = [bundle] if origins is None else [bundle, origins]
    content = _Content("apply", digest(bundle), digest(origins) if origins else None, summary or {})
    manifests = [_write_blob(store, blob) for blob in blobs]
    return _commit(store, base, content, manifests, provenance)


def rollback(
    store: Store, to: int, provenance: Provenance, *, base: Live | None = None,
    summary: Mapping[str, int] | None = None,
) -> HistoryEntry | None:  # fmt: skip
    """Publish the content of generation ``to`` again, as a new generation.

    None when that content is live already.

    :raises NotFound: generation ``to`` or its bundle is not kept.
    :raises Conflict: somebody published since ``base``.
    """
    base = base or read_live(store)
    entry = read_entry(store, to)
    if base.head is not None and base.head.bundle == entry.bundle:
        return None
    manifests = [_want_blob(store, entry.bundle)]
    origins = entry.origins
    if origins is not None:
        try:
            manifests.append(_want_blob(store, origins))
        except NotFound:
            origins = None
    content = _Content("rollback", entry.bundle, origins, summary or {}, rollback_of=to)
    return _commit(store, base, content, manifests, provenance)


def ensure_environment(store: Store) -> Environment:
    """The store's identity, given to it now if it has none."""
    for _ in range(2):
        item = store.get(ENVIRONMENT)
        if item is not None:
            return Environment.decode(item.value)
        fresh = Environment(id=uuid.uuid4().hex, created=utc_now())
        store.txn([Compare(ENVIRONMENT, 0)], [Put(ENVIRONMENT, fresh.encode())])
    raise StoreUnavailable(store.url, "the environment's identity did not stay written")


def _commit(
    store: Store,
    base: Live,
    content: _Content,
    manifests: list[Item],
    provenance: Provenance,
) -> HistoryEntry:
    generation = base.generation + 1
    entry = HistoryEntry(
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
        passed=dict(provenance.passed),
    )
    sequence = base.head.sequence + 1 if base.head else 1
    head = Head(sequence=sequence, generation=generation, bundle=content.bundle)
    write: list[Op] = [Put(HEAD, head.encode()), Put(history_key(generation), entry.encode())]
    if generation > KEPT:
        write.append(Delete(history_key(generation - KEPT)))
    for _ in range(_ATTEMPTS):
        compare = [Compare(item.key, item.mod_revision) for item in manifests]
        if _swap_head(store, base, entry, compare, write):
            break
        if read_live(store).mod_revision != base.mod_revision:
            raise _lost_race(store, base)
        # Only a manifest moved: another publisher wants the same bytes. That is no conflict.
        manifests = [_stored(store, item.key.removeprefix(MANIFESTS)) for item in manifests]
    else:
        raise Conflict("the same bytes are being published by many at once: apply again")
    if generation % _COLLECT_EVERY == 0:
        collect_garbage(store)
    return entry


def _swap_head(
    store: Store, base: Live, entry: HistoryEntry, compare: list[Compare], write: list[Op]
) -> bool:
    try:
        return store.txn([Compare(HEAD, base.mod_revision), *compare], write).ok
    except OutcomeUnknown as lost:
        return _settle(store, base, entry, lost)


def _settle(store: Store, base: Live, entry: HistoryEntry, lost: OutcomeUnknown) -> bool:
    """Find out by reading whether a write whose reply was lost has been applied."""
    deadline = time.monotonic() + _READ_BACK_SECONDS
    while True:
        try:
            item = store.get(history_key(entry.generation))
            if item is not None:
                return HistoryEntry.decode(item.value).request == entry.request
            if read_live(store).mod_revision != base.mod_revision:
                return False
        except StoreUnavailable:
            pass
        if time.monotonic() >= deadline:
            raise OutcomeUnknown(
                f"generation {entry.generation} may or may not have been published ({lost}); "
                "see `ratectl history`. Applying again is safe."
            ) from lost
        time.sleep(0.1)


def _lost_race(store: Store, base: Live) -> Conflict:
    now = read_live(store)
    if now.head is None:
        return Conflict(f"generation {base.generation} was live, now none is: the head is gone")
    try:
        winner = read_entry(store, now.generation)
        what = f"generation {winner.generation} ({winner.action} by {winner.author}, {winner.time})"
    except NotFound:
        what = f"generation {now.generation}"
    return Conflict(
        f"{what} was published meanwhile; this was based on "
        f"{f'generation {base.generation}' if base.head else 'an empty store'}: "
        "look at the change and apply again"
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


def _stored(store: Store, sha256: str) -> Item:
    item = store.get(MANIFESTS + sha256)
    if item is None:
        raise NotFound(f"bundle {sha256[:12]} is no longer in the store")
    return item


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
    named = {blob for entry in entries for blob in (entry.bundle, entry.origins) if blob}
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
