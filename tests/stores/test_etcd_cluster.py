"""Cluster of three members: one lost, two lost, and a rolling restart."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from etcd_helpers import Recorder

from etcd_server import EtcdCluster, wait_for
from ratectl.errors import OutcomeUnknown, StoreError, StoreUnavailable
from ratectl.stores.etcd import EtcdStore

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.etcd, pytest.mark.faults]


@pytest.fixture(scope="module")
def cluster() -> Iterator[EtcdCluster]:
    cluster = EtcdCluster.start(3)
    yield cluster
    cluster.stop()


@pytest.fixture(autouse=True)
def whole(cluster: EtcdCluster) -> Iterator[None]:
    """Restart all members after each test, so that each test begins with all of them."""
    yield
    for member in cluster.members:
        member.restart(wait=False)
    for member in cluster.members:
        member.wait_healthy()


@pytest.fixture
def store(cluster: EtcdCluster) -> Iterator[EtcdStore]:
    with EtcdStore.from_url(cluster.store_url("prod")) as store:
        yield store


@pytest.mark.parametrize("lost", range(3))
def test_store_works_after_one_member_is_killed(
    cluster: EtcdCluster, store: EtcdStore, lost: int
) -> None:
    """Reads succeed, writes are applied or unknown, the watch misses nothing, for any member."""
    start = store.put("k", b"0")
    with Recorder(store.watch("", start)) as recorder:
        recorder.until_key("k", b"0")
        cluster.members[lost].kill()
        killed = time.monotonic()
        unknown = []
        for n in range(40):
            try:
                store.put("k", str(n).encode())
            except OutcomeUnknown as error:
                unknown.append(str(error))
            assert store.get("k") is not None
        store.put("k", b"last")
        recorder.until_key("k", b"last")
        assert time.monotonic() - killed < 10.0
        assert len(unknown) <= 3, unknown
        assert recorder.resyncs() == []
        assert recorder.revisions == list(range(start, recorder.revisions[-1] + 1))


def test_store_works_while_one_member_is_frozen(cluster: EtcdCluster, store: EtcdStore) -> None:
    """If the frozen member gets a read, another member answers within the time limit."""
    start = store.put("k", b"0")
    with Recorder(store.watch("", start)) as recorder:
        recorder.until_key("k", b"0")
        cluster.members[1].freeze()
        for _ in range(6):
            assert store.get("k") is not None
        wait_for(lambda: _applied(store, b"1"), "a write", 15)
        recorder.until_key("k", b"1", 13.0)
        cluster.members[1].thaw()


def _applied(store: EtcdStore, value: bytes) -> bool:
    try:
        store.put("k", value)
    except OutcomeUnknown:
        return False
    return True


def test_watch_and_status_report_a_lost_majority(cluster: EtcdCluster, store: EtcdStore) -> None:
    """A member without the others still answers pings, but receives no changes."""
    start = store.put("k", b"0")
    with Recorder(store.watch("", start)) as recorder:
        recorder.until_key("k", b"0")
        for member in cluster.members[1:]:
            member.kill()
        wait_for(lambda: "no leader" in " ".join(recorder.interruptions()), "no leader", 15)
        with pytest.raises(StoreError) as raised:
            store.put("k", b"1")
        assert isinstance(raised.value, OutcomeUnknown | StoreUnavailable)
        problems = " ".join(store.status().problems)
        assert "no leader" in problems
        for member in cluster.members[1:]:
            assert f"member {member.client_url} does not answer" in problems
        for member in cluster.members[1:]:
            member.restart(wait=False)
        cluster.members[0].wait_healthy()
        returned = time.monotonic()
        wait_for(lambda: _applied(store, b"2"), "a write")
        recorder.until_key("k", b"2")
        assert time.monotonic() - returned < 5.0


def test_rolling_restart_loses_no_event(cluster: EtcdCluster, store: EtcdStore) -> None:
    """The watch receives every revision, without a resync."""
    start = store.put("k", b"0")
    with Recorder(store.watch("", start)) as recorder:
        for n, member in enumerate(cluster.members):
            member.restart()
            wait_for(lambda n=n: _applied(store, str(n).encode()), "a write")
            recorder.until_key("k", str(n).encode())
        assert recorder.resyncs() == []
        assert recorder.revisions == list(range(start, recorder.revisions[-1] + 1))
