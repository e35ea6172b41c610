"""``ratectl fmt``."""

from __future__ import annotations

import os
import re
import stat
import subprocess
from typing import TYPE_CHECKING

import pytest

from ratectl.policy.loading.loader import load

if TYPE_CHECKING:
    from pathlib import Path

    from cli_support import Cli

UGLY = "# mine\nscope:   /ugly\napiVersion: ratectl/v1\nlimits: {a: {per: [x],rate: 1 / sec}}\n"
FINE = "# mine\napiVersion: ratectl/v1\nscope: /ugly\nlimits: {a: {rate: 1/s, per: x}}\n"


def test_files_are_formatted_in_place(cli: Cli, tree: Path) -> None:
    (tree / "ugly.yaml").write_text(UGLY)
    (tree / "ugly.yaml").chmod(0o640)
    before = load([tree]).tree
    run = cli("fmt")
    assert (run.code, run.err) == (0, "")
    assert run.out == "formatted policies/ugly.yaml\n1 of 2 files changed\n"
    assert (tree / "ugly.yaml").read_text() == FINE
    assert stat.S_IMODE((tree / "ugly.yaml").stat().st_mode) == 0o640
    assert load([tree]).tree.policies == before.policies
    assert sorted(path.name for path in tree.iterdir()) == ["all.yaml", "ugly.yaml"]
    assert cli("fmt", "policies").out == "0 of 2 files changed\n"


def test_check_writes_nothing(cli: Cli, tree: Path) -> None:
    (tree / "ugly.yaml").write_text(UGLY)
    run = cli("fmt", "--check", "policies")
    assert (run.code, run.err) == (1, "")
    assert run.out == "would format policies/ugly.yaml\n1 of 2 files would change\n"
    assert (tree / "ugly.yaml").read_text() == UGLY
    document = cli("fmt", "--check", "-o", "json").document
    assert (document["check"], document["changed"]) == (True, ["policies/ugly.yaml"])
    assert document["unchanged"] == 1
    cli("fmt")
    assert cli("fmt", "--check").code == 0


DIFF = """\
diff --git a/policies/ugly.yaml b/policies/ugly.yaml
--- a/policies/ugly.yaml
+++ b/policies/ugly.yaml
@@ -1,4 +1,4 @@
 # mine
-scope:   /ugly
 apiVersion: ratectl/v1
-limits: {a: {per: [x],rate: 1 / sec}}
+scope: /ugly
+limits: {a: {rate: 1/s, per: x}}
"""


def test_diff_shows_the_changes_and_writes_nothing(cli: Cli, tree: Path) -> None:
    (tree / "ugly.yaml").write_text(UGLY)
    run = cli("fmt", "--diff", "policies")
    assert (run.code, run.out, run.err) == (1, DIFF, "1 of 2 files would change\n")
    assert (tree / "ugly.yaml").read_text() == UGLY
    document = cli("fmt", "--diff", "-o", "json").document
    assert (document["check"], document["diff"]) == (True, DIFF)
    coloured = cli("fmt", "--diff", "--color", "always", tty=True).out
    assert re.sub(r"\x1b\[[0-9]*m", "", coloured) == DIFF != coloured
    subprocess.run(["git", "apply", "-"], input=run.out, text=True, check=True, cwd=tree.parent)
    assert (tree / "ugly.yaml").read_text() == FINE
    run = cli("fmt", "--diff", "policies")
    assert (run.code, run.out, run.err) == (0, "", "0 of 2 files would change\n")


def test_diff_of_standard_input(cli: Cli) -> None:
    run = cli("fmt", "-", "--diff", stdin=UGLY)
    assert (run.code, run.err) == (1, "1 of 1 file would change\n")
    assert run.out == DIFF.replace("policies/ugly.yaml", "<stdin>")
    assert cli("fmt", "-", "--diff", stdin=FINE).code == 0
    assert cli("fmt", "-", "--diff", stdin=UGLY.rstrip("\n")).out.endswith(
        "-limits: {a: {per: [x],rate: 1 / sec}}\n\\ No newline at end of file\n"
        "+scope: /ugly\n+limits: {a: {rate: 1/s, per: x}}\n"
    )


def test_standard_input(cli: Cli) -> None:
    run = cli("fmt", "-", stdin=UGLY)
    assert (run.code, run.out, run.err) == (0, FINE, "")
    assert cli("fmt", "-", "--check", stdin=UGLY).code == 1
    assert cli("fmt", "-", "--check", stdin=FINE).code == 0
    assert cli("fmt", "-", "-o", "json", stdin=UGLY).document["text"] == FINE
    assert cli("fmt", "-", "policies", stdin=UGLY).code == 64


def test_an_error_in_one_file_prevents_all_writes(cli: Cli, tree: Path) -> None:
    (tree / "bad.yaml").write_text("apiVersion: ratectl/v1\nscope: /bad\nlimit: {}\n")
    (tree / "ugly.yaml").write_text(UGLY)
    for words in (("fmt",), ("fmt", "--check")):
        run = cli(*words)
        assert run.code == 65
        assert "error[RC134]" in run.err
    assert (tree / "ugly.yaml").read_text() == UGLY
    assert cli("fmt", "-", stdin="scope: [").code == 65
    assert cli("fmt", "nowhere").code == 65


def test_a_file_that_inherits_from_others_can_be_formatted_alone(cli: Cli, tree: Path) -> None:
    """A file without its inherited values is not valid, but can be formatted."""
    (tree / "part.yaml").write_text(
        "apiVersion: ratectl/v1\nscope: /a\nlimits:  {spike: {burst: 1}}\n"
    )
    assert cli("fmt", "policies/part.yaml").code == 0


