"""Leases of the SQLite store: they end by the clock of the calling process."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from conformance.store_helpers import Follower
from ratectl.stores.base import Put
from ratectl.stores.sqlite import SqliteStore, log

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    with SqliteStore(path) as opened:
        yield opened


def test_clock_set_forward_ends_leases(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    lease = store.lease(30)
    start = store.txn((), [Put("a", b"", lease), Put("b", b"", lease)]).revision
    with store.watch("", start) as watch:
        follower = Follower(watch)
        follower.until_key("a", b"")
        now = time.time()
        monkeypatch.setattr(time, "time", lambda: now + 31)
        follower.until(lambda: not follower.state)
    assert store.list("").items == ()
    assert lease.renew() is False
    assert store.status().detail["leases"] == "0"


@pytest.mark.parametrize("call", ["get", "list", "txn", "renew"])
def test_every_call_ends_expired_leases(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    lease, other = store.lease(30), store.lease(300)
    store.put("a", b"", lease)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 31)
    if call == "get":
        assert store.get("a") is None
    elif call == "list":
        assert store.list("").items == ()
    elif call == "txn":
        assert store.put("b", b"") == 4, "the expiry is a revision of its own"
    else:
        assert other.renew()
    assert store.get("a") is None


def test_end_of_a_lease_with_very_many_keys_takes_several_revisions(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "_MAX_POSITION", 3)
    lease = store.lease(60)
    last = [store.put(f"k{n}", b"", lease) for n in range(10)][-1]
    lease.revoke()
    with store.watch("", last + 1) as watch:
        follower = Follower(watch)
        follower.until(lambda: sum(len(event.changes) for event in follower.events) == 10)
    assert [len(event.changes) for event in follower.events] == [4, 4, 2]
