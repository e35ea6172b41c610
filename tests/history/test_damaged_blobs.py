"""Damaged blobs in the store: the next publication of the same bytes repairs them."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from ratectl.errors import BundleError
from ratectl.history.blobs import collect_garbage, want_blob, write_blob
from ratectl.history.generations import read_blob, read_live
from ratectl.policy.bundle import digest, encode_policies
from ratectl.publishing._publish import rollback
from ratectl.records import MANIFESTS, Manifest, chunk_key, utc_now
from support import ME, publish_policies, simple

if TYPE_CHECKING:
    from collections.abc import Callable

    from ratectl.stores.base import Store

DATA = encode_policies(simple("1/s"))
HASH = digest(DATA)

DAMAGE: dict[str, Callable[[Store], object]] = {
    "a chunk has other bytes": lambda store: store.put(chunk_key(HASH, 0), b"x" * len(DATA)),
    "a chunk has more bytes": lambda store: store.put(chunk_key(HASH, 0), DATA + b"x"),
    "a chunk is gone": lambda store: store.delete(chunk_key(HASH, 0)),
    "a chunk too many": lambda store: store.put(chunk_key(HASH, 1), b"x"),
    "the manifest is none": lambda store: store.put(MANIFESTS + HASH, b"garbage"),
    "the manifest has another size": lambda store: store.put(
        MANIFESTS + HASH, Manifest(size=1, chunks=1, wanted=utc_now()).encode()
    ),
    "the manifest is gone": lambda store: store.delete(MANIFESTS + HASH),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_blob_is_written_again(store: Store, damage: str) -> None:
    write_blob(store, DATA)
    DAMAGE[damage](store)
    write_blob(store, DATA)
    assert read_blob(store, HASH) == DATA


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_live_policies_are_published_again(store: Store, damage: str) -> None:
    publish_policies(store, simple("1/s"))
    DAMAGE[damage](store)
    publish_policies(store, simple("1/s"))
    live = read_live(store)
    assert (live.generation, live.head and live.head.bundle) == (2, HASH)
    assert read_blob(store, HASH) == DATA


def test_unreadable_manifest_is_named(store: Store) -> None:
    publish_policies(store, simple("1/s"))
    publish_policies(store, simple("2/s"))
    store.put(MANIFESTS + HASH, b"garbage")
    with pytest.raises(BundleError, match=f"{MANIFESTS}{HASH} is damaged .* apply the policies"):
        want_blob(store, HASH)
    with pytest.raises(BundleError, match=f"{MANIFESTS}{HASH} is damaged .* apply the policies"):
        rollback(store, 1, ME)


def test_unreadable_manifest_does_not_stop_the_collector(store: Store) -> None:
    publish_policies(store, simple("1/s"))
    stray = encode_policies(simple("7/s"))
    write_blob(store, stray)
    store.put(MANIFESTS + "0" * 64, b"garbage")
    assert collect_garbage(store, age=timedelta(0)) == 1
    assert store.get(MANIFESTS + digest(stray)) is None
