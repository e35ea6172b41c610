"""Watches of a server that is killed, freezes, compacts, or loses its data."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest
from etcd_helpers import Recorder, environment

from etcd_server import EtcdServer, free_port, wait_for
from ratectl.stores.base import Events, Progress, Put, Resync
from ratectl.stores.etcd import EtcdStore

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.etcd, pytest.mark.faults]


@pytest.fixture
def server() -> Iterator[EtcdServer]:
    """Server for one test, which may kill or freeze it."""
    server = EtcdServer.start(faults=True)
    yield server
    server.stop()


@pytest.fixture
def store(server: EtcdServer) -> Iterator[EtcdStore]:
    with EtcdStore.from_url(server.store_url("prod")) as store:
        yield store


def put(server: EtcdServer, key: str, value: str) -> int:
    """Write to the server without the store; return the revision."""
    return server.put(f"/ratectl/prod/{key}", value)


def test_watch_loses_and_repeats_nothing_when_the_server_is_killed(
    server: EtcdServer, store: EtcdStore
) -> None:
    """Writes during an outage arrive too: every revision exactly once, in order."""
    start = put(server, "a", "0")
    written = [start]
    with Recorder(store.watch("", start)) as recorder:
        for n in range(3):
            recorder.until_key("a", str(n).encode())
            server.kill()
            recorder.until_interrupted()
            server.restart()
            returned = time.monotonic()
            written += [put(server, "b", str(n)), put(server, "a", str(n + 1))]
            recorder.until_key("a", str(n + 1).encode())
            assert time.monotonic() - returned < 3.0
        assert recorder.revisions == written
        assert recorder.resyncs() == []


def test_watch_reports_a_frozen_server_and_resumes_after_it(
    server: EtcdServer, store: EtcdStore
) -> None:
    """The server is frozen for longer than every timeout, then the watch resumes within 3 s."""
    start = put(server, "a", "1")
    with Recorder(store.watch("", start)) as recorder:
        recorder.until_live()
        server.freeze()
        frozen = time.monotonic()
        assert recorder.until_interrupted(13.0) - frozen < 13.0
        # Long enough for gRPC's timeout too, so that the watch has to reconnect.
        wait_for(
            lambda: any("SETTINGS" in text for text in recorder.interruptions()),
            "failure to reconnect",
            20,
        )
        assert [e.revision for e in recorder.of(Events)] == [start]
        server.thaw()
        thawed = time.monotonic()
        revision = put(server, "a", "2")
        recorder.until_key("a", b"2")
        assert time.monotonic() - thawed < 3.0
        assert recorder.revisions == [start, revision]


def test_short_freeze_is_no_interruption(server: EtcdServer, store: EtcdStore) -> None:
    start = put(server, "a", "1")
    with Recorder(store.watch("", start)) as recorder:
        recorder.until_live()
        server.freeze()
        threading.Timer(1.0, server.thaw).start()
        put(server, "a", "2")
        recorder.until_key("a", b"2")
        assert recorder.interruptions() == []


def test_compaction_during_an_outage_is_a_resync(server: EtcdServer, store: EtcdStore) -> None:
    put(server, "gone", "1")
    start = put(server, "a", "1")
    with Recorder(store.watch("", start)) as recorder:
        recorder.until_key("a", b"1")
        server.kill()
        recorder.until_interrupted()
        # Write at another port: otherwise the watch may reconnect before the compaction.
        port, server.port = server.port, free_port()
        server.restart()
        server.call("/v3/kv/deleterange", {"key": "L3JhdGVjdGwvcHJvZC9nb25l"})
        put(server, "a", "2")
        newest = put(server, "b", "1")
        server.compact(newest)
        server.port = port
        server.restart()
        recorder.until_key("b", b"1")
        (resync,) = recorder.of(Resync)
        assert resync.snapshot.revision == newest
        assert "compacted" in resync.reason
        put(server, "a", "3")
        recorder.until_key("a", b"3")
        assert recorder.state == {"a": b"3", "b": b"1"}


def test_watch_from_a_compacted_revision_starts_with_a_resync(
    server: EtcdServer, store: EtcdStore
) -> None:
    put(server, "a", "1")
    newest = put(server, "a", "2")
    server.compact(newest)
    with Recorder(store.watch("", 1)) as recorder:
        recorder.until_key("a", b"2")
        (resync,) = recorder.of(Resync)
        assert resync.snapshot.revision == newest


def test_wiped_server_is_a_resync(server: EtcdServer, store: EtcdStore) -> None:
    """The cluster ID stays and the revision is lower: only the revision shows the loss."""
    for n in range(5):
        start = put(server, "a", str(n))
    with Recorder(store.watch("", start)) as recorder:
        recorder.until_key("a", b"4")
        server.wipe()
        put(server, "new", "1")
        recorder.until_key("new", b"1")
        (resync,) = recorder.of(Resync)
        assert resync.snapshot.revision < start
        assert "went back" in resync.reason
        assert recorder.state == {"new": b"1"}
        put(server, "new", "2")
        recorder.until_key("new", b"2")


def test_another_cluster_at_the_same_address_is_a_resync(
    server: EtcdServer, store: EtcdStore
) -> None:
    start = put(server, "a", "1")
    with Recorder(store.watch("", start)) as recorder:
        recorder.until_key("a", b"1")
        server.peer_port = free_port()  # etcd derives the cluster ID from it
        server.kill()
        recorder.until_interrupted()
        port, server.port = server.port, free_port()
        server.wipe()
        for n in range(5):  # past the revision that the watch has seen
            put(server, "b", str(n))
        server.port = port
        server.restart()
        recorder.until_key("b", b"4")
        (resync,) = recorder.of(Resync)
        assert "another cluster" in resync.reason


def test_large_backlog_arrives_completely(server: EtcdServer, store: EtcdStore) -> None:
    """The backlog exceeds one gRPC message; each revision has several keys."""
    value = b"x" * 100_000
    start = store.list("").revision + 1
    for n in range(8):
        store.txn((), [Put(f"{n}/{part}", value) for part in range(9)])
    with Recorder(store.watch("", start)) as recorder:
        recorder.until_key("7/8", value)
        events = recorder.of(Events)
        assert [event.revision for event in events] == list(range(start, start + 8))
        assert all(len(event.changes) == 9 for event in events)
        assert recorder.interruptions() == []


def test_close_does_not_wait_for_the_server(server: EtcdServer, store: EtcdStore) -> None:
    """The server is frozen while idle or during a list, or dead; the recorder checks the time."""
    put(server, "a", "1")
    with Recorder(store.watch("", 1)) as recorder:
        recorder.until_key("a", b"1")
        server.freeze()
    server.thaw()
    server.compact()
    put(server, "a", "2")
    server.freeze()
    with Recorder(store.watch("", 1)):
        time.sleep(0.3)  # during its first call, which gets no reply
    server.kill()
    with Recorder(store.watch("", 1)) as recorder:
        recorder.until_interrupted()
    assert not [t for t in threading.enumerate() if t.name == "ratectl-etcd-watch"]


def test_closing_the_store_ends_its_watches(server: EtcdServer) -> None:
    before = set(threading.enumerate())  # other tests may have left some
    store = EtcdStore.from_url(server.store_url("prod"))
    with Recorder(store.watch("", 1)) as recorder:
        recorder.until_live()
        store.close()
        recorder._thread.join(1)
        assert not recorder._thread.is_alive()
    wait_for(lambda: set(threading.enumerate()) <= before, "gRPC's threads end")


def test_idle_watch_reports_progress(etcd_server: EtcdServer) -> None:
    """Progress arrives every few seconds; changes outside of the prefix raise its revision."""
    with EtcdStore.from_url(etcd_server.store_url(environment())) as store:
        start = store.put("beside", b"")
        with Recorder(store.watch("p/", start)) as recorder:
            recorder.until_live()
            revision = store.put("beside", b"")
            wait_for(
                lambda: any(e.revision >= revision for e in recorder.of(Progress)), "progress", 8
            )
            assert recorder.of(Events) == []
