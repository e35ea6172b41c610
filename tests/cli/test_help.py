"""``ratectl help``: its pages agree with the code; ``--help`` has a line for each shared option."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ratectl.changes.guards import GUARDS
from ratectl.policy.loading.loader import load
from ratectl.stores.registry import BACKENDS
from ratectl_cli import errors
from ratectl_cli.app import COMMANDS
from ratectl_cli.framework.lazy import _is_default
from ratectl_cli.framework.options import shared_params
from ratectl_cli.render.topics import topics

if TYPE_CHECKING:
    from cli_support import Cli

    from conftest import Golden

ROOT = Path(__file__).parents[2]
SCREEN = 24


def test_topics_are_listed(cli: Cli, golden: Golden) -> None:
    golden("help-topics", cli("help").out)


@pytest.mark.parametrize("name", topics())
def test_a_page_is_one_screen(cli: Cli, name: str) -> None:
    run = cli("help", name)
    assert (run.code, run.out) == (0, topics()[name].text)
    lines = run.out.splitlines()
    assert len(lines) < SCREEN
    assert max(map(len, lines)) < 80
    assert re.match(r"[A-Z][a-z ]+: [a-z]", lines[0]), "Title: summary"


def test_topics_and_commands_have_different_names() -> None:
    assert not set(topics()) & set(COMMANDS)


@pytest.mark.parametrize("words", [("apply",), ("rollout",), ("rollout", "run"), ("help",)])
def test_the_help_of_a_command_is_that_of_its_option(cli: Cli, words: tuple[str, ...]) -> None:
    run = cli("help", *words)
    assert (run.code, run.err) == (0, "")
    assert run.out == cli(*words, "--help").out


@pytest.mark.parametrize(
    ("words", "nearest"),
    [
        (("exitcodes",), "did you mean exit-codes? "),
        (("Stores",), "did you mean stores? "),
        (("aply",), "did you mean apply? "),
        (("rollout", "runn"), "did you mean rollout run? "),
        (("qqqq",), ""),
    ],
)
def test_unknown_topics_name_the_nearest(cli: Cli, words: tuple[str, ...], nearest: str) -> None:
    run = cli("help", *words)
    assert (run.code, run.out) == (64, "")
    expected = (
        f"there is no topic or command {' '.join(words)!r}\n"
        f"  hint: {nearest}`ratectl help` lists the topics\n"
    )
    assert expected in run.err


# Pages and code ---------------------------------------------------------------------------------


def test_every_exit_code_is_on_its_page() -> None:
    constants = [value for name, value in vars(errors).items() if name.isupper()]
    codes = {value for value in constants if isinstance(value, int)} | {0, 2}
    page = re.findall(r"^ +(\d+)  ", topics()["exit-codes"].text, re.MULTILINE)
    assert set(map(int, page)) == codes


def test_every_environment_variable_is_on_its_page() -> None:
    sources = [path for part in ("core", "cli") for path in (ROOT / part).rglob("*.py")]
    text = "\n".join(path.read_text("utf-8") for path in sources)
    used = {name for name in re.findall(r"RATECTL_[A-Z_]+", text) if not name.endswith("_")}
    page = set(re.findall(r"RATECTL_[A-Z_]+", topics()["environment-variables"].text))
    assert page == used


def test_every_kind_of_store_is_on_its_page() -> None:
    shared = [backend for backend in BACKENDS if not backend.one_process]
    schemes = {scheme for backend in shared for scheme in backend.schemes}
    page = re.findall(r"^  (\w+)://", topics()["stores"].text, re.MULTILINE)
    assert set(page) == schemes


def test_every_guard_is_on_its_page() -> None:
    assert re.findall(r"--allow-([a-z-]+)", topics()["guards"].text) == list(GUARDS)


def test_every_shared_option_is_on_its_page() -> None:
    page = topics()["output"].text
    assert [name for param in shared_params() for name in param.opts if name not in page] == []


def test_the_example_of_policies_is_valid() -> None:
    page = topics()["policies"].text
    example = "\n".join(line for line in page.splitlines() if line.startswith("  "))
    assert load(["-"], stdin=example.encode()).diagnostics == ()


def test_commands_that_pages_name_exist(cli: Cli) -> None:
    for page in topics().values():
        for words in re.findall(r"`ratectl ([a-z -]+)`", page.text):
            first, *more = words.split()
            assert first in COMMANDS, words
            if first == "help":
                assert cli("help", *more).code == 0


# Shared options ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", COMMANDS)
def test_each_shared_option_takes_one_line(
    cli: Cli, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = cli(name, "--help").out.partition("Shared options:\n")[2].splitlines()
    assert len(lines) == len(shared_params())
    assert all(line.startswith("  -") and len(line) <= 80 for line in lines)


# Groups -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "default"),
    [
        ("", True), ("-o json", True), ("/shop", True), ("/shop --live", True),
        ("status", False), ("-o json status", False), ("/shop --help", False), ("other", False),
    ],
)  # fmt: skip
def test_a_scope_is_an_argument_of_the_default_command(words: str, default: bool) -> None:
    """So a command that takes a scope can become a group: no name begins with a slash."""
    assert _is_default(words.split(), {"status": COMMANDS["usage"]}) is default
