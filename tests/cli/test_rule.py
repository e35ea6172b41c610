"""``ratectl rule``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ratectl.policy.codes import CODES

if TYPE_CHECKING:
    from cli_support import Cli

    from conftest import Golden


def test_a_page(cli: Cli, golden: Golden) -> None:
    golden("rule", cli("rule", "RC201").out)


def test_all_codes_with_a_line_each(cli: Cli) -> None:
    lines = cli("rule").out.splitlines()
    assert lines[: len(CODES)] == [f"{code}  {title}" for code, title in sorted(CODES.items())]


def test_as_data(cli: Cli) -> None:
    document = cli("rule", "rc106", "-o", "json").document
    assert (document["kind"], document["code"]) == ("Rule", "RC106")
    assert document["family"] == "syntax"
    assert "spike: {rate: 20/s}" in document["good"]
    listed = cli("rule", "-o", "json").document
    assert (listed["kind"], len(listed["rules"])) == ("Rules", len(CODES))


@pytest.mark.parametrize("code", ["RC999", "spike", ""])
def test_an_unknown_code(cli: Cli, code: str) -> None:
    run = cli("rule", code)
    assert run.code == 64
    assert "`ratectl rule` lists the codes" in run.err


def test_a_code_without_a_page_says_so(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new code lacks a page while the page is being written."""
    monkeypatch.setitem(CODES, "RC399", "something new")
    run = cli("rule", "RC399")
    assert (run.code, "no page yet" in run.out) == (0, True)
    assert cli("rule", "RC399", "-o", "json").document["why"] is None
