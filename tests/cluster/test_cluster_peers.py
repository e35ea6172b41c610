"""Variables of the environment and certificates, by which members reach each other."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING

import pytest
import trustme
from link_support import converse

from ratectl.cluster.peers import TlsPeers, UnixPeers, peers_of
from ratectl.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

LISTEN = {"RATECTL_CLUSTER_LISTEN": "127.0.0.1:0"}


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def files(folder: Path, authority: trustme.CA, *names: str, **given: object) -> dict[str, str]:
    """Write a certificate with these names; return the variables."""
    issued = authority.issue_cert(*names, **given)  # type: ignore[arg-type]
    paths = {of: str(folder / f"{of}.pem") for of in ("CA", "CERT", "KEY")}
    authority.cert_pem.write_to_path(paths["CA"])
    issued.cert_chain_pems[0].write_to_path(paths["CERT"])
    issued.private_key_pem.write_to_path(paths["KEY"])
    return {f"RATECTL_CLUSTER_{of}": path for of, path in paths.items()}


def test_processes_of_one_machine_need_no_variable() -> None:
    peers = peers_of(server=False, variables={})
    assert isinstance(peers, UnixPeers)
    assert peers.member("shop", "1a2b3c4d") == "shop.1a2b3c4d"
    with peers.links("shop.1a2b3c4d", "env") as (links, address):
        assert address == f"unix:{links.address and links.address.path}"


def test_other_machines_need_an_address() -> None:
    assert peers_of(server=True, variables={}) is None


def test_members_of_other_machines_have_the_name_of_their_certificate(
    tmp_path: Path, authority: trustme.CA
) -> None:
    peers = peers_of(server=True, variables={**LISTEN, **files(tmp_path, authority, "host-1")})
    assert isinstance(peers, TlsPeers)
    member = peers.member("shop", "1a2b3c4d")
    assert member == "shop.1a2b3c4d@host-1"
    with peers.links(member, "env") as (links, address):
        assert links.name == member
        assert address.startswith("127.0.0.1:")
        assert not address.endswith(":0")


def test_the_certificates_of_the_store_are_the_default(
    tmp_path: Path, authority: trustme.CA
) -> None:
    own = files(tmp_path, authority, "host-1")
    of_store = {name.replace("CLUSTER", "ETCD"): path for name, path in own.items()}
    assert isinstance(peers_of(server=True, variables={**LISTEN, **of_store}), TlsPeers)


def test_another_address_for_peers(tmp_path: Path, authority: trustme.CA) -> None:
    variables = {
        **files(tmp_path, authority, "host-1"),
        "RATECTL_CLUSTER_LISTEN": "127.0.0.1:0",
        "RATECTL_CLUSTER_ADDRESS": "10.0.0.5:7946",
    }
    peers = peers_of(server=True, variables=variables)
    assert peers is not None
    with peers.links("a.1@host-1", "env") as (_, address):
        assert address == "10.0.0.5:7946"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"RATECTL_CLUSTER_LISTEN": ""}, "is set, and RATECTL_CLUSTER_LISTEN is not"),
        ({"RATECTL_CLUSTER_LISTEN": "7946"}, "RATECTL_CLUSTER_LISTEN: '7946' is no address"),
        ({"RATECTL_CLUSTER_LISTEN": "0.0.0.0:7946"}, "name one in RATECTL_CLUSTER_ADDRESS"),
        ({"RATECTL_CLUSTER_LISTEN": "unix:/tmp/a"}, "other machines cannot reach unix:/tmp/a"),
        ({"RATECTL_CLUSTER_ADDRESS": "host"}, "RATECTL_CLUSTER_ADDRESS: 'host' is no address"),
        ({"RATECTL_CLUSTER_CA": ""}, r"needs certificates: set RATECTL_CLUSTER_CA \(or"),
        ({"RATECTL_CLUSTER_KEY": ""}, r"needs certificates: set RATECTL_CLUSTER_KEY \(or"),
        ({"RATECTL_CLUSTER_CERT": "/nowhere.pem"}, "/nowhere.pem .* No such file"),
        ({"RATECTL_CLUSTER_CA": "/nowhere.pem"}, "/nowhere.pem of the cluster .* No such file"),
    ],
)
def test_wrong_variables(
    tmp_path: Path, authority: trustme.CA, changes: dict[str, str], message: str
) -> None:
    variables = {**LISTEN, **files(tmp_path, authority, "host-1"), **changes}
    with pytest.raises(UsageError, match=message):
        peers_of(server=True, variables=variables)


def test_a_file_that_is_no_certificate(tmp_path: Path, authority: trustme.CA) -> None:
    variables = {**LISTEN, **files(tmp_path, authority, "host-1")}
    (tmp_path / "CERT.pem").write_text("nothing")
    with pytest.raises(UsageError, match=r"CERT\.pem with the key .* cannot be used"):
        peers_of(server=True, variables=variables)


def test_a_certificate_of_another_authority(tmp_path: Path, authority: trustme.CA) -> None:
    variables = {**LISTEN, **files(tmp_path, trustme.CA(), "host-1")}
    authority.cert_pem.write_to_path(str(tmp_path / "CA.pem"))
    with pytest.raises(UsageError, match="peers would not accept this member's certificate"):
        peers_of(server=True, variables=variables)


def test_a_certificate_that_has_expired(tmp_path: Path, authority: trustme.CA) -> None:
    past = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    variables = {**LISTEN, **files(tmp_path, authority, "host-1", not_after=past)}
    with pytest.raises(UsageError, match="certificate has expired"):
        peers_of(server=True, variables=variables)


def test_a_certificate_without_a_usable_name(tmp_path: Path, authority: trustme.CA) -> None:
    variables = {**LISTEN, **files(tmp_path, authority, "a" * 61 + ".example")}
    with pytest.raises(UsageError, match="has no name of 1 to 60 characters"):
        peers_of(server=True, variables=variables)


def test_links_use_renewed_certificates(
    tmp_path: Path, authority: trustme.CA, caplog: pytest.LogCaptureFixture
) -> None:
    (one := tmp_path / "1").mkdir()
    (other := tmp_path / "2").mkdir()
    peers = [tls_peers(folder, authority) for folder in (one, other)]
    with (
        peers[0].links("a.1@1", "env") as (owner, _),
        peers[1].links("b.2@2", "env") as (member, _),
    ):
        converse(member, owner)
        renewed = trustme.CA()
        for folder in (one, other):
            files(folder, renewed, folder.name)
        with tls_peers(tmp_path, renewed, "3").links("c.3@3", "env") as (newer, _):
            converse(newer, owner)
            converse(member, newer)
        for path in one.iterdir():
            path.write_text("nothing")
        with tls_peers(tmp_path, renewed, "4").links("d.4@4", "env") as (newest, _):
            converse(newest, owner)
        assert "cannot be used" in caplog.text
        assert "the certificate before stays" in caplog.text


def test_a_renewed_certificate_names_the_same_member(
    tmp_path: Path, authority: trustme.CA, caplog: pytest.LogCaptureFixture
) -> None:
    peers = tls_peers(tmp_path, authority, "host-1")
    (other := tmp_path / "other").mkdir()
    with peers.links("a.1@host-1", "env") as (owner, _):
        files(tmp_path, authority, "host-2")
        with tls_peers(other, authority).links("b.2@other", "env") as (member, _):
            converse(member, owner)
    assert "names host-2, and this process has joined as host-1" in caplog.text
    assert peers.member("a", "2") == "a.2@host-1"


def test_a_certificate_that_ends_while_the_process_runs_is_told(
    tmp_path: Path, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = datetime.datetime.now(datetime.UTC)
    ends = now + datetime.timedelta(days=1)
    variables = {**LISTEN, **files(tmp_path, authority, "host-1", not_after=ends)}
    peers = peers_of(server=True, variables=variables)
    assert peers is not None
    assert peers.problem is None
    monkeypatch.setattr("ratectl.cluster.peers.time.time", lambda: ends.timestamp() + 1)
    assert peers.problem == (
        f"peers refuse the certificate {tmp_path}/CERT.pem, which ended at "
        f"{ends.isoformat(' ', 'seconds')}: renew it"
    )
    files(tmp_path, authority, "host-1", not_after=ends + datetime.timedelta(days=1))
    assert peers.problem is None, "it was renewed"


def tls_peers(folder: Path, authority: trustme.CA, name: str | None = None) -> TlsPeers:
    variables = {**LISTEN, **files(folder, authority, name or folder.name)}
    peers = peers_of(server=True, variables=variables)
    assert isinstance(peers, TlsPeers)
    return peers
