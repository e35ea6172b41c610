"""Output in README.md and docs/, for the example tree and for a recorded log."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
import yaml
from cli_support import EXAMPLES

from ratectl.policy.read import load_checked

if TYPE_CHECKING:
    from cli_support import Cli

ROOT = Path(__file__).parents[2]
PAGES = {
    path.name: path
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
    if "```console example\n" in path.read_text(encoding="utf-8")
}
BLOCK = re.compile(r"```console example( recorded)?\n(.*?)```\n", re.DOTALL)
EDIT = re.compile(r"sed -i 's,([^,]+),([^,]*),' (\S+)")
LOG = "access.log.gz"
UPDATE = os.environ.get("RATECTL_UPDATE_GOLDEN") == "1"


@pytest.mark.parametrize("name", PAGES)
def test_the_page_shows_the_real_output(
    name: str,
    cli: Cli,
    clean_place: Path,
    still: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shutil.copytree(EXAMPLES, clean_place / "policies")
    monkeypatch.setenv("RATECTL_STORE", "sqlite:///rates.db")
    frozen = SimpleNamespace(monotonic_ns=lambda: 1_000_000_000)
    monkeypatch.setattr("ratectl_cli.inputs.engines.time", frozen)
    check(PAGES[name], cli, clean_place, recorded=False)


@pytest.mark.reallog
@pytest.mark.parametrize("name", ["simulate.md"])
def test_the_page_shows_the_real_output_for_a_recorded_log(
    name: str, cli: Cli, clean_place: Path, real_log: Path
) -> None:
    shutil.copytree(EXAMPLES, clean_place / "policies")
    shutil.copytree(EXAMPLES, clean_place / "tighter")
    shutil.copy(ROOT / "docs" / "examples" / "web.map.yaml", clean_place)
    shutil.copy(real_log, clean_place / LOG)
    check(ROOT / "docs" / name, cli, clean_place, recorded=True)


def check(page: Path, cli: Cli, place: Path, *, recorded: bool) -> None:
    """Run the blocks of one kind, and compare."""
    text = page.read_text(encoding="utf-8")
    ran = 0

    def printed(block: re.Match[str]) -> str:
        nonlocal ran
        if bool(block[1]) is not recorded:
            return block[0]
        ran += 1
        parts = re.split(r"^\$ (.*)\n", block[2], flags=re.MULTILINE)[1:]
        real = ""
        for command, shown in zip(parts[::2], parts[1::2], strict=True):
            out = run(command, cli, place)
            if not (UPDATE and "…" not in shown.splitlines()):
                assert_shown(shown, out, command)
                out = shown
            real += f"$ {command}\n{out}"
        return f"```console example{block[1] or ''}\n{real}```\n"

    real = BLOCK.sub(printed, text)
    assert ran
    if UPDATE:
        page.write_text(real, encoding="utf-8")


def run(command: str, cli: Cli, place: Path) -> str:
    edit = EDIT.match(command)
    if edit:
        before = (place / edit[3]).read_text(encoding="utf-8")
        assert before.count(edit[1]) == 1, command
        (place / edit[3]).write_text(before.replace(edit[1], edit[2]), encoding="utf-8")
        return ""
    program, *words = shlex.split(command.removesuffix(" 2>&1"), comments=True)
    assert program == "ratectl"
    ran = cli(*words)
    return ran.err + ran.out if command.endswith(" 2>&1") else ran.out


def assert_shown(shown: str, out: str, command: str) -> None:
    pieces = [re.escape(line) if line != "…\n" else None for line in shown.splitlines(True)]
    pattern = "".join("(?:.*\n)*" if piece is None else piece for piece in pieces)
    assert re.fullmatch(pattern, out), f"{command} printed\n{out}"


# docs/policies.md ------------------------------------------------------------------------------

LANGUAGE = (ROOT / "docs" / "policies.md").read_text(encoding="utf-8")
RECIPES = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"```yaml ?([RC0-9 ]*)\n(.*?)```", LANGUAGE + RECIPES, re.DOTALL)


@pytest.mark.parametrize(("codes", "text"), SNIPPETS, ids=range(len(SNIPPETS)))
def test_examples_of_the_language(codes: str, text: str) -> None:
    """No findings, or exactly those that the block is about."""
    whole = re.sub(r"(^|\n---\n)", r"\1apiVersion: ratectl/v1\n", text)
    found = load_checked(["-"], stdin=whole.encode()).diagnostics
    assert {each.code for each in found} == set(codes.split()), found


def test_every_code_in_the_text_has_an_example(cli: Cli) -> None:
    """Every matcher in the table is a matcher."""
    for code in set(re.findall(r"RC\d{3}", LANGUAGE)):
        assert cli("rule", code).code == 0
    table = LANGUAGE.partition("| matcher |")[2].partition("\n\n")[0]
    for cell in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE):
        for written in re.findall(r"`([^`]+)`", cell):
            policy = {
                "apiVersion": "ratectl/v1",
                "scope": "/",
                "overrides": [
                    {"name": "x", "match": {"a": yaml.safe_load(written)},
                     "limits": {"z": {"rate": "1/s"}}}
                ],
            }  # fmt: skip
            text = yaml.safe_dump(policy)
            assert not load_checked(["-"], stdin=text.encode()).diagnostics, written
