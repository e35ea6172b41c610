"""Mistakes of a first day, each with its whole message, and what its hint leads to.

``mistakes/policies/NAME.yaml`` holds a mistake, ``NAME.mended*.yaml`` what its hints lead to.
``mistakes/commands/NAME.args`` holds a command line (``mistake:``) and the one that its hint leads
to (``follow:``). ``NAME.txt`` is what is printed; RATECTL_UPDATE_GOLDEN=1 writes it.
"""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from cli_support import GOLDEN

from ratectl.policy.read import load_checked
from ratectl.policy.yaml import events

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cli_support import Cli, Result

    from conftest import Golden
    from ratectl.diagnostics import Diagnostic

MISTAKES = GOLDEN.parent / "mistakes"
POLICIES = sorted(
    path for path in (MISTAKES / "policies").glob("*.yaml") if ".mended" not in path.name
)
MENDED = sorted((MISTAKES / "policies").glob("*.mended*.yaml"))
COMMANDS = sorted((MISTAKES / "commands").glob("*.args"))

TESTS = """\
apiVersion: ratectl/v1
kind: PolicyTest
name: ten requests to the shop
steps:
  - {scope: /shop, times: 10, attributes: {client: acme}, expect: {allowed: 10}}
"""
MAP = """\
apiVersion: ratectl/v1
kind: TrafficMap
format: csv
time: time
scope: {field: scope}
attributes: {client: client}
"""
_LITERAL = re.compile(
    r"(?:write|add a zone:|add a time and a zone:) (?P<text>(?!it\b)[^\s;,]+)"
    r"(?:,? (?:or|for|\().*)?|did you mean (?P<meant>[^\s?]+)\?.*"
)
"""A hint that begins with the text to write in place of the one that is marked."""


def stem(path: Path) -> str:
    return path.stem


def printed(words: Sequence[str], run: Result) -> str:
    """Return everything that a person sees of a run."""
    return f"$ ratectl {shlex.join(words)}\n{run.out}{run.err}[exit code {run.code}]\n"


@pytest.mark.parametrize("path", POLICIES, ids=stem)
def test_a_mistake_in_a_policy(cli: Cli, golden: Golden, path: Path, clean_place: Path) -> None:
    shutil.copy(path, clean_place)
    words = ("validate", path.name)
    run = cli(*words)
    assert "internal error" not in run.err
    golden(f"../mistakes/policies/{path.stem}", printed(words, run))


