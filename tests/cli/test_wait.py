"""``apply --wait``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from cli_support import report_agent

if TYPE_CHECKING:
    from cli_support import Cli


def test_every_agent_runs_the_generation(cli: Cli, edited: str) -> None:
    report_agent(edited, id="edge-1", generation=2)
    report_agent(edited, id="edge-2", generation=2)
    run = cli("apply", "policies", "--yes", "--wait")
    assert run.code == 0
    assert "generation 2 is live\nit runs in 2 of 2 agents\n" in run.out


def test_an_agent_rejects_the_generation(cli: Cli, edited: str) -> None:
    report_agent(edited, id="edge-1", generation=2)
    report_agent(
        edited, id="edge-2", generation=1, state="rejected", rejected=2, error="bundle is corrupt"
    )
    run = cli("apply", "policies", "--yes", "--wait-for", "50%")
    assert run.code == 1
    assert "it runs in 1 of 2 agents\nrejected by edge-2: bundle is corrupt\n" in run.out
    assert "undo:   ratectl rollback --to 1" in run.out


def test_without_agents(cli: Cli, edited: str) -> None:
    run = cli("apply", "policies", "--yes", "--wait")
    assert run.code == 1
    assert (
        "generation 2 is live\nno agent is running: agents enforce it when they start\n" in run.out
    )


def test_the_time_is_up(cli: Cli, edited: str) -> None:
    report_agent(edited, id="edge-1", generation=2)
    report_agent(edited, id="edge-2", generation=1)
    words = ("apply", "policies", "--yes", "--wait", "--timeout", "1", "-o", "json")
    run = cli(*words)
    assert run.code == 124
    assert run.document["published"] is True
    assert run.document["agents"] == {
        "outcome": "timeout",
        "running": ["edge-1"],
        "rejected": [],
        "behind": [{"id": "edge-2", "generation": 1}],
    }
    again = cli(*words[:-2])
    assert again.code == 124, "what is live already is waited for as well"
    assert "nothing to do: generation 2" in again.out
    assert "not yet: edge-2 (generation 1)" in again.out
    assert cli("apply", "policies", "--yes", "--wait-for", "1").code == 0


def test_apply_does_not_wait_by_default(cli: Cli, edited: str) -> None:
    assert cli("apply", "policies", "--yes", "-o", "json").document["agents"] is None


@pytest.mark.parametrize("words", [("--wait", "--wait-for", "1"), ("--wait-for", "most")])
def test_invalid_numbers_of_agents_are_refused(
    cli: Cli, edited: str, words: tuple[str, ...]
) -> None:
    run = cli("apply", "policies", "--yes", *words)
    assert run.code == 64
    assert cli("history", "-o", "json").document["live"] == 1
