"""``ratectl validate --fix``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from cli_support import Cli

BAD = (
    "apiVersion: ratectl/v1\nscope: /fixed  # keep me\n"
    "limts:\n  a: {rate: 5/Sec, burst: '20'}\n  b: {rate: 100/m}\n"
)
BETTER = BAD.replace("limts", "limits").replace("5/Sec", "5/s").replace("'20'", "20")


def test_certain_repairs_are_written_and_shown(cli: Cli, tree: Path) -> None:
    (tree / "bad.yaml").write_text(BAD)
    untouched = (tree / "all.yaml").stat().st_mtime_ns
    run = cli("validate", "--fix", "policies")
    assert (tree / "bad.yaml").read_text() == BETTER
    assert run.err == (
        "fixed policies/bad.yaml:3:1: limts → limits\n"
        "fixed policies/bad.yaml:4:13: 5/Sec → 5/s\n"
        "fixed policies/bad.yaml:4:27: '20' → 20\n"
    )
    assert run.code == 1, "the rest has to be corrected by hand"
    assert "error[RC140]: 'm' could be a minute or a month" in run.out
    assert (tree / "all.yaml").stat().st_mtime_ns == untouched
    (tree / "bad.yaml").write_text(BETTER.replace("100/m", "100/min"))
    again = cli("validate", "--fix", "policies")
    assert (again.code, again.err) == (0, "")


def test_document_lists_the_repairs(cli: Cli, tree: Path) -> None:
    (tree / "bad.yaml").write_text(BAD)
    document = cli("validate", "--fix", "policies", "-o", "json").document
    assert document["fixed"][0] == {
        "file": "policies/bad.yaml", "line": 3, "column": 1, "before": "limts", "after": "limits",
    }  # fmt: skip
    assert len(document["fixed"]) == 3
    assert cli("validate", "--fix", "policies", "-o", "json").document["fixed"] == []
    assert "fixed" not in cli("validate", "policies", "-o", "json").document


def test_link_out_of_the_tree_is_not_followed(cli: Cli, tree: Path, tmp_path: Path) -> None:
    (tmp_path / "real.yaml").write_text(BAD)
    (tree / "bad.yaml").symlink_to(tmp_path / "real.yaml")
    assert cli("validate", "--fix", "policies").code == 1
    assert (tmp_path / "real.yaml").read_text() == BAD


@pytest.mark.parametrize("words", [["-"], ["policies", "--watch"]])
def test_fixing_needs_files_and_does_not_watch(cli: Cli, tree: Path, words: list[str]) -> None:
    run = cli("validate", "--fix", *words, stdin=BAD)
    assert run.code == 64
    assert "--fix changes files" in run.err


def test_one_file_that_cannot_be_written_keeps_all_files(
    cli: Cli, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tree / "bad.yaml").write_text(BAD)
    (tree / "locked.yaml").write_text(BAD.replace("/fixed", "/locked"))
    monkeypatch.setattr(
        "ratectl.runtime.whole_files.os.access", lambda path, *_, **__: "locked" not in str(path)
    )
    run = cli("validate", "--fix")
    assert (run.code, run.out) == (77, "")
    assert "policies/locked.yaml: permission denied" in run.err
    assert "fixed" not in run.err.replace("policies/fixed", "")
    assert (tree / "bad.yaml").read_text() == BAD


@pytest.mark.parametrize("base", [["nope"], ["live", "--store", "sqlite:///no/such/store.db"]])
def test_wrong_arguments_change_no_file(cli: Cli, tree: Path, base: list[str]) -> None:
    (tree / "bad.yaml").write_text(BAD)
    assert cli("validate", "--fix", "--base", *base).code in (64, 69)
    assert (tree / "bad.yaml").read_text() == BAD
