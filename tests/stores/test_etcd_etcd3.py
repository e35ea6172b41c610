"""Package ``etcd3``: an independent client of the same keys, and our store on its channel."""

from __future__ import annotations

import queue
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from etcd_helpers import Recorder, environment

from etcd_server import EtcdServer, wait_for
from ratectl.errors import StoreUnauthenticated, UsageError
from ratectl.stores.base import Compare, Put
from ratectl.stores.etcd import EtcdStore

if TYPE_CHECKING:
    from collections.abc import Iterator

etcd3 = pytest.importorskip("etcd3")

pytestmark = [
    pytest.mark.etcd,
    # The code of etcd3 uses deprecated threading and time functions.
    pytest.mark.filterwarnings("ignore::DeprecationWarning:etcd3"),
]


@pytest.fixture
def client(etcd_server: EtcdServer) -> Iterator[Any]:
    with etcd3.client(port=etcd_server.port, timeout=4) as client:
        yield client


def test_etcd3_reads_keys_that_the_store_writes(etcd_server: EtcdServer, client: Any) -> None:
    name = environment()
    with EtcdStore.from_url(etcd_server.store_url(name)) as store:
        lease = store.lease(60)
        revision = store.put("agents/a", b"1", lease)
        value, metadata = client.get(f"/ratectl/{name}/agents/a")
        assert value == b"1"
        assert metadata.mod_revision == revision
        assert metadata.lease_id == lease.lease_id
        assert client.get_lease_info(lease.lease_id).grantedTTL == 60


def test_store_reads_and_watches_keys_that_etcd3_writes(
    etcd_server: EtcdServer, client: Any
) -> None:
    name = environment()
    with EtcdStore.from_url(etcd_server.store_url(name)) as store:
        start = store.list("").revision + 1
        with Recorder(store.watch("", start)) as recorder:
            client.transaction(
                compare=[],
                success=[
                    client.transactions.put(f"/ratectl/{name}/a", "1"),
                    client.transactions.put(f"/ratectl/{name}/b", "2"),
                ],
                failure=[],
            )
            recorder.until_key("b", b"2")
            assert recorder.revisions == [start]
            item = store.get("a")
            assert item is not None
            assert store.txn([Compare("a", item.mod_revision)], [Put("a", b"3")]).ok
            client.delete(f"/ratectl/{name}/b")
            recorder.until_key("b", None)


def test_etcd3_watches_keys_that_the_store_writes(etcd_server: EtcdServer, client: Any) -> None:
    name = environment()
    seen: queue.Queue[Any] = queue.Queue()
    watch = client.add_watch_prefix_callback(f"/ratectl/{name}/", seen.put)
    with EtcdStore.from_url(etcd_server.store_url(name)) as store:
        store.txn((), [Put("a", b"1"), Put("b", b"2")])
        events = seen.get(timeout=10).events
        while len(events) < 2:
            events += seen.get(timeout=10).events
        assert [(e.key.decode().rsplit("/", 1)[1], e.value) for e in events] == [
            ("a", b"1"),
            ("b", b"2"),
        ]
    client.cancel_watch(watch)


def test_store_works_on_the_channel_of_etcd3(etcd_server: EtcdServer, client: Any) -> None:
    """Reads, writes, leases and watches work; closing the store does not close the client."""
    name = environment()
    store = EtcdStore.from_etcd3(client, name)
    assert store.url == f"etcd://localhost:{etcd_server.port}/{name}"
    start = store.put("a", b"1", store.lease(60))
    with Recorder(store.watch("", start)) as recorder:
        recorder.until_key("a", b"1")
        store.txn([Compare("a", start)], [Put("a", b"2")])
        recorder.until_key("a", b"2")
    assert store.status().version
    with Recorder(store.watch("", start)) as recorder:
        store.close()
    assert client.get(f"/ratectl/{name}/a")[0] == b"2"
    with pytest.raises(UsageError, match="closed"):
        store.get("a")


@pytest.mark.faults
def test_store_on_the_channel_of_etcd3_recovers_from_an_outage() -> None:
    """The etcd3 client refuses calls for minutes after an error; the store does not."""
    server = EtcdServer.start()
    try:
        with etcd3.client(port=server.port, timeout=4) as client:
            store = EtcdStore.from_etcd3(client, "prod")
            start = store.put("a", b"1")
            with Recorder(store.watch("", start)) as recorder:
                recorder.until_key("a", b"1")
                server.kill()
                recorder.until_interrupted()
                with pytest.raises(etcd3.Etcd3Exception):
                    client.get("x")
                server.restart()
                server.put("/ratectl/prod/a", "2")
                recorder.until_key("a", b"2")
                wait_for(lambda: store.get("a"), "a read")
            store.close()
    finally:
        server.stop()


def test_token_of_the_etcd3_client_is_used() -> None:
    """The fork's password support fails without TLS, so a stand-in has its attributes."""
    server = EtcdServer.start()
    try:
        server.add_user("agent", "hunter2", "/ratectl/prod/")
        server.enable_auth()
        with _channel(server) as channel:
            token = server.token("agent", "hunter2")
            client = SimpleNamespace(channel=channel, metadata=(("token", token),))
            store = EtcdStore.from_etcd3(client, "prod")
            store.put("a", b"1")
            client.metadata = (("token", "expired.1"),)
            with pytest.raises(StoreUnauthenticated, match="invalid auth token"):
                EtcdStore.from_etcd3(client, "prod").get("a")
    finally:
        server.stop()


def test_expired_token_of_the_etcd3_client_is_replaced_if_the_password_is_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RATECTL_ETCD_USER", "agent")
    monkeypatch.setenv("RATECTL_ETCD_PASSWORD", "hunter2")
    server = EtcdServer.start()
    try:
        server.add_user("agent", "hunter2", "/ratectl/prod/")
        server.enable_auth()
        with _channel(server) as channel:
            client = SimpleNamespace(channel=channel, metadata=(("token", "expired.1"),))
            EtcdStore.from_etcd3(client, "prod").put("a", b"1")
    finally:
        server.stop()


def _channel(server: EtcdServer) -> Any:
    return grpc.insecure_channel(server.client_url)


def test_other_clients_and_invalid_environments_are_refused() -> None:
    with pytest.raises(UsageError, match="not an etcd3 client"):
        EtcdStore.from_etcd3(object(), "prod")
    with (
        grpc.insecure_channel("127.0.0.1:1") as channel,
        pytest.raises(UsageError, match="environment"),
    ):
        EtcdStore.from_etcd3(SimpleNamespace(channel=channel), "a/b")
