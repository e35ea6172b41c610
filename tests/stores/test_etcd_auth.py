"""User and password: refusals, permissions, and tokens that expire."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from etcd_helpers import Recorder

from etcd_server import EtcdServer, wait_for
from ratectl.errors import StoreUnauthenticated, StoreUnavailable
from ratectl.stores.base import Compare, Interrupted, Put
from ratectl.stores.etcd import EtcdStore
from ratectl.stores.etcd.rpc import Scope

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.etcd


@pytest.fixture(scope="module")
def server() -> Iterator[EtcdServer]:
    """Server with authentication: ``agent`` may use the environment ``prod``; tokens live 1 s."""
    server = EtcdServer.start(args=["--auth-token-ttl=1"])
    server.add_user("agent", "hunter2", "/ratectl/prod/")
    server.enable_auth()
    yield server
    server.stop()


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RATECTL_ETCD_USER", "agent")
    monkeypatch.setenv("RATECTL_ETCD_PASSWORD", "hunter2")


@pytest.fixture
def store(server: EtcdServer, credentials: None) -> Iterator[EtcdStore]:
    with EtcdStore.from_url(server.store_url("prod")) as store:
        yield store


def test_password_allows_reads_writes_leases_and_status(store: EtcdStore) -> None:
    assert store.txn([Compare("k", 0)], [Put("k", b"1", store.lease(60))]).ok
    assert [item.value for item in store.list("k").items] == [b"1"]
    store.delete("k")
    status = store.status()
    assert status.version
    assert status.problems == (), "a password over loopback is fine"


def test_call_without_credentials_is_refused(server: EtcdServer) -> None:
    with (
        EtcdStore.from_url(server.store_url("prod")) as store,
        pytest.raises(StoreUnauthenticated, match=r"user name is empty.*RATECTL_ETCD_USER"),
    ):
        store.get("k")


def test_wrong_password_is_refused(
    server: EtcdServer, credentials: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RATECTL_ETCD_PASSWORD", "wrong")
    with EtcdStore.from_url(server.store_url("prod")) as store:
        for call in (lambda: store.get("k"), lambda: store.put("k", b"")):
            with pytest.raises(StoreUnauthenticated, match="invalid user ID or password"):
                call()


def test_environment_without_permission_is_refused(server: EtcdServer, credentials: None) -> None:
    """Reads and writes fail; a watch keeps retrying and reports the reason."""
    with EtcdStore.from_url(server.store_url("other")) as store:
        for call in (lambda: store.list(""), lambda: store.put("k", b"")):
            with pytest.raises(StoreUnauthenticated, match="permission denied"):
                call()
        with Recorder(store.watch("", 1)) as recorder:
            recorder.until_interrupted()
            (event,) = recorder.of(Interrupted)
            assert isinstance(event.error, StoreUnauthenticated)


def test_an_expired_token_is_replaced(store: EtcdStore) -> None:
    """Reads, writes and leases are repeated once; etcd applied no refused write."""
    lease = store.lease(60)
    calls = (lambda: store.get("k"), lambda: store.put("k", b""), lease.renew, lease.revoke)
    for call in calls:
        store.client._token = "expired.1"
        before = store.list("").revision
        store.client._token = "expired.1"
        call()
        assert store.list("").revision - before <= 1
    token = store.client._token
    time.sleep(2.5)  # nothing shows that the server has dropped the token
    store.put("k", b"2")
    assert store.client._token != token


def test_watch_replaces_an_expired_token_without_an_interruption(store: EtcdStore) -> None:
    start = store.put("k", b"1")
    store.client._token = "expired.1"
    with Recorder(store.watch("", start)) as recorder:
        recorder.until_key("k", b"1")
        assert recorder.interruptions() == []


def test_a_token_that_etcd_waits_for_is_replaced(server: EtcdServer, credentials: None) -> None:
    """A restored etcd is silent about tokens of a longer log: they end in a later index."""
    with EtcdStore.from_url(server.store_url("prod"), timeout=1.0) as store:
        start = store.put("k", b"1")
        store.client._token = "ofAnotherLog.999999999"
        with pytest.raises(StoreUnavailable):
            store.get("k")
        assert store.get("k") is not None
        store.client._token = "ofAnotherLog.999999999"
        with Recorder(store.watch("", start)) as recorder:
            recorder.until_key("k", b"1")
            assert len(recorder.interruptions()) == 1


def test_a_token_refused_when_no_time_is_left_is_no_wrong_password(
    store: EtcdStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """etcd refuses a token that it waited for when the call's time ends, as the client gives up."""
    store.put("k", b"1")
    store.client._token = "expired.1"
    with monkeypatch.context() as patch:
        patch.setattr(Scope, "expired", lambda _: True)
        with pytest.raises(StoreUnavailable, match="not authenticated"):
            store.get("k")
    assert store.get("k") is not None


@pytest.mark.faults
def test_tokens_are_replaced_after_a_restart_of_the_server(
    server: EtcdServer, store: EtcdStore
) -> None:
    start = store.put("k", b"1")
    with Recorder(store.watch("", start)) as recorder:
        recorder.until_key("k", b"1")
        server.restart()
        returned = time.monotonic()
        server.put("/ratectl/prod/k", "2", server.token())
        recorder.until_key("k", b"2")
        assert time.monotonic() - returned < 3.0
    store.put("k", b"3")


@pytest.mark.faults
def test_authentication_may_be_enabled_while_the_store_is_open(credentials: None) -> None:
    """The first calls need no credentials, the later ones do."""
    server = EtcdServer.start()
    try:
        with EtcdStore.from_url(server.store_url("prod")) as store:
            store.put("k", b"1")
            server.add_user("agent", "hunter2", "/ratectl/prod/")
            server.enable_auth()
            with Recorder(store.watch("", 1)) as recorder:
                wait_for(lambda: recorder.state, "events")
            store.put("k", b"2")
    finally:
        server.stop()


def test_a_password_may_change_while_the_store_is_open(
    server: EtcdServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "password"
    file.write_text("hunter2\n")
    monkeypatch.setenv("RATECTL_ETCD_USER", "agent")
    monkeypatch.setenv("RATECTL_ETCD_PASSWORD_FILE", str(file))
    with EtcdStore.from_url(server.store_url("prod")) as store:
        store.put("k", b"1")
        try:
            change_password(server, "hunter3")
            with pytest.raises(StoreUnauthenticated):
                store.get("k")
            file.write_text("hunter3\n")
            assert store.get("k") is not None
        finally:
            change_password(server, "hunter2")


def change_password(server: EtcdServer, password: str) -> None:
    body = {"name": "agent", "password": password}
    server.call("/v3/auth/user/changepw", body, server.token())
