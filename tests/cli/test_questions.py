"""The question before a change: how it is answered, and what happens without a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from cli_support import Cli


def test_a_question_without_a_terminal_exits_64(cli: Cli, tree: Path, store_url: str) -> None:
    for words in (
        ("apply", "policies"),
        ("apply", "policies", "--no-input"),
        ("--no-input", "apply", "policies"),
    ):
        run = cli(*words)
        assert run.code == 64
        assert "--yes" in run.err
        assert "+  spike" in run.out, "the change is shown all the same"
    assert cli("apply", "policies", "--no-input", tty=True).code == 64
    assert cli("apply", "policies", "-o", "json", tty=True).document["exit_code"] == 64
    assert cli("history", "-o", "json").document["generations"] == []


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ("y\n", 0),
        ("YES\n", 0),
        ("n\n", 1),
        ("No\n", 1),
        ("\n", 1),
        ("", 1),
        ("maybe\ny\n", 0),
        ("yy\nmaybe\nn\n", 1),
        ("maybe", 1),
    ],
)
def test_the_question(cli: Cli, tree: Path, store_url: str, answer: str, code: int) -> None:
    run = cli("apply", "policies", stdin=answer, tty=True)
    assert run.code == code
    question = f"Publish as generation 1 to {store_url}? [y/N]"
    unclear = sum(
        word.strip() not in ("y", "YES", "n", "No", "") for word in answer.splitlines(True)
    )
    again = unclear if answer.endswith("\n") else 0
    assert run.err.count(question) == 1 + again
    assert run.err.count("Please answer y for yes or n for no.") == again
    assert cli("history", "-o", "json").document["live"] == (None if code else 1)
