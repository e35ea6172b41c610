"""Publishing, following and rolling back on a real etcd."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from etcd_server import wait_for
from ratectl import Agent

if TYPE_CHECKING:
    from pathlib import Path

    from cli_support import Cli

pytestmark = pytest.mark.etcd


def _allowed(cli: Cli) -> int:
    limits = cli("usage", "/shop", "-o", "json").document["limits"]
    return next((limit["allowed"] or 0 for limit in limits if limit["limit"] == "spike"), 0)


def test_publish_follow_and_roll_back(
    cli: Cli,
    tree: Path,
    tmp_path: Path,
    etcd_url: str,
) -> None:
    assert "nothing is published" in cli("doctor").out
    assert cli("apply", "policies", "--yes", "--allow-first", "a test").code == 0
    with Agent(etcd_url, id="edge", state_dir=tmp_path / "agent", report_interval=0.05) as agent:
        for _ in range(30):
            agent.check("/shop", {"client": "acme"})
        (tree / "more.yaml").write_text("{apiVersion: ratectl/v1, scope: /more}\n")
        assert cli("apply", "policies", "--yes", "-o", "json").document["generation"] == 2
        assert agent.wait_for_generation(2, 5)
        wait_for(lambda: not cli("agents", "-o", "json").document["behind"], "acknowledged")
        wait_for(lambda: _allowed(cli) == 30, "usage")
        assert cli("check", "/shop", "-n", "5", "--attr", "client=x").code == 0
        assert cli("rollback", "--yes", "-o", "json").document["generation"] == 3
        assert agent.wait_for_generation(3, 5)
        wait_for(lambda: cli("doctor", "-o", "json").document["healthy"], "all is well")
    assert [row["action"] for row in cli("history", "-o", "json").document["generations"]] == [
        "rollback", "apply", "apply"
    ]  # fmt: skip
