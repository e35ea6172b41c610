"""TLS between Envoy and a sidecar on another machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import pytest
import trustme

import ratectl
from etcd_server import wait_for
from ratectl import Agent, Tls
from ratectl.sidecar import Sidecar
from ratectl.sidecar.sidecar import SERVERS

if TYPE_CHECKING:
    from pathlib import Path

POLICIES = "apiVersion: ratectl/v1\nscope: /\nlimits:\n  each: {rate: 1/s}\n"
CHECK = "/grpc.health.v1.Health/Check"
SERVING = b"\x08\x01"

pytestmark = pytest.mark.parametrize("server", SERVERS)


class Files:
    """Certificates of a server, its clients, and their authority."""

    def __init__(self, folder: Path) -> None:
        self.authority = trustme.CA()
        self.certificate, self.key = folder / "rls.pem", folder / "rls.key"
        self.ca = folder / "ca.pem"
        self.authority.cert_pem.write_to_path(self.ca)
        self.issue()

    def issue(self, authority: trustme.CA | None = None) -> None:
        issued = (authority or self.authority).issue_cert("localhost")
        issued.private_key_pem.write_to_path(self.key)
        issued.cert_chain_pems[0].write_to_path(self.certificate)

    def asked(self, sidecar: Sidecar, *, trusted: trustme.CA | None = None, own: Any = None) -> Any:
        """Return the answer to a call over a new connection."""
        root = (trusted or self.authority).cert_pem.bytes()
        mine = own and (own.private_key_pem.bytes(), own.cert_chain_pems[0].bytes())
        credentials = grpc.ssl_channel_credentials(root, *(mine or ()))
        at = f"localhost:{sidecar.rls.port}"
        options = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.secure_channel(at, credentials, options) as channel:
            return channel.unary_unary(CHECK)(b"", timeout=20)

    def are_accepted(self, sidecar: Sidecar, **certificates: Any) -> bool:
        """Return True if a call with these certificates is answered (see ``asked``)."""
        try:
            return bool(self.asked(sidecar, **certificates) == SERVING)
        except grpc.RpcError:
            return False


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def test_calls_over_tls(server: Any, files: Files) -> None:
    tls = Tls(files.certificate, files.key)
    with (
        Agent.from_policies(POLICIES) as agent,
        Sidecar(agent, "127.0.0.1:0", server=server, rls_tls=tls) as sidecar,
    ):
        assert files.asked(sidecar) == SERVING
        with pytest.raises(grpc.RpcError):
            files.asked(sidecar, trusted=trustme.CA())
        with (
            grpc.insecure_channel(f"localhost:{sidecar.rls.port}") as channel,
            pytest.raises(grpc.RpcError),
        ):
            channel.unary_unary(CHECK)(b"", timeout=20)
        assert files.asked(sidecar) == SERVING


def test_clients_need_a_certificate_of_the_authority(server: Any, files: Files) -> None:
    tls = Tls(files.certificate, files.key, files.ca)
    with (
        Agent.from_policies(POLICIES) as agent,
        Sidecar(agent, "127.0.0.1:0", server=server, rls_tls=tls) as sidecar,
    ):
        assert files.asked(sidecar, own=files.authority.issue_cert("envoy")) == SERVING
        for other in (None, trustme.CA().issue_cert("envoy")):
            with pytest.raises(grpc.RpcError):
                files.asked(sidecar, own=other)


def test_new_files_are_used_and_wrong_ones_are_not(
    server: Any, files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    tls = Tls(files.certificate, files.key)
    with (
        Agent.from_policies(POLICIES) as agent,
        Sidecar(agent, "127.0.0.1:0", server=server, rls_tls=tls) as sidecar,
    ):
        assert files.asked(sidecar) == SERVING
        other = trustme.CA()

        def is_new() -> bool:
            return files.are_accepted(sidecar, trusted=other)

        assert not is_new()
        files.issue(other)
        wait_for(is_new, "the new certificate", 30)
        files.key.write_text("no key")
        told = f"{files.key} holds no private key in PEM: the one before stays"
        wait_for(lambda: is_new() and told in caplog.text, "the warning", 30)
        assert is_new()


def test_a_new_authority_of_clients_is_used(server: Any, files: Files) -> None:
    tls = Tls(files.certificate, files.key, files.ca)
    with (
        Agent.from_policies(POLICIES) as agent,
        Sidecar(agent, "127.0.0.1:0", server=server, rls_tls=tls) as sidecar,
    ):
        other = trustme.CA()
        newer = other.issue_cert("envoy")

        def is_served() -> bool:
            return files.are_accepted(sidecar, own=newer)

        assert not is_served()
        other.cert_pem.write_to_path(files.ca, append=True)
        wait_for(is_served, "the new authority", 30)
        assert files.asked(sidecar, own=files.authority.issue_cert("envoy")) == SERVING


def test_files_that_cannot_be_used(server: Any, files: Files, tmp_path: Path) -> None:
    for tls, message in (
        (Tls(tmp_path / "none", files.key), "the certificate of --rls cannot be used: .*none: No"),
        (Tls(files.key, files.certificate), "holds no certificate in PEM"),
    ):
        with (
            Agent.from_policies(POLICIES) as agent,
            pytest.raises(ratectl.UsageError, match=message),
        ):
            Sidecar(agent, "127.0.0.1:0", server=server, rls_tls=tls)
