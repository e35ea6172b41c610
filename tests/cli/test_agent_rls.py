"""``ratectl agent run --rls``: a real sidecar that follows a real store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
import pytest
import trustme
from envoy.service.ratelimit.v3.rls_pb2 import RateLimitResponse
from test_agent_endpoints import agent_run, agent_run_refuses

from envoy_gateway.management_server import ManagementServer, config, limit, packed
from etcd_server import wait_for
from ratectl.sidecar.service import METHOD
from ratectl.stores import open_store
from sidecar.envoys_messages import OK, OVER, descriptor, request
from support import once, policies, publish_policies

if TYPE_CHECKING:
    from pathlib import Path

TREE = policies(**{"/mail": {"limits": {"spike": {"rate": "2/day", "burst": 2}}}})
ASKED = request("mail", descriptor()).SerializeToString()


@once
@pytest.mark.parametrize("server", ["ngh2", "grpcio"])
def test_a_sidecar_decides_what_was_published(tmp_path: Path, server: str) -> None:
    url = f"sqlite:///{tmp_path}/rates.db"
    path = tmp_path / "rls.sock"
    options = ("--rls", f"unix:{path}", "--rls-server", server)
    with open_store(url) as store, agent_run(url, tmp_path, *options) as running:
        running.logged("rls on unix:")
        with grpc.insecure_channel(f"unix:{path}") as channel:
            check = channel.unary_unary("/grpc.health.v1.Health/Check")
            decide = channel.unary_unary(METHOD)
            assert check(b"", timeout=20) == b"\x08\x02"
            publish_policies(store, TREE)
            wait_for(lambda: check(b"", timeout=20) == b"\x08\x01", "a generation", 20)
            codes = [
                RateLimitResponse.FromString(decide(ASKED, timeout=20)).overall_code
                for _ in range(3)
            ]
            assert codes == [OK, OK, OVER]
    assert not path.exists()


@once
def test_a_sidecar_asks_by_its_mapping_which_may_change(tmp_path: Path) -> None:
    url, file = f"sqlite:///{tmp_path}/rates.db", tmp_path / "mapping.yaml"
    head = "apiVersion: ratectl/v1\nkind: EnvoyMapping\n"
    file.write_text(f"{head}domains: {{mail: {{scope: /elsewhere}}}}\n")
    options = ("--rls", "127.0.0.1:0", "--rls-mapping", str(file))
    with open_store(url) as store:
        publish_policies(store, TREE)
        with agent_run(url, tmp_path, *options) as running:
            at = running.logged(r"rls on (127.0.0.1:[0-9]+), by (libnghttp2|ngh2|grpcio)\b")[1]
            with grpc.insecure_channel(at) as channel:
                decide = channel.unary_unary(METHOD)
                for _ in range(4):
                    assert (
                        RateLimitResponse.FromString(decide(ASKED, timeout=20)).overall_code == OK
                    )
                file.write_text("nothing")
                running.logged(r"mapping.yaml:1:1: error.*; the mapping before it stays in use")
                file.write_text(f"{head}domains: {{mail: {{unit: requests}}}}\n")
                running.logged(r"the mapping .*mapping.yaml is a new one")
                codes = [
                    RateLimitResponse.FromString(decide(ASKED, timeout=20)).overall_code
                    for _ in range(3)
                ]
                assert codes == [OK, OK, OVER]


@once
def test_a_sidecar_takes_its_limits_from_a_management_server(tmp_path: Path) -> None:
    with ManagementServer() as server:
        server.put(1, packed(config("mail", limit("rule", "2/DAY", "rule"))))
        options = ("--rls", "127.0.0.1:0", "--xds", server.address)
        url = f"sqlite:///{tmp_path}/rates.db"
        with agent_run(url, tmp_path, *options) as running:
            at = running.logged(r"rls on (127.0.0.1:[0-9]+)")[1]
            running.logged(rf"version 1 of {server.address} is in force: 1 scopes")
            asked = request("mail", descriptor(("first-route", "first-route"), ("rule", "rule")))
            with grpc.insecure_channel(at) as channel:
                decide = channel.unary_unary(METHOD)
                codes = [
                    RateLimitResponse.FromString(
                        decide(asked.SerializeToString(), timeout=20)
                    ).overall_code
                    for _ in range(3)
                ]
            assert codes == [OK, OK, OVER]


def test_a_wrong_mapping_is_shown_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "mapping.yaml"
    file.write_text("apiVersion: ratectl/v1\nkind: EnvoyMapping\ndomains: {mail: {scop: /m}}\n")
    told = agent_run_refuses(tmp_path, "--rls", "127.0.0.1:0", "--rls-mapping", str(file))
    assert f"{file} is not valid" in told
    assert "mapping.yaml:3:18" in told
    assert "did you mean scope?" in told


@once
@pytest.mark.parametrize("server", ["ngh2", "grpcio"])
def test_a_sidecar_with_certificates_speaks_tls_alone(tmp_path: Path, server: str) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    certificate, key = tmp_path / "rls.pem", tmp_path / "rls.key"
    issued.cert_chain_pems[0].write_to_path(certificate)
    issued.private_key_pem.write_to_path(key)
    options = ["--rls", "127.0.0.1:0", "--rls-server", server]
    options += ["--rls-tls", str(certificate), "--rls-tls", str(key)]
    with agent_run(f"sqlite:///{tmp_path}/rates.db", tmp_path, *options) as running:
        at = f"localhost:{running.logged(r'rls on 127.0.0.1:([0-9]+)')[1]}"
        health = "/grpc.health.v1.Health/Check"
        trusted = grpc.ssl_channel_credentials(authority.cert_pem.bytes())
        with grpc.secure_channel(at, trusted) as channel:
            assert channel.unary_unary(health)(b"", timeout=20) == b"\x08\x02"
        with grpc.insecure_channel(at) as channel, pytest.raises(grpc.RpcError):
            channel.unary_unary(health)(b"", timeout=20)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--rls", "here"], "it has no port"),
        (["--rls-server", "grpcio"], "--rls-server is for --rls: name its address"),
        (["--rls-tls", "a", "--rls-tls", "b"], "--rls-tls is for --rls: name its address"),
        (["--rls-mapping", "a"], "--rls-mapping is for --rls: name its address"),
        (["--rls", "127.0.0.1:0", "--rls-mapping", "a"], "cannot read the mapping a: No such file"),
        (
            ["--rls", "127.0.0.1:0", "--rls-tls", "a"],
            "--rls-tls is given two or three times, not 1",
        ),
        (
            ["--rls", "127.0.0.1:0", "--rls-server", "h2"],
            "'h2' is not one of 'libnghttp2', 'ngh2', 'grpcio'",
        ),
        (["--xds", "127.0.0.1:1"], "--xds is for --rls: name its address"),
        (["--xds-tls", "a", "--xds-tls", "b"], "--xds-tls is for --xds: name its address"),
        (["--xds-node", "a"], "--xds-node is for --xds: name its address"),
        (["--drain-seconds", "5"], "--drain-seconds is for --rls or --http: name its address"),
        (["--rls", "127.0.0.1:0", "--drain-seconds", "601"], "--drain-seconds must be at most 600"),
        (["--rls", "127.0.0.1:0", "--drain-seconds", "-1"], "--drain-seconds must be at least 0"),
        (["--xds-across", "redis"], "--xds-across is for --xds: name its address"),
        (
            ["--rls", "127.0.0.1:0", "--xds", "127.0.0.1:1", "--rls-mapping", "a"],
            "the mapping comes from the server of --xds: leave out --rls-mapping",
        ),
        (
            ["--rls", "127.0.0.1:0", "--xds", "gateway"],
            "host:port, like envoy-gateway:18001; 'gateway' is no address: it has no port",
        ),
        (
            ["--rls", "127.0.0.1:0", "--xds", "a:1", "--xds-tls", "a"],
            "not 1: certificate, key, and the authority of the server",
        ),
        (
            ["--rls", "127.0.0.1:0", "--xds", "a:1", *["--xds-tls", "no.pem"] * 3],
            "the management server a:1: cannot read no.pem: No such file",
        ),
    ],
)
def test_wrong_options(tmp_path: Path, options: list[str], message: str) -> None:
    assert message in agent_run_refuses(tmp_path, *options)