@pytest.mark.parametrize("path", POLICIES, ids=stem)
def test_both_parsers_give_the_same_findings(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """YAML is read by libyaml where it is installed, and otherwise by Python."""
    found = [str(finding) for finding in load_checked([path]).diagnostics]
    monkeypatch.setattr(events, "_LOADER", yaml.SafeLoader)
    assert [str(finding) for finding in load_checked([path]).diagnostics] == found


@pytest.mark.parametrize("path", MENDED, ids=stem)
def test_a_mended_policy_is_valid(path: Path) -> None:
    assert [str(finding) for finding in load_checked([path]).diagnostics] == []


def test_every_mistake_has_a_mended_policy_and_a_message() -> None:
    assert len(POLICIES) + len(COMMANDS) >= 40
    mistakes = {path.stem for path in POLICIES}
    assert {path.name.partition(".mended")[0] for path in MENDED} == mistakes
    assert {path.stem for path in (MISTAKES / "policies").glob("*.txt")} == mistakes
    commands = {path.stem for path in COMMANDS}
    assert {path.stem for path in (MISTAKES / "commands").glob("*.txt")} == commands


def amounts(path: Path) -> set[str]:
    """Return the numbers in a file, as they are without separators of thousands."""
    plain = re.sub(r"(?<=\d)[_,](?=\d)", "", path.read_text(encoding="utf-8"))
    return set(re.findall(r"\d+", plain))


OTHER_AMOUNTS = {
    # The file lacks what the amount is for, or has a template in its place.
    "empty_file", "only_comments", "per_only_no_space", "exception_duration",
    "exception_without_until", "helm_block", "helm_value", "helm_value_in_braces",
    "helm_value_quoted", "jinja_block", "shell_variable", "shell_variable_on_a_line",
}  # fmt: skip
DROPPED_AMOUNTS = {
    "cap_exceeded": "lowered to the cap",
    "exception_duration": "a duration is no date",
    "exception_of_an_undeclared_scope": "part of the scope's name",
    "field_unknown": "rate has a time already",
    "limits_a_list": "written in other words",
    "rate_unit_suffix": "5k is 5000",
}


@pytest.mark.parametrize("path", MENDED, ids=stem)
def test_a_mended_policy_has_only_amounts_of_the_mistake_or_of_its_message(path: Path) -> None:
    name = path.name.partition(".mended")[0]
    mistake = path.with_name(f"{name}.yaml")
    if name not in OTHER_AMOUNTS:
        assert amounts(path) <= amounts(mistake) | amounts(mistake.with_suffix(".txt"))


@pytest.mark.parametrize("path", POLICIES, ids=stem)
def test_the_amounts_of_a_mistake_are_kept(path: Path) -> None:
    mended = [each for each in MENDED if each.name.startswith(f"{path.stem}.mended")]
    kept = amounts(path) <= set().union(*map(amounts, mended))
    assert kept is (path.stem not in DROPPED_AMOUNTS)


def literal(finding: Diagnostic) -> str | None:
    """Return the text that a hint says to write, if the hint says nothing else."""
    match = _LITERAL.fullmatch(finding.hint or "")
    return match and (match["text"] or match["meant"])


def corrected(path: Path) -> str | None:
    """Return the text with every hint followed as it is written; None if one needs judgement."""
    lines = path.read_text(encoding="utf-8").split("\n")
    for finding in reversed(load_checked([path]).diagnostics):
        text, span = literal(finding), finding.span
        if text is None:
            return None
        line = lines[span.line - 1]
        lines[span.line - 1] = line[: span.column - 1] + text + line[span.end_column - 1 :]
    return "\n".join(lines)


CORRECTED = [(path.stem, text) for path in POLICIES if (text := corrected(path)) is not None]


@pytest.mark.parametrize(("name", "text"), CORRECTED, ids=[name for name, _ in CORRECTED])
def test_the_hint_taken_literally_is_valid(name: str, text: str) -> None:
    assert [str(found) for found in load_checked(["-"], stdin=text.encode()).diagnostics] == []


def test_many_hints_can_be_taken_literally() -> None:
    assert len(CORRECTED) >= 10


# Commands ---------------------------------------------------------------------------------------


def parts(path: Path) -> dict[str, str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return {name: value for name, _, value in (line.partition(": ") for line in lines)}


@pytest.fixture
def place(cli: Cli, tree: Path, store_url: str, still: None) -> Path:
    """A working directory with policies, a test of them, a log and files of other kinds."""
    (tree / "all_test.yaml").write_text(TESTS)
    Path("empty").mkdir()
    Path("notes.txt").write_text("see the wiki\n")
    Path("requests.csv").write_text("time,scope,client\n2026-11-23T11:00:00Z,/shop,acme\n")
    Path("map.yaml").write_text(MAP)
    return tree


def run_case(cli: Cli, given: dict[str, str], line: str) -> tuple[list[str], Result]:
    if given.get("store") != "empty":
        assert cli("apply", "policies", "--yes", "-q", "-m", "first").code == 0
    words = shlex.split(given[line])
    return words, cli(*words)


@pytest.mark.parametrize("path", COMMANDS, ids=stem)
def test_a_mistake_in_a_command(cli: Cli, golden: Golden, path: Path, place: Path) -> None:
    words, run = run_case(cli, parts(path), "mistake")
    assert "internal error" not in run.err
    golden(f"../mistakes/commands/{path.stem}", printed(words, run))


@pytest.mark.parametrize("word", ["root:hunter2@host/prod", "etcd://root:it's hunter2@host/x"])
def test_a_proposed_command_line_repeats_no_password(cli: Cli, place: Path, word: str) -> None:
    for words in (
        ("plan", "-f", word),
        ("explain", "/", word),
        ("histor", word),
        ("usage", "/", word),
        ("show", word),
        ("history", "--limit", word),
    ):
        run = cli(*words)
        assert run.code == 64
        assert "hunter2" not in run.out + run.err


FOLLOWED = [path for path in COMMANDS if "follow" in parts(path)]


@pytest.mark.parametrize("path", FOLLOWED, ids=stem)
def test_the_hint_of_a_command_leads_to_an_answer(cli: Cli, path: Path, place: Path) -> None:
    given = parts(path)
    _, run = run_case(cli, given, "follow")
    assert run.code in (0, 1), run.err


def test_proposed_command_lines_are_those_that_are_followed(cli: Cli, place: Path) -> None:
    """A command line that a hint shows in whole is the one that the catalogue follows."""
    proposed = 0
    for path in FOLLOWED:
        message = path.with_suffix(".txt").read_text(encoding="utf-8")
        match = re.search(
            r"hint: (?:[^`\n]*?)(?<!`)ratectl ([^`\n?(]*?)(?: \(.*\))?\??$", message, re.MULTILINE
        )
        if match is not None and "PATH" not in match[1]:
            proposed += 1
            assert parts(path)["follow"].startswith(match[1]), path.name
    assert proposed >= 25
