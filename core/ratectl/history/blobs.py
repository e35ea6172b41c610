"""Blobs: bytes stored in chunks under their hash, before any record names them.

The manifest of a blob has its size, the number of chunks, and the time when a publisher last wanted
it. A blob is garbage if no kept generation names it and no publisher has wanted it for an hour.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from ratectl.errors import BundleError, Conflict, NotFound, OutcomeUnknown
from ratectl.history.generations import read_blob, read_history, read_live, read_manifest
from ratectl.policy.bundle import digest
from ratectl.records import BUNDLES, MANIFESTS, Manifest, chunk_key, utc_now
from ratectl.stores.base import MAX_OPS, Compare, Delete, Put

if TYPE_CHECKING:
    from ratectl.stores.base import Item, Store

__all__ = [
    "CHUNK_BYTES",
    "collect_garbage",
    "is_intact",
    "still_stored",
    "want_blob",
    "want_if_kept",
    "write_blob",
]

CHUNK_BYTES: Final = 512 * 1024
"""Size of a chunk: a third of the default request limit of etcd."""

GARBAGE_AGE: Final = timedelta(hours=1)
"""Age at which a blob without a generation is garbage: a slow publisher may still need it."""


def write_blob(store: Store, data: bytes) -> Item:
    """Upload the chunks, then the manifest; return the manifest as stored.

    A blob that is stored already is verified, and written again if it is damaged.
    """
    sha256 = digest(data)
    try:
        wanted = want_blob(store, sha256)
    except (NotFound, BundleError):
        wanted = None
    if wanted is not None and is_intact(store, sha256):
        return wanted
    chunks = [data[at : at + CHUNK_BYTES] for at in range(0, len(data), CHUNK_BYTES)]
    for number, chunk in enumerate(chunks):
        _put(store, chunk_key(sha256, number), chunk)
    _delete_others(store, sha256, len(chunks))
    manifest = Manifest(size=len(data), chunks=len(chunks), wanted=utc_now())
    _put(store, MANIFESTS + sha256, manifest.encode())
    return _stored(store, sha256)


def is_intact(store: Store, sha256: str) -> bool:
    """Return True if a blob can be read, and its bytes have its hash."""
    try:
        read_blob(store, sha256)
    except (NotFound, BundleError):
        return False
    return True


def _delete_others(store: Store, sha256: str, count: int) -> None:
    """Delete other keys from the folder of a blob's chunks: readers count the keys there."""
    chunks = {chunk_key(sha256, number) for number in range(count)}
    for item in store.list(f"{BUNDLES}{sha256}/").items:
        if item.key not in chunks:
            store.delete(item.key)


def want_blob(store: Store, sha256: str) -> Item:
    """Mark a stored blob as wanted now, so that the collector keeps it; return its manifest.

    :raises NotFound: it is not stored.
    :raises BundleError: its manifest cannot be read.
    """
    while True:
        item = _stored(store, sha256)
        known = read_manifest(item)
        wanted = Manifest(size=known.size, chunks=known.chunks, wanted=utc_now())
        # Compare, as the collector may delete the chunks at this moment.
        if store.txn([Compare(item.key, item.mod_revision)], [Put(item.key, wanted.encode())]).ok:
            return _stored(store, sha256)


def want_if_kept(store: Store, sha256: str | None, manifests: list[Item]) -> str | None:
    """Mark an optional blob as wanted, and add its manifest; None if it is gone or damaged."""
    if sha256 is not None:
        try:
            manifests.append(want_blob(store, sha256))
        except (NotFound, BundleError):
            return None
    return sha256


def _stored(store: Store, sha256: str) -> Item:
    item = store.get(MANIFESTS + sha256)
    if item is None:
        raise NotFound(f"bundle {sha256[:12]} is no longer in the store")
    return item


def still_stored(store: Store, manifest: Item) -> Item:
    """Return the current manifest of a blob.

    :raises Conflict: a collector, by whose clock the blob was too old, has deleted it.
    """
    try:
        return _stored(store, manifest.key.removeprefix(MANIFESTS))
    except NotFound as error:
        raise Conflict(
            f"{error}: it was deleted as unused before it went live, so some machine's clock is "
            "wrong. Apply again"
        ) from None


def _put(store: Store, key: str, value: bytes) -> None:
    """Write content-addressed bytes. Writing twice does no harm, so a lost reply is retried."""
    try:
        store.put(key, value)
    except OutcomeUnknown:
        store.put(key, value)


def collect_garbage(store: Store, *, age: timedelta = GARBAGE_AGE) -> int:
    """Delete blobs that no kept generation names and no publisher wanted for ``age``.

    Returns the number of deleted blobs.
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
        if sha256 not in named and _was_wanted(item) < oldest:
            deleted += delete_blob(store, item, sha256)
    return deleted


def _was_wanted(item: Item) -> datetime:
    """Return the time when a blob was last wanted; the current time if it cannot be read."""
    try:
        return datetime.fromisoformat(Manifest.decode(item.value).wanted)
    except BundleError:  # it may be of a newer version
        return datetime.now(UTC)


def delete_blob(store: Store, manifest: Item, sha256: str) -> bool:
    keys = [chunk.key for chunk in store.list(f"{BUNDLES}{sha256}/").items]
    first, rest = keys[: MAX_OPS - 2], keys[MAX_OPS - 2 :]
    mine = store.txn(
        [Compare(manifest.key, manifest.mod_revision)],
        [Delete(manifest.key), *(Delete(key) for key in first)],
    ).ok
    # More chunks than fit one transaction: without the manifest, only a new upload would use them.
    while mine and rest:
        batch, rest = rest[:MAX_OPS], rest[MAX_OPS:]
        store.txn([Compare(manifest.key, 0)], [Delete(key) for key in batch])
    return mine
