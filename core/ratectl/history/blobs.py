"""Blobs: bytes under their hash, in chunks, written before anybody reads them.

A manifest says how to read one back, and when it was last wanted: what no kept generation names,
and nobody wanted for an hour, is garbage.
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
"""A third of what etcd accepts in a request by default."""

GARBAGE_AGE: Final = timedelta(hours=1)
"""A blob that no kept generation names lives this long: a slow publisher may still want it."""


def write_blob(store: Store, data: bytes) -> Item:
    """Upload the chunks, then the manifest; return the manifest as stored.

    What is there already is verified, and written anew where it is damaged.
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
    """Return True for a blob that can be read, and holds the bytes that its hash names."""
    try:
        read_blob(store, sha256)
    except (NotFound, BundleError):
        return False
    return True


def _delete_others(store: Store, sha256: str, count: int) -> None:
    """Delete what lies among the chunks of a blob and is none: whoever reads it counts them."""
    chunks = {chunk_key(sha256, number) for number in range(count)}
    for found in store.list(f"{BUNDLES}{sha256}/").items:
        if found.key not in chunks:
            store.delete(found.key)


def want_blob(store: Store, sha256: str) -> Item:
    """Mark a stored blob as wanted, so that nobody collects it meanwhile.

    :raises NotFound: it is not there.
    :raises BundleError: its manifest cannot be read.
    """
    while True:
        item = _stored(store, sha256)
        known = read_manifest(item)
        wanted = Manifest(size=known.size, chunks=known.chunks, wanted=utc_now())
        # Compared, because the collector may be deleting the chunks just now.
        if store.txn([Compare(item.key, item.mod_revision)], [Put(item.key, wanted.encode())]).ok:
            return _stored(store, sha256)


def want_if_kept(store: Store, sha256: str | None, manifests: list[Item]) -> str | None:
    """Want what is a comfort, and no condition: None where it is gone or damaged."""
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
        if sha256 not in named and _was_wanted(item) < oldest:
            deleted += delete_blob(store, item, sha256)
    return deleted


def _was_wanted(item: Item) -> datetime:
    """Return when a blob was last wanted: just now where that cannot be read."""
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
    # Chunks beyond one transaction: nobody can name them any more without writing them again.
    while mine and rest:
        batch, rest = rest[:MAX_OPS], rest[MAX_OPS:]
        store.txn([Compare(manifest.key, 0)], [Delete(key) for key in batch])
    return mine