def test_comments_in_braces_are_reported_and_kept(cli: Cli, tree: Path) -> None:
    text = UGLY.replace("1 / sec}}", "1 / sec, # why\n }}")
    (tree / "ugly.yaml").write_text(text)
    run = cli("fmt")
    assert run.code == 0
    assert "policies/ugly.yaml:1: this document is unchanged" in run.err
    assert (tree / "ugly.yaml").read_text() == text
    assert cli("fmt", "-o", "json").document["kept"] == [{"file": "policies/ugly.yaml", "line": 1}]


def test_a_link_stays_a_link(cli: Cli, tree: Path, tmp_path: Path) -> None:
    real = tmp_path / "real.yaml"
    real.write_text(UGLY)
    (tree / "ugly.yaml").symlink_to(real)
    run = cli("fmt")
    assert (run.code, "error[RC124]" in run.err) == (65, True)
    assert real.read_text() == UGLY, "it is no part of the tree"
    assert cli("fmt", "policies/ugly.yaml").code == 0, "the link itself was asked for"
    assert (tree / "ugly.yaml").is_symlink()
    assert real.read_text() == FINE


def test_a_link_inside_the_tree_stays_a_link(cli: Cli, tree: Path) -> None:
    (tree / "z").mkdir()
    (tree / "z" / "real.yaml").write_text(UGLY)
    (tree / "ugly.yaml").symlink_to("z/real.yaml")
    run = cli("fmt")
    assert (run.code, run.err) == (0, "")
    assert (tree / "ugly.yaml").is_symlink()
    assert (tree / "z" / "real.yaml").read_text() == FINE


def test_a_change_of_meaning_is_never_written(
    cli: Cli, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bundles are compared, so an error of the formatter changes nothing."""
    from ratectl.policy import format as canonical

    wrong = canonical.Formatted(UGLY.replace("1 / sec", "2/s"), ())
    monkeypatch.setattr("ratectl_cli.prompts.formatting.format_text", lambda text: wrong)
    (tree / "all.yaml").write_text(UGLY)
    run = cli("fmt")
    assert "is unchanged" in run.err
    assert (tree / "all.yaml").read_text() == UGLY


def test_a_failed_write_keeps_the_file(
    cli: Cli, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, os.strerror(28))

    (tree / "ugly.yaml").write_text(UGLY)
    monkeypatch.setattr("ratectl.runtime.whole_files.os.fsync", full)
    assert cli("fmt").code == 69
    assert (tree / "ugly.yaml").read_text() == UGLY
    assert sorted(path.name for path in tree.iterdir()) == ["all.yaml", "ugly.yaml"]


def test_one_file_that_cannot_be_written_keeps_all_files(
    cli: Cli, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tree / "first.yaml").write_text(UGLY)
    (tree / "locked.yaml").write_text(UGLY.replace("/ugly", "/locked"))
    monkeypatch.setattr(
        "ratectl.runtime.whole_files.os.access", lambda path, *_, **__: "locked" not in str(path)
    )
    run = cli("fmt")
    assert (run.code, run.out) == (77, "")
    assert "policies/locked.yaml: permission denied" in run.err
    assert "no file was changed" in run.err
    assert (tree / "first.yaml").read_text() == UGLY


@pytest.mark.parametrize(
    ("folder", "path", "repository"),
    [
        (".", ".", True),
        (".", "policies/../policies", False),
        ("policies", ".", True),
        ("policies", "$PWD", False),
        ("sub", "../policies", True),
        ("sub", "$PWD/../policies", True),
    ],
)
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("ugly.yaml", UGLY.encode()),
        ("ugly.yaml", f"\ufeff{UGLY}".encode()),
        ("ugly.yaml", UGLY.replace("\n", "\r\n").encode()),
        ("ugly.yaml", UGLY.replace("\n", "\r").encode()),
        ("ugly ones.yaml", UGLY.encode()),
        ('"ugly" \\ \x1b[1m\xe9\u202e.yaml', UGLY.encode()),
    ],
)
def test_diff_is_a_patch_wherever_it_is_made(
    cli: Cli, tree: Path, monkeypatch: pytest.MonkeyPatch,
    folder: str, path: str, repository: bool, name: str, text: bytes,
) -> None:  # fmt: skip
    above = folder == "sub"
    if repository:
        subprocess.run(["git", "init", "-q", tree.parent], check=True)
    (tree.parent / "sub").mkdir()
    (tree / name).write_bytes(text)
    monkeypatch.chdir(tree.parent / folder)
    path = path.replace("$PWD", str(tree.parent / folder))
    run = cli("fmt", "--diff", path)
    assert ("`git -C .. apply`" in run.err) is above
    at = ["-C", ".."] if above else []
    subprocess.run(["git", *at, "apply", "-"], input=run.out.encode(), check=True)
    assert cli("fmt", "--check", path).code == 0
    assert (tree / name).read_bytes().replace(b"\r\n", b"\n") == FINE.encode()


def test_file_outside_of_the_work_tree_is_not_in_the_diff(
    cli: Cli, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tree / "ugly.yaml").write_text(UGLY)
    (tree.parent / "sub").mkdir()
    monkeypatch.chdir(tree.parent / "sub")
    run = cli("fmt", "--diff", "../policies")
    assert (run.code, run.out) == (1, "")
    assert "../policies/ugly.yaml: its changes are not in the diff" in run.err


def test_line_ends_stay(cli: Cli, tree: Path) -> None:
    (tree / "ugly.yaml").write_bytes(UGLY.replace("\n", "\r\n").encode())
    assert cli("fmt").code == 0
    assert (tree / "ugly.yaml").read_bytes() == FINE.replace("\n", "\r\n").encode()
