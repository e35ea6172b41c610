"""Bounds of the SQLite store: its history and the size of its file."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from conformance.store_helpers import Follower, compact
from ratectl.stores.sqlite import SqliteStore, log

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    with SqliteStore(path) as opened:
        yield opened


def test_size_of_the_file_is_bounded(
    store: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "KEEP_REVISIONS", 300)
    monkeypatch.setattr(log, "COMPACT_EVERY", 32)
    monkeypatch.setattr("ratectl.stores.sqlite.store.CHECKPOINT_BYTES", 200_000)
    sizes = []
    for _ in range(5):
        for n in range(400):
            revision = store.put(f"usage/{n % 7}", os.urandom(500))
            assert store._database.wal_bytes() < 400_000
        sizes.append(path.stat().st_size)
    assert max(sizes[2:]) <= sizes[1] * 1.1, sizes
    assert max(sizes) < 1_000_000
    with store.watch("usage/", revision - 300) as watch:
        follower = Follower(watch)
        follower.until_revision(revision)
    assert [event.revision for event in follower.events] == [*range(revision - 300, revision + 1)]
    assert revision - store.status().compacted <= 300 + 32


def test_large_values_shorten_history(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "KEEP_BYTES", 1_000_000)
    for n in range(200):
        store.put(f"k{n % 3}", os.urandom(100_000))
        if n % 3 == 0:
            store.delete("k1")
    status = store.status()
    assert int(status.detail["history_bytes"]) <= 1_000_000
    assert status.size_bytes < 12_000_000, "with 4 MiB of log"
    assert status.compacted < status.revision
    with store.watch("", status.compacted) as watch:
        follower = Follower(watch)
        follower.until_revision(status.revision)
    assert not follower.resyncs
    kept = [event.revision for event in follower.events]
    assert kept == [*range(kept[0], status.revision + 1)]
    assert kept[0] in (status.compacted, status.compacted + 1)


def test_delete_at_the_compacted_revision_is_still_seen(store: SqliteStore) -> None:
    store.put("a", b"1")
    deleted = store.delete("a")
    compact(store, deleted)
    with store.watch("", deleted) as watch:
        follower = Follower(watch)
        follower.until_revision(deleted)
    assert follower.events[0].changes[0].item is None
    compact(store, store.put("b", b""))
    with store._reads.use() as db:
        assert db.execute("SELECT count(*) FROM log").fetchone() == (1,)


def test_history_bytes_are_counted_exactly(store: SqliteStore) -> None:
    for n in range(20):
        store.put(f"k{n % 4}", b"x" * n)
    store.delete("k1")
    compact(store, store.put("k1", b"again"))
    assert store.status().detail["history_bytes"] == "0"
    with store._reads.use() as db:
        assert db.execute("SELECT count(*) FROM log").fetchone() == (4,)
