"""Where ``plan --out`` saves a plan, and where it cannot."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from cli_support import Cli


def refused(cli: Cli, name: str, code: int) -> str:
    """What is said where a plan is not saved under this name."""
    run = cli("plan", "policies", "--out", name)
    assert (run.code, run.out) == (code, "")
    return run.err


@pytest.mark.parametrize("name", ["", "-"])
def test_what_names_no_file_is_a_usage_error(
    cli: Cli, tree: Path, published: str, name: str
) -> None:
    assert f"--out takes the name of a file, not {name!r}" in refused(cli, name, 64)
    assert sorted(each.name for each in Path().iterdir()) == ["policies"]


def test_the_printed_command_applies_it(cli: Cli, tree: Path, store_url: str) -> None:
    run = cli("plan", "policies", "--out", "my plan.json")
    last = run.out.splitlines()[-1]
    assert last.startswith("apply: ratectl apply ")
    program, *words = shlex.split(last.removeprefix("apply: "))
    assert program == "ratectl"
    assert cli(*words, "--yes").code == 0


@pytest.mark.parametrize("name", ["policies", "nowhere/plan.json", "policies/all.yaml/plan.json"])
def test_a_file_that_cannot_be_written_is_what_help_says(
    cli: Cli, tree: Path, published: str, name: str
) -> None:
    assert f"{name}: " in refused(cli, name, 69)
    assert "69 store unreachable, or the log cannot be read, or the plan not written" in " ".join(
        cli("plan", "--help").out.split()
    )
