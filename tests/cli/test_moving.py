"""`ratectl import envoy` and `ratectl export envoy`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
import pytest
from envoy.service.ratelimit.v3.rls_pb2 import RateLimitResponse
from test_agent_endpoints import agent_run

from etcd_server import wait_for
from ratectl.sidecar.service import METHOD
from sidecar.envoys_messages import OK, OVER, descriptor, request
from support import once

if TYPE_CHECKING:
    from pathlib import Path

    from cli_support import Cli

    from conftest import Golden

CONFIG = """\
domain: shop
descriptors:
  - key: generic_key
    value: checkout
    rate_limit:
      unit: day
      requests_per_unit: 100
    descriptors:
      - key: remote_address
        rate_limit:
          unit: day
          requests_per_unit: 2
  - key: user
    detailed_metric: true
    rate_limit:
      unit: second
      requests_per_unit: 10
"""
NOTE = "detailed_metric is left out: it changes metrics, and no decision"
WRONG = """\
domain: mail
descriptors:
  - key: user
    rate_limit:
      unit: year
      requests_per_unit: 5
  - key: plan
    quota_mode: true
    rate_limit: {unit: day, requests_per_unit: 5}
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "config"
    folder.mkdir()
    (folder / "shop.yaml").write_text(CONFIG)
    return folder


def files_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_help(cli: Cli, golden: Golden) -> None:
    golden("import-envoy-help", cli("import", "envoy", "--help").out)
    golden("export-envoy-help", cli("export", "envoy", "--help").out)


def test_import(cli: Cli, golden: Golden, config: Path) -> None:
    run = cli("import", "envoy", "config", "--to", "limits")
    assert run.code == 0
    golden("import-envoy", run.out + run.err)
    assert files_in(config.parent / "limits") == ["envoy-mapping.yaml", "policies/shop.yaml"]
    assert cli("validate", "limits/policies", "--fail-level", "warning").code == 0
    assert cli("fmt", "--check", "limits/policies").code == 0


def test_import_for_programs(cli: Cli, config: Path) -> None:
    run = cli("import", "envoy", str(config / "shop.yaml"), "--across", "redis", "-o", "json", "-q")
    assert run.document == {
        "apiVersion": "ratectl/v1",
        "kind": "Import",
        "files": ["policies/shop.yaml", "envoy-mapping.yaml"],
        "scopes": 3,
        "notes": [f"{config}/shop.yaml:14:22: {NOTE}"],
    }
    assert "across: redis" in (config.parent / "policies" / "shop.yaml").read_text()
    assert not run.err


def test_findings_stop_an_import(cli: Cli, golden: Golden, config: Path) -> None:
    (config / "mail.yaml").write_text(WRONG)
    run = cli("import", "envoy", "config", "--to", "limits")
    assert run.code == 65
    golden("import-envoy-errors", run.err)
    assert not (config.parent / "limits").exists()
    (config / "mail.yaml").write_text(WRONG.replace("year", "week"))
    assert cli("import", "envoy", "config", "--quota-mode", "enforce").code == 0


def test_no_file_is_replaced(cli: Cli, config: Path) -> None:
    mapping = config.parent / "envoy-mapping.yaml"
    mapping.write_text("mine")
    run = cli("import", "envoy", "config")
    assert run.code == 77
    assert "import never overwrites, and there are already: envoy-mapping.yaml" in run.err
    assert not (config.parent / "policies").exists()
    assert mapping.read_text() == "mine"


def test_paths_that_cannot_be_read(cli: Cli, config: Path) -> None:
    assert "no such file or directory: nowhere" in cli("import", "envoy", "nowhere").err
    run = cli("import", "envoy", "-")
    assert (run.code, "not read from standard input" in run.err) == (64, True)
    (config.parent / "mapping.yaml").write_text(
        "apiVersion: ratectl/v1\nkind: EnvoyMapping\ndomains: {a: {unlisted: maybe}}\n"
    )
    assert cli("import", "envoy", "config").code == 0
    run = cli("export", "envoy", "--mapping", "mapping.yaml", "--to", "back")
    assert run.code == 64
    assert "mapping.yaml:3:25" in run.err
    assert "write decide or pass" in run.err


def test_no_link_leads_out(cli: Cli, config: Path) -> None:
    other = config.parent / "other"
    other.mkdir()
    (config.parent / "limits").mkdir()
    (config.parent / "limits" / "policies").symlink_to(other)
    run = cli("import", "envoy", "config", "--to", "limits")
    assert run.code == 77
    assert "leads out of limits by a link" in run.err
    assert not files_in(other)


def test_all_files_are_written_or_none(cli: Cli, config: Path) -> None:
    (config.parent / "policies").write_text("a file where a folder goes")
    assert cli("import", "envoy", "config").code == 69
    assert files_in(config.parent) == ["config/shop.yaml", "policies"]


def test_export(cli: Cli, golden: Golden, config: Path) -> None:
    assert cli("import", "envoy", "config").code == 0
    run = cli("export", "envoy", "--mapping", "envoy-mapping.yaml", "--to", "back")
    assert run.code == 0
    golden("export-envoy", run.out + run.err + (config.parent / "back/shop.yaml").read_text())
    again = cli("export", "envoy", "--mapping", "envoy-mapping.yaml", "--to", "back")
    assert again.code == 77


def test_findings_stop_an_export(cli: Cli, golden: Golden, config: Path) -> None:
    assert cli("import", "envoy", "config").code == 0
    policies = config.parent / "policies" / "shop.yaml"
    policies.write_text(policies.read_text().replace("algorithm: quota, rate: 10/s", "rate: 10/s"))
    run = cli("export", "envoy", "--mapping", "envoy-mapping.yaml", "--to", "back")
    assert run.code == 65
    golden("export-envoy-errors", run.err)
    assert not (config.parent / "back").exists()
    assert cli("export", "envoy", "--mapping", "none.yaml", "--to", "back").code == 64


@once
def test_a_sidecar_decides_what_was_imported(cli: Cli, config: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/rates.db"
    assert cli("import", "envoy", "config").code == 0
    assert cli("apply", "policies", "--yes", "--allow-first", "new", "--store", url).code == 0
    path = tmp_path / "rls.sock"
    options = ("--rls", f"unix:{path}", "--rls-mapping", "envoy-mapping.yaml")
    with (
        agent_run(url, tmp_path, *options) as running,
        grpc.insecure_channel(f"unix:{path}") as channel,
    ):
        running.logged("rls on unix:")
        check = channel.unary_unary("/grpc.health.v1.Health/Check")
        decide = channel.unary_unary(METHOD)
        wait_for(lambda: check(b"", timeout=20) == b"\x08\x01", "a generation", 20)

        def code(*entries: tuple[str, str]) -> int:
            asked = request("shop", descriptor(*entries)).SerializeToString()
            answer = RateLimitResponse.FromString(decide(asked, timeout=20))
            return int(answer.overall_code)

        checkout = ("generic_key", "checkout")
        one = [code(checkout, ("remote_address", "10.0.0.1")) for _ in range(3)]
        assert one == [OK, OK, OVER]
        assert code(checkout, ("remote_address", "10.0.0.2")) == OK
        assert [code(checkout) for _ in range(3)] == [OK] * 3
        assert [code(("unknown", "a")) for _ in range(3)] == [OK] * 3
