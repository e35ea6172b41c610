"""No command runs a program that proposed files name in a fake Git repository."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from support import embed_repository

if TYPE_CHECKING:
    from pathlib import Path

    from cli_support import Cli


def git(*words: str) -> str:
    who = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org")
    done = subprocess.run(
        ["git", *who, *words], check=True, capture_output=True, text=True, timeout=30
    )
    return done.stdout.strip()


@pytest.fixture
def ran(tree: Path, tmp_path: Path) -> Path:
    """The file that the proposed program would create."""
    ran = tmp_path / "ran"
    embed_repository(tree, f"touch {ran}; false")
    git("init", "-q", "-b", "main")
    git("add", "-A")
    git("commit", "-q", "-m", "proposed")
    return ran


@pytest.mark.parametrize(
    "words",
    [
        ("plan", "policies"),
        ("plan", "policies", "--out", "saved.plan"),
        ("apply", "policies", "--dry-run"),
        ("apply", "policies", "--yes"),
        ("validate", "policies", "--base", "HEAD"),
    ],
)
def test_git_settings_in_proposed_files_run_no_command(
    cli: Cli, store_url: str, ran: Path, words: tuple[str, ...]
) -> None:
    run = cli(*words)
    assert not ran.exists()
    assert run.code in (0, 1), run.err


def test_the_commit_is_still_recorded(cli: Cli, store_url: str, ran: Path) -> None:
    assert cli("apply", "policies", "--yes").code == 0
    (entry,) = cli("history", "-o", "json").document["generations"]
    assert (entry["commit"], entry["dirty"]) == (git("rev-parse", "HEAD"), False)


def test_a_commit_that_cannot_be_recorded_is_reported(cli: Cli, store_url: str, tree: Path) -> None:
    git("init", "-q", "--bare", "policies")
    for words in (("plan", "policies"), ("apply", "policies", "--yes")):
        run = cli(*words)
        assert run.code == 0
        assert "the commit is not recorded" in run.err
        assert "is a bare Git repository, or looks like one" in run.err
