"""Files that ``plan --out`` can and cannot write."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from cli_support import Cli


def refused(cli: Cli, name: str, code: int) -> str:
    """Return the message for a name that is refused."""
    run = cli("plan", "policies", "--out", name)
    assert (run.code, run.out) == (code, "")
    return run.err


@pytest.mark.parametrize("name", ["", "-"])
def test_a_name_that_is_no_file_is_a_usage_error(
    cli: Cli, tree: Path, published: str, name: str
) -> None:
    assert f"--out takes the name of a file, not {name!r}" in refused(cli, name, 64)
    assert sorted(each.name for each in Path().iterdir()) == ["policies"]


def test_the_printed_command_applies_the_plan(cli: Cli, tree: Path, store_url: str) -> None:
    run = cli("plan", "policies", "--out", "my plan.json")
    last = run.out.splitlines()[-1]
    assert last.startswith("apply: ratectl apply ")
    program, *words = shlex.split(last.removeprefix("apply: "))
    assert program == "ratectl"
    assert cli(*words, "--yes").code == 0


@pytest.mark.parametrize("name", ["policies", "nowhere/plan.json", "policies/all.yaml/plan.json"])
def test_an_unwritable_file_has_the_exit_code_in_help(
    cli: Cli, tree: Path, published: str, name: str
) -> None:
    assert f"{name}: " in refused(cli, name, 69)
    assert "69 store unreachable, or the log cannot be read, or the plan not written" in " ".join(
        cli("plan", "--help").out.split()
    )
