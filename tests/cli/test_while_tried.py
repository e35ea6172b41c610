"""What other commands say while a candidate is tried."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from cli_support import TREE

if TYPE_CHECKING:
    from pathlib import Path

    from cli_support import Cli

FIRST = "generation 2 is being tried beside generation 1"


@pytest.fixture
def tried(cli: Cli, tree: Path, published: str) -> str:
    """Generation 2 is evaluated beside generation 1, and the files ask for a third."""
    (tree / "all.yaml").write_text(TREE.replace("50/s", "51/s"))
    assert cli("apply", "policies", "--yes", "--shadow").code == 0
    (tree / "all.yaml").write_text(TREE.replace("50/s", "52/s"))
    return published


def test_a_dry_run_is_refused_as_the_real_one_is(cli: Cli, tried: str) -> None:
    for words in (("--dry-run",), ("--dry-run", "--shadow"), ("--yes",), ()):
        run = cli("apply", "policies", *words)
        assert run.code == 75, "also before anybody is asked"
        assert FIRST in run.err
        assert "it would be generation" not in run.out
    assert cli("rollout", "abort").code == 0
    assert "it would be generation 3" in cli("apply", "policies", "--dry-run").out


def test_a_plan_says_that_it_cannot_be_applied_yet(cli: Cli, tree: Path, tried: str) -> None:
    for text in (TREE.replace("50/s", "52/s"), TREE):
        (tree / "all.yaml").write_text(text)
        run = cli("plan", "policies")
        assert run.code == 0
        assert f"notice: {FIRST}: `ratectl rollout promote` or" in run.out
        assert f"**Notice**: {FIRST}: " in cli("plan", "policies", "--format", "markdown").out
        assert cli("plan", "policies", "-o", "json").document["candidate"] == 2
    assert cli("rollout", "abort").code == 0
    assert FIRST not in cli("plan", "policies").out
    assert cli("plan", "policies", "-o", "json").document["candidate"] is None
