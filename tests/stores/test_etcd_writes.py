"""Transactions: unknown outcomes, limits, and a server without space."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from etcd_helpers import environment

from conformance.store_helpers import compact
from etcd_server import EtcdServer, free_port, wait_for
from ratectl.errors import (
    OutcomeUnknown,
    StoreError,
    StoreMisconfigured,
    StoreUnavailable,
    UsageError,
)
from ratectl.stores.base import MAX_OPS, MAX_VALUE_BYTES, Compare, Delete, Put
from ratectl.stores.etcd import EtcdStore

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.etcd


@pytest.fixture
def store(etcd_server: EtcdServer) -> Iterator[EtcdStore]:
    with EtcdStore.from_url(etcd_server.store_url(environment())) as store:
        yield store


@pytest.fixture
def own_server() -> Iterator[EtcdServer]:
    server = EtcdServer.start(faults=True)
    yield server
    server.stop()


# -- outcomes --------------------------------------------------------------------------------------


@pytest.mark.faults
def test_a_write_to_a_frozen_server_is_unknown_and_not_repeated(own_server: EtcdServer) -> None:
    """It may be applied when the server goes on: once at most, and never by our repeating it."""
    with EtcdStore.from_url(own_server.store_url("prod"), timeout=1.0) as store:
        before = store.put("other", b"")
        own_server.freeze()
        started = time.monotonic()
        with pytest.raises(OutcomeUnknown, match="may have been applied"):
            store.txn([Compare("k", 0)], [Put("k", b"mine")])
        assert 0.9 < time.monotonic() - started < 2.0
        with pytest.raises(StoreUnavailable, match=r"no reply within 1 s"):
            store.get("k")
        own_server.thaw()
        own_server.wait_healthy()
        item = store.get("k")  # reading is how one finds out
        assert item is None or item.value == b"mine"
        assert store.list("").revision - before <= 1
        again = store.txn([Compare("k", item.mod_revision if item else 0)], [Put("k", b"next")])
        assert again.ok


@pytest.mark.faults
def test_a_server_killed_in_the_middle_is_unknown_or_unavailable(own_server: EtcdServer) -> None:
    with EtcdStore.from_url(own_server.store_url("prod")) as store:
        store.put("k", b"")
        own_server.kill()
        with pytest.raises(StoreError) as raised:
            wait_for(lambda: store.put("k", b"2") < 0, "an error")
        assert isinstance(raised.value, OutcomeUnknown | StoreUnavailable)
        with pytest.raises(StoreUnavailable, match="refused"):
            wait_for(lambda: _quiet(store), "refused connections")
        # Certain by now: the connection was refused before anything was sent.
        with pytest.raises(StoreUnavailable):
            store.put("k", b"3")


def _quiet(store: EtcdStore) -> bool:
    try:
        store.get("k")
    except StoreUnavailable as error:
        if "refused" in str(error):
            raise
    return False


@pytest.mark.parametrize("hosts", ["127.0.0.1:{}", "localhost:{}", "localhost:{},127.0.0.1:{}"])
def test_nobody_listens(hosts: str) -> None:
    """At once, with the address and gRPC's own words, and certain for writes."""
    address = hosts.format(free_port(), free_port())
    with EtcdStore.from_url(f"etcd://{address}/prod") as store:
        started = time.monotonic()
        for call in (lambda: store.get("k"), lambda: store.put("k", b""), store.status):
            with pytest.raises(StoreUnavailable, match="Connection refused") as raised:
                call()
            assert raised.value.address == address
        assert time.monotonic() - started < 4.0


@pytest.mark.parametrize("hosts", ["nonexistent.invalid", "nonexistent.invalid,neither.invalid"])
def test_names_that_do_not_resolve(hosts: str) -> None:
    with EtcdStore.from_url(f"etcd://{hosts}/prod") as store:
        started = time.monotonic()
        for call in (lambda: store.get("k"), lambda: store.put("k", b"")):
            with pytest.raises((StoreUnavailable, OutcomeUnknown), match=r"nonexistent\.invalid"):
                call()
        assert time.monotonic() - started < 9.0


def test_a_name_that_resolves_among_others_that_do_not(etcd_server: EtcdServer) -> None:
    url = f"etcd://nonexistent.invalid,localhost:{etcd_server.port}/{environment()}"
    with EtcdStore.from_url(url) as store:
        store.put("k", b"1")
        (problem,) = store.status().problems
        assert "nonexistent.invalid:2379 does not answer" in problem


@pytest.mark.faults
def test_a_server_that_never_answers_a_new_client(own_server: EtcdServer) -> None:
    """It accepts connections and then nothing: the cause is told before the call's own time."""
    own_server.freeze()
    with EtcdStore.from_url(own_server.store_url("prod"), timeout=4.0) as store:
        started = time.monotonic()
        with pytest.raises(StoreUnavailable, match="SETTINGS"):
            store.put("k", b"")
        assert time.monotonic() - started < 4.0


# -- limits ----------------------------------------------------------------------------------------


def test_limits_are_checked_before_sending(store: EtcdStore) -> None:
    before = store.list("").revision
    for ops in (
        [Put(str(n), b"") for n in range(MAX_OPS + 1)],
        [Put("k", b"x" * (MAX_VALUE_BYTES + 1))],
        [Put(str(n), b"x" * (MAX_VALUE_BYTES // 2)) for n in range(3)],
        [Put("k", b""), Delete("k")],
    ):
        with pytest.raises(UsageError):
            store.txn((), ops)
    assert store.list("").revision == before


def test_the_largest_transactions_fit(store: EtcdStore) -> None:
    store.put("k", b"x" * MAX_VALUE_BYTES)
    ops = [Put(f"{n:04}", b"x" * (MAX_VALUE_BYTES // MAX_OPS)) for n in range(MAX_OPS)]
    assert store.txn([Compare(op.key, 0) for op in ops], ops).ok


def test_a_server_with_smaller_limits_says_so() -> None:
    args = ["--max-request-bytes=2000", "--max-txn-ops=2", "--quota-backend-bytes=100000"]
    server = EtcdServer.start(args=args)
    try:
        with EtcdStore.from_url(server.store_url("prod")) as store:
            with pytest.raises(StoreMisconfigured, match="max-request-bytes"):
                store.put("k", b"x" * 3000)
            with pytest.raises(StoreMisconfigured, match="max-request-bytes"):
                store.put("k", b"x" * 900_000)
            with pytest.raises(StoreMisconfigured, match="max-txn-ops"):
                store.txn((), [Put(str(n), b"") for n in range(3)])
            with pytest.raises(StoreMisconfigured, match=r"out of space.*alarm disarm"):
                wait_for(lambda: store.put("k", b"x" * 1000) < 0, "an error")
            assert store.get("k"), "reads go on"
            (problem,) = store.status().problems
            assert "NOSPACE" in problem
    finally:
        server.stop()


# -- history ---------------------------------------------------------------------------------------


def test_the_compacted_revision_is_named(store: EtcdStore) -> None:
    store.put("k", b"1")
    newest = store.put("k", b"2")
    compact(store, newest)
    assert store.status().compacted == newest
