"""TLS: certificates of server and client, and the errors if they are wrong."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
import trustme
from etcd_helpers import Recorder

from etcd_server import EtcdServer, Tls, wait_for
from ratectl.errors import OutcomeUnknown, StoreUnavailable
from ratectl.stores.etcd import EtcdStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.etcd


def issued(folder: Path) -> Tls:
    """Write certificates: one of a server (127.0.0.1 and ``etcd.example``), and one of a client."""
    ca = trustme.CA()
    server, client = ca.issue_cert("127.0.0.1", "etcd.example"), ca.issue_cert("agent@example.org")
    files = Tls(
        cert=folder / "server.pem",
        key=folder / "server.key",
        ca=folder / "ca.pem",
        client_auth=True,
        client_cert=folder / "client.pem",
        client_key=folder / "client.key",
    )
    ca.cert_pem.write_to_path(files.ca)
    server.cert_chain_pems[0].write_to_path(files.cert)
    server.private_key_pem.write_to_path(files.key)
    client.cert_chain_pems[0].write_to_path(files.client_cert)
    client.private_key_pem.write_to_path(files.client_key)
    return files


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    return issued(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def server(tls: Tls) -> Iterator[EtcdServer]:
    """A server that demands client certificates."""
    server = EtcdServer.start(tls=tls)
    yield server
    server.stop()


@pytest.fixture
def settings(tls: Tls, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Settings with the right certificates."""
    use(monkeypatch, tls)
    return monkeypatch


def use(monkeypatch: pytest.MonkeyPatch, tls: Tls) -> None:
    """Let stores use the client's files."""
    monkeypatch.setenv("RATECTL_ETCD_CA", str(tls.ca))
    monkeypatch.setenv("RATECTL_ETCD_CERT", str(tls.client_cert))
    monkeypatch.setenv("RATECTL_ETCD_KEY", str(tls.client_key))


def failure(url: str) -> str:
    """Return the error of a first read; a first write fails too, surely without being sent."""
    with EtcdStore.from_url(url) as store:
        with pytest.raises(StoreUnavailable):
            store.put("k", b"")
        with pytest.raises(StoreUnavailable) as raised:
            store.get("k")
    return str(raised.value)


def test_right_certificates_of_both_sides_are_accepted(
    server: EtcdServer, settings: pytest.MonkeyPatch
) -> None:
    with EtcdStore.from_url(server.store_url("prod")) as store:
        start = store.put("k", b"1")
        with Recorder(store.watch("", start)) as recorder:
            recorder.until_key("k", b"1")
        assert store.status().problems == ()


def test_unknown_authority_is_refused(
    server: EtcdServer, settings: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
    settings.setenv("RATECTL_ETCD_CA", str(tmp_path / "other.pem"))
    text = failure(server.store_url("prod"))
    assert server.client_url in text
    assert "its certificate is not trusted" in text
    assert "RATECTL_ETCD_CA" in text


def test_server_name_must_match_the_certificate(
    server: EtcdServer, settings: pytest.MonkeyPatch
) -> None:
    settings.setenv("RATECTL_ETCD_SERVER_NAME", "wrong.example")
    text = failure(server.store_url("prod"))
    assert "its certificate has other names" in text
    assert "RATECTL_ETCD_SERVER_NAME" in text
    settings.setenv("RATECTL_ETCD_SERVER_NAME", "etcd.example")
    with EtcdStore.from_url(server.store_url("prod")) as store:
        assert store.get("k2") is None


def test_missing_client_certificate_is_refused(
    server: EtcdServer, settings: pytest.MonkeyPatch
) -> None:
    """The server closes after the handshake, so the outcome of a write may be unknown."""
    settings.delenv("RATECTL_ETCD_CERT")
    settings.delenv("RATECTL_ETCD_KEY")
    with EtcdStore.from_url(server.store_url("prod")) as store:
        with pytest.raises(StoreUnavailable, match=server.client_url):
            store.get("k")
        with pytest.raises((StoreUnavailable, OutcomeUnknown)):
            store.put("k", b"")


def test_plaintext_to_a_tls_server_names_tls(server: EtcdServer) -> None:
    url = server.store_url("prod").replace("etcds://", "etcd://")
    text = failure(url)
    assert server.client_url in text
    assert "TLS" in text


def test_tls_to_a_plaintext_server_names_tls(
    etcd_server: EtcdServer, settings: pytest.MonkeyPatch
) -> None:
    url = etcd_server.store_url("prod").replace("etcd://", "etcds://")
    assert "speak TLS" in failure(url)


def test_several_addresses_are_checked_against_the_first_host(
    server: EtcdServer, settings: pytest.MonkeyPatch
) -> None:
    """This holds unless RATECTL_ETCD_SERVER_NAME is set."""
    hosts = f"{server.client_url},127.0.0.1:1"
    with EtcdStore.from_url(f"etcds://{hosts}/prod") as store:
        store.put("k", b"1")
        (problem,) = store.status().problems
        assert "127.0.0.1:1 does not answer" in problem


def test_an_open_store_uses_renewed_certificates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("ratectl.stores.etcd.link._REPLACE_EVERY", 0.0)
    files = issued(tmp_path)
    assert files.client_key is not None
    server = EtcdServer.start(tls=files)
    try:
        use(monkeypatch, files)
        with EtcdStore.from_url(server.store_url("prod")) as store:
            store.put("k", b"1")
            issued(tmp_path)  # of another authority: nothing of before is accepted
            server.restart()
            wait_for(lambda: reads(store), "the new certificates", 30)
            files.client_key.write_text("half a f")
            for _ in range(2):
                store.client.lost(time.monotonic())  # it opens another connection
                wait_for(lambda: reads(store), "what the file held before", 30)
            assert caplog.text.count(f"{files.client_key} is not a PEM file") == 1
    finally:
        server.stop()


def reads(store: EtcdStore) -> bool:
    try:
        return store.get("k") is not None
    except StoreUnavailable:
        return False
