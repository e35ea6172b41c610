"""A pipeline, step by step: a real repository, a real etcd, real agents."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cli_support import TREE

from etcd_server import wait_for
from ratectl import Agent

if TYPE_CHECKING:
    from cli_support import Cli

pytestmark = pytest.mark.etcd

TESTED = """\
apiVersion: ratectl/v1
kind: PolicyTest
name: a burst, and no more
steps:
  - scope: /
    attributes: {client: acme}
    times: 150
    expect: {allowed: 100, limit: spike}
"""


def git(*words: str) -> str:
    who = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org")
    done = subprocess.run(
        ["git", *who, *words], check=True, capture_output=True, text=True, timeout=30
    )
    return done.stdout.strip()


def test_from_a_branch_to_agents_and_back_from_drift(
    cli: Cli,
    tree: Path,
    tmp_path: Path,
    etcd_url: str,
) -> None:
    (tree / "all_test.yaml").write_text(TESTED)
    git("init", "-q", "-b", "main")
    git("add", "policies")
    git("commit", "-q", "-m", "first")
    assert cli("apply", "policies", "--yes", "--allow-first", "a test").code == 0
    agents = [
        Agent(etcd_url, id=f"edge-{n}", state_dir=tmp_path / f"agent-{n}", report_interval=0.05)
        for n in range(2)
    ]
    try:
        for agent in agents:
            assert agent.wait_for_generation(1, 10)
        wait_for(lambda: len(cli("agents", "-o", "json").document["agents"]) == 2, "both are there")

        # On a branch
        git("switch", "-q", "-c", "more")
        (tree / "all.yaml").write_text(TREE.replace("burst: 100", "burst: 90"))
        assert cli("test", "policies").code == 1
        (tree / "all.yaml").write_text(TREE.replace("50/s", "60/s"))
        assert cli("validate", "policies").code == 0
        assert cli("test", "policies").code == 0
        git("commit", "-q", "-am", "more for everybody")
        plan = cli("plan", "policies", "--format", "markdown")
        assert plan.code == 0
        assert "token-bucket 60/s burst 100 per client" in plan.out
        assert agents[0].generation == 1

        # Merged
        git("switch", "-q", "main")
        git("merge", "-q", "--ff-only", "more")
        assert cli("plan", "policies", "--out", "plan.json", "--detailed-exitcode").code == 2
        run = cli("apply", "plan.json", "--yes", "--wait", "--timeout", "30")
        assert run.code == 0, run.out + run.err
        assert "it runs in 2 of 2 agents" in run.out
        assert [agent.generation for agent in agents] == [2, 2]
        entry = cli("history", "-o", "json").document["generations"][0]
        assert entry["commit"] == git("rev-parse", "HEAD")
        assert cli("diff", "policies").code == 0

        # By hand
        Path("hand.yaml").write_text(TREE.replace("50/s", "5/s"))
        assert cli("apply", "hand.yaml", "--yes", "-m", "quick").code == 0
        drift = cli("diff", "policies", "-o", "json")
        assert drift.code == 1
        assert drift.document["differs"]
        assert cli("apply", "plan.json", "--yes").code == 75

        # Mended
        assert cli("apply", "policies", "--yes", "--wait", "--timeout", "30").code == 0
        assert cli("diff", "policies").code == 0
        assert [agent.generation for agent in agents] == [4, 4]
        assert json.loads(Path("plan.json").read_text())["base"]["generation"] == 1
    finally:
        for agent in agents:
            agent.close()
