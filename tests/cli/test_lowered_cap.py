"""`validate --base` and `apply`: a cap may be lowered before the scopes below."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from ratectl.stores import open_store

if TYPE_CHECKING:
    from pathlib import Path

    from cli_support import Cli

LOWERED = ("spike: {rate: 400/s, burst: 1000}", "spike: {rate: 10/s, burst: 50}")
CAME_LATER = "exceeds the cap 10/s of /, which came later: agents clip it to 10/s"


def edit(tree: Path, old: str, new: str) -> None:
    file = tree / "all.yaml"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


@pytest.fixture
def committed(tree: Path) -> Path:
    """The tree is committed; then a cap is lowered in the working tree."""
    for words in (
        ("init", "-q"),
        ("add", "-A"),
        ("-c", "user.name=T", "-c", "user.email=t@example.org", "commit", "-q", "-m", "one"),
    ):
        subprocess.run(["git", *words], cwd=tree, check=True)
    edit(tree, *LOWERED)
    return tree


def test_a_lowered_cap_warns_against_a_revision(cli: Cli, committed: Path) -> None:
    alone = cli("validate", "policies", "--select", "RC201")
    assert (alone.code, "invalid: 3 errors" in alone.out) == (1, True)
    run = cli("validate", "policies", "--base", "HEAD", "--select", "RC201")
    assert (run.code, run.err) == (0, "")
    assert f"warning[RC201]: rate 20/s {CAME_LATER}" in run.out
    assert "3 warnings" in run.out
    assert cli("validate", "policies", "--base", "HEAD", "--fail-level", "warning").code == 1


def test_a_value_that_changed_as_well_is_an_error(cli: Cli, committed: Path) -> None:
    edit(committed, "spike: {rate: 20/s}", "spike: {rate: 21/s}")
    run = cli("validate", "policies", "--base=HEAD", "--format", "concise")
    assert run.code == 1
    assert "error[RC201]: rate 21/s exceeds the cap 10/s of / (" in run.out


def test_the_document_names_the_base(cli: Cli, committed: Path) -> None:
    document = cli("validate", "policies", "--base", "HEAD", "-o", "json").document
    assert (document["base"], document["valid"]) == ("HEAD", True)
    assert cli("validate", "policies", "-o", "json").document["base"] is None


@pytest.mark.parametrize(
    ("revision", "message"),
    [
        ("nowhere", "there is no revision 'nowhere' here: fetch it, or correct the name"),
        ("--all", "'--all' is not a revision"),
    ],
)
def test_no_such_revision_is_a_wrong_argument(
    cli: Cli, committed: Path, revision: str, message: str
) -> None:
    run = cli("validate", "policies", f"--base={revision}")
    assert (run.code, run.out) == (64, "")
    assert message in run.err


def test_no_repository_is_a_wrong_argument(cli: Cli, tree: Path) -> None:
    run = cli("validate", "policies", "--base", "HEAD")
    assert run.code == 64
    assert "cannot find the repository of policies: policies lies in no Git repository" in run.err
    assert cli("validate", "-", "--base", "HEAD", stdin="scope: /").code == 64


def test_an_invalid_base_is_reported(cli: Cli, committed: Path) -> None:
    broken = committed / "broken.yaml"
    broken.write_text("scope: [")
    for words in (
        ("add", "-A"),
        ("-c", "user.name=T", "-c", "user.email=t@example.org", "commit", "-q", "-m", "two"),
    ):
        subprocess.run(["git", *words], cwd=committed, check=True)
    broken.unlink()
    run = cli("validate", "policies", "--base", "HEAD", "--select", "RC201")
    assert run.code == 0, "the cap was lowered in that commit already: what it held may stay"
    assert "the policies at HEAD are not valid; values that cannot be read count as new" in run.err
    assert "broken.yaml@" in run.err


def test_policies_that_the_revision_lacks(cli: Cli, committed: Path) -> None:
    (committed / "new.yaml").write_text("{apiVersion: ratectl/v1, scope: /new}\n")
    run = cli("validate", "policies/new.yaml", "--base", "HEAD")
    assert run.code == 0
    assert "HEAD does not contain these policies: every value counts as new" in run.err


def test_a_lowered_cap_warns_against_the_live_generation(
    cli: Cli, tree: Path, published: str
) -> None:
    edit(tree, *LOWERED)
    run = cli("validate", "policies", "--base", "live")
    assert run.code == 0
    assert CAME_LATER in run.out


def test_nothing_is_live_yet(cli: Cli, tree: Path, store_url: str) -> None:
    run = cli("validate", "policies", "--base", "live")
    assert run.code == 0
    assert "nothing is published yet: every value counts as new" in run.err
    edit(tree, *LOWERED)
    assert cli("validate", "policies", "--base", "live").code == 1


def test_an_unreachable_store(cli: Cli, tree: Path) -> None:
    store = ("--store", "etcd://127.0.0.1:1/x", "--timeout", "2")
    assert cli("validate", "policies", "--base", "live", *store).code == 69


def test_a_lowered_cap_can_be_applied_at_once(cli: Cli, tree: Path, published: str) -> None:
    edit(tree, *LOWERED)
    run = cli("apply", "policies", "--yes")
    assert (run.code, "generation 2 is live" in run.out) == (0, True)
    assert f"warning[RC201]: rate 20/s {CAME_LATER}" in run.err
    again = cli("apply", "policies", "--yes")
    assert (again.code, "nothing to do" in again.out) == (0, True)
    edit(tree, "description: Everything people buy", "description: Something else")
    assert cli("apply", "policies", "--yes").code == 0, "and stays tolerated"


def test_a_new_value_above_a_cap_cannot_be_applied(cli: Cli, tree: Path, published: str) -> None:
    edit(tree, *LOWERED)
    edit(tree, "spike: {rate: 20/s}", "spike: {rate: 21/s}")
    run = cli("apply", "policies", "--yes")
    assert run.code == 65
    assert "error[RC201]: rate 21/s exceeds the cap 10/s of /\n" in run.err
    assert "warning[RC201]: rate 50/s" in run.err, "the others are judged fairly"
    with open_store(published) as store:
        assert store.get("history/0000000002") is None


def test_a_value_above_a_cap_in_the_first_generation_is_an_error(
    cli: Cli, tree: Path, store_url: str
) -> None:
    edit(tree, *LOWERED)
    assert cli("apply", "policies", "--yes").code == 65


def test_applied_files_can_be_explained_and_checked(cli: Cli, tree: Path) -> None:
    """Agents clip, so `explain` and `check` accept the files with the lowered cap."""
    edit(tree, *LOWERED)
    run = cli("explain", "/shop")
    assert run.code == 0
    assert "10/s ✂ cap" in run.out
    assert cli("check", "/shop", "--policies", "policies").code == 0
