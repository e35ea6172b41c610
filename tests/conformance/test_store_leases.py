"""Leases: keys are deleted unless the lease is renewed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from conformance.store_helpers import Follower, finish, python
from ratectl.errors import StoreError, UsageError
from ratectl.stores.base import Compare, Lease, Put

if TYPE_CHECKING:
    from ratectl.stores.base import Store

# etcd checks for ended leases twice a second, and grants a little more than requested.
PATIENCE = 10.0


def test_expiry_deletes_every_key_in_one_event(store: Store) -> None:
    """This test checks everything that needs an expiry, since an expiry takes time."""
    lost, kept = store.lease(2), store.lease(2)
    assert lost.ttl >= 2
    start = store.txn(
        (),
        [Put("agents/a", b"", lost), Put("usage/a", b"", lost), Put("agents/b", b"", kept)],
    ).revision
    store.put("agents/c", b"stays")
    made = time.monotonic()
    with store.watch("", start) as watch:
        follower = Follower(watch)

        def gone() -> bool:
            assert kept.renew()
            return "agents/a" not in follower.state and "agents/b" in follower.state

        follower.until_key("agents/c", b"stays")
        while not gone():
            # Renew between events: nothing else wakes this thread before the expiry.
            assert time.monotonic() < made + PATIENCE
            if time.monotonic() < made + 1.5:
                time.sleep(0.25)
            else:
                seen = len(follower.events)
                follower.until(lambda seen=seen: len(follower.events) > seen)
        took = time.monotonic() - made
    assert took >= 1.9, "a lease must not end early"
    ended = follower.events[-1]
    assert {(change.key, change.item) for change in ended.changes} == {
        ("agents/a", None),
        ("usage/a", None),
    }
    assert [item.key for item in store.list("").items] == ["agents/b", "agents/c"]
    assert store.get("usage/a") is None

    assert lost.renew() is False
    before = store.list("").revision
    with pytest.raises(StoreError) as raised:
        store.txn((), [Put("beside", b""), Put("agents/a", b"", lost)])
    assert not raised.value.transient
    assert store.list("").revision == before, "all or nothing"
    lost.revoke()
    assert kept.renew()


def test_revoke_deletes_keys_at_once(store: Store) -> None:
    lease = store.lease(60)
    start = store.txn((), [Put("a", b"", lease), Put("b", b"", lease), Put("c", b"")]).revision
    with store.watch("", start) as watch:
        follower = Follower(watch)
        follower.until_key("c", b"")
        lease.revoke()
        assert [item.key for item in store.list("").items] == ["c"]
        follower.until(lambda: follower.state.keys() == {"c"})
    assert len(follower.events) == 2, "one revision for both keys"
    lease.revoke()
    assert lease.renew() is False


def test_key_written_again_leaves_its_lease(store: Store) -> None:
    one, two = store.lease(60), store.lease(60)
    for key in ("without", "other", "again"):
        store.put(key, b"", one)
    store.put("without", b"")
    store.put("other", b"", two)
    store.delete("again")
    store.put("again", b"")
    one.revoke()
    assert [item.key for item in store.list("").items] == ["again", "other", "without"]
    two.revoke()
    assert [item.key for item in store.list("").items] == ["again", "without"]


def test_lease_without_keys_makes_no_revision(store: Store) -> None:
    before = store.put("a", b"")
    store.lease(60).revoke()
    assert store.list("").revision == before


def test_ended_lease_is_no_error_if_the_comparison_fails(store: Store) -> None:
    lease = store.lease(60)
    lease.revoke()
    assert not store.txn([Compare("a", 1)], [Put("a", b"", lease)]).ok


def test_leases_shorter_than_two_seconds_are_refused(store: Store) -> None:
    for ttl in (1.9, 0, -5, float("nan"), float("inf")):
        with pytest.raises(UsageError):
            store.lease(ttl)


def test_lease_outlives_its_process(store: Store, store_url: str) -> None:
    finish(python("store.put('a', b'', store.lease(60))", store_url))
    assert store.get("a") is not None


class ForeignLease(Lease):
    """Lease of an unknown kind of store."""

    ttl = 60.0

    def renew(self) -> bool:
        return True

    def revoke(self) -> None:
        pass


def test_lease_of_another_store_is_refused(store: Store) -> None:
    with pytest.raises(UsageError):
        store.put("a", b"", ForeignLease())
    assert store.get("a") is None
