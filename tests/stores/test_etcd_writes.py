"""Transactions of the etcd store: unknown outcomes, limits, and a server without space."""

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
def test_write_to_a_frozen_server_has_an_unknown_outcome_and_is_not_repeated(
    own_server: EtcdServer,
) -> None:
    """The server may apply the write later, at most once; the store does not repeat it."""
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
        item = store.get("k")  # a read shows the outcome
        assert item is None or item.value == b"mine"
        assert store.list("").revision - before <= 1
        again = store.txn([Compare("k", item.mod_revision if item else 0)], [Put("k", b"next")])
        assert again.ok


@pytest.mark.faults
def test_write_to_a_killed_server_is_unknown_or_unavailable(own_server: EtcdServer) -> None:
    with EtcdStore.from_url(own_server.store_url("prod")) as store:
        store.put("k", b"")
        own_server.kill()
        with pytest.raises(StoreError) as raised:
            wait_for(lambda: store.put("k", b"2") < 0, "an error")
        assert isinstance(raised.value, OutcomeUnknown | StoreUnavailable)
        with pytest.raises(StoreUnavailable, match="refused"):
            wait_for(lambda: _quiet(store), "refused connections")
        # The outcome is certain: the connection was refused before anything was sent.
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
def test_refused_connection_is_unavailable_at_once(hosts: str) -> None:
    """The error has the address, and gRPC's text as its detail; a write was surely not applied."""
    address = hosts.format(free_port(), free_port())
    with EtcdStore.from_url(f"etcd://{address}/prod") as store:
        started = time.monotonic()
        for call in (lambda: store.get("k"), lambda: store.put("k", b""), store.status):
            with pytest.raises(StoreUnavailable, match="connection refused") as raised:
                call()
            assert raised.value.address == address
            assert "Connection refused" in (raised.value.detail or "")
        assert time.monotonic() - started < 4.0


@pytest.mark.parametrize("hosts", ["nonexistent.invalid", "nonexistent.invalid,neither.invalid"])
def test_unresolvable_name_is_an_error_that_names_it(hosts: str) -> None:
    with EtcdStore.from_url(f"etcd://{hosts}/prod") as store:
        started = time.monotonic()
        for call in (lambda: store.get("k"), lambda: store.put("k", b"")):
            with pytest.raises((StoreUnavailable, OutcomeUnknown), match=r"nonexistent\.invalid"):
                call()
        assert time.monotonic() - started < 9.0


def test_one_resolvable_name_is_enough(etcd_server: EtcdServer) -> None:
    url = f"etcd://nonexistent.invalid,localhost:{etcd_server.port}/{environment()}"
    with EtcdStore.from_url(url) as store:
        store.put("k", b"1")
        (problem,) = store.status().problems
        assert "nonexistent.invalid:2379 does not answer" in problem


@pytest.mark.faults
def test_server_that_accepts_and_never_replies_is_unavailable(own_server: EtcdServer) -> None:
    """The error names the cause before the time limit of the call ends."""
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


def test_largest_transactions_fit(store: EtcdStore) -> None:
    store.put("k", b"x" * MAX_VALUE_BYTES)
    ops = [Put(f"{n:04}", b"x" * (MAX_VALUE_BYTES // MAX_OPS)) for n in range(MAX_OPS)]
    assert store.txn([Compare(op.key, 0) for op in ops], ops).ok


def test_smaller_limits_of_a_server_are_errors_that_name_its_setting() -> None:
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


def test_status_has_the_compacted_revision(store: EtcdStore) -> None:
    store.put("k", b"1")
    newest = store.put("k", b"2")
    compact(store, newest)
    assert store.status().compacted == newest
