"""``ratectl agent run --http``: a real sidecar that follows a real store, asked with JSON."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest
import trustme
from test_agent_endpoints import agent_run, agent_run_refuses

from etcd_server import wait_for
from ratectl.runtime.address import Address
from ratectl.stores import open_store
from sidecar.http_asking import ask, connected, post
from support import once, policies, publish_policies

if TYPE_CHECKING:
    from pathlib import Path

TREE = policies(**{"/mail": {"limits": {"spike": {"rate": "2/day", "burst": 2}}}})
ASKED = {"scope": "/mail"}


@once
def test_a_sidecar_decides_what_was_published(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/rates.db"
    path, rls = tmp_path / "http.sock", tmp_path / "rls.sock"
    options = ("--http", f"unix:{path}", "--rls", f"unix:{rls}")
    with open_store(url) as store, agent_run(url, tmp_path, *options) as running:
        running.logged("rls on unix:")
        running.logged("http on unix:")
        address = Address("", 0, str(path))
        assert ask(address, "GET", "/readyz").status == 503
        assert post(address, "/v1/check", ASKED).json["reason"] == "error"
        publish_policies(store, TREE)
        wait_for(lambda: ask(address, "GET", "/readyz").status == 200, "a generation", 20)
        found = [post(address, "/v1/check", ASKED) for _ in range(3)]
        assert [got.status for got in found] == [200, 200, 429]
        assert found[2].json["source"].endswith("of /mail")
    assert not path.exists()
    assert not rls.exists()


@once
def test_sigterm_ends_idle_connections_soon(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/rates.db"
    with agent_run(url, tmp_path, "--http", "127.0.0.1:0") as running:
        port = int(running.logged(r"http on 127.0.0.1:([0-9]+)")[1])
        with connected(Address("127.0.0.1", port)) as idle:
            idle.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert idle.recv(1_000).endswith(b"ok\n")
            running.process.send_signal(signal.SIGTERM)
            assert idle.recv(1_000) == b""
            assert running.process.wait(20) == 0


@once
def test_a_sidecar_with_certificates_speaks_tls_alone(tmp_path: Path) -> None:
    issued = trustme.CA().issue_cert("localhost")
    certificate, key = tmp_path / "http.pem", tmp_path / "http.key"
    issued.cert_chain_pems[0].write_to_path(certificate)
    issued.private_key_pem.write_to_path(key)
    options = ["--http", "127.0.0.1:0", "--http-tls", str(certificate), "--http-tls", str(key)]
    with agent_run(f"sqlite:///{tmp_path}/rates.db", tmp_path, *options) as running:
        port = int(running.logged(r"http on 127.0.0.1:([0-9]+)")[1])
        with connected(Address("127.0.0.1", port)) as plain:
            plain.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert b"HTTP" not in plain.recv(1_000)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--http", "here"], "it has no port"),
        (["--http-tls", "a", "--http-tls", "b"], "--http-tls is for --http: name its address"),
        (
            ["--rls", "127.0.0.1:0", "--http-tls", "a", "--http-tls", "b"],
            "--http-tls is for --http",
        ),
        (["--http", "127.0.0.1:0", "--rls-server", "grpcio"], "--rls-server is for --rls"),
        (
            ["--http", "127.0.0.1:0", "--http-tls", "a"],
            "--http-tls is given two or three times, not 1",
        ),
        (
            ["--http", "127.0.0.1:0", "--http-tls", "/none", "--http-tls", "/none"],
            "the certificate of --http cannot be used: /none: No such file",
        ),
    ],
)
def test_wrong_options(tmp_path: Path, options: list[str], message: str) -> None:
    assert message in agent_run_refuses(tmp_path, *options)
