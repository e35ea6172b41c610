"""Commands that messages recommend name the same store and key."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ratectl_cli.framework.recommended import Selector

if TYPE_CHECKING:
    from pathlib import Path

    from cli_support import Cli

SELECTOR = Selector(" -e prod", " -e prod --sign me.key")


@pytest.mark.parametrize(
    ("text", "repeated"),
    [
        ("see `ratectl history`.", "see `ratectl history -e prod`."),
        ("`ratectl rollout status` shows it", "`ratectl rollout status -e prod` shows it"),
        ("`ratectl panic`, or…", "`ratectl panic -e prod`, or…"),
        ("`ratectl usage /a`", "`ratectl usage /a -e prod`"),
        ("`ratectl panic off` ends it", "`ratectl panic off -e prod --sign me.key` ends it"),
        ("(`ratectl rollback --to 3`)", "(`ratectl rollback --to 3 -e prod --sign me.key`)"),
        ("`ratectl env protect a`, `ratectl rule`, `ratectl init`", None),
        ("`ratectl show --store sqlite:///a.db`, `ratectl panic off --local`", None),
        ("`ratectl historyx` and ratectl history", None),
    ],
)  # fmt: skip
def test_commands_in_backticks_get_the_options(text: str, repeated: str | None) -> None:
    assert SELECTOR.repeated(text) == (repeated or text)
    assert Selector().repeated(text) == text


def test_errors_warnings_and_the_doctor_name_the_store(cli: Cli, project: Path) -> None:
    run = cli("rollback", "-e", "staging", "--yes")
    assert run.code == 65
    assert "`ratectl apply PATH -e staging`" in run.err
    assert "`ratectl apply PATH -e staging`" in cli("doctor", "-e", "staging").out
