"""docs/testing.md: its files, commands and output, and its example for pytest."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from cli_support import Cli

PAGE = (Path(__file__).parents[2] / "docs" / "testing.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", PAGE, re.DOTALL)


def test_the_page_shows_the_real_output(cli: Cli, clean_place: Path) -> None:
    """Files are written and commands are run in the order of the page."""
    ran = 0
    for language, text in BLOCKS:
        if language == "yaml" and text.startswith("# policies/"):
            path = clean_place / text.split()[1]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            assert cli("fmt", str(path), "--check").code == 0, path
        elif language == "console":
            command, _, printed = text.removeprefix("$ ratectl ").partition("\n")
            assert cli(*shlex.split(command)).out == printed, command
            ran += 1
    assert ran == 3


def test_the_example_for_pytest_works(cli: Cli, clean_place: Path) -> None:
    (code,) = (text for language, text in BLOCKS if language == "python")
    cli("init")
    defined: dict[str, Any] = {"pytest": pytest}
    exec(code, defined)
    defined["test_policies"]()
    for name in defined["SUITE"].names:
        defined["test_policy"](name)
    next(clean_place.rglob("*_test.yaml")).unlink()
    with pytest.raises(AssertionError, match="no test ran"):
        defined["test_policies"]()
