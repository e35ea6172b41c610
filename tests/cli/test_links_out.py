"""No command reads, prints or writes a file behind a link that leads out of the tree."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import ratectl
from ratectl.errors import PolicyError

if TYPE_CHECKING:
    from cli_support import Cli

SECRET = "AWS_SECRET_ACCESS_KEY=hunter2\n"
POLICY = "scope:   /ugly\napiVersion: ratectl/v1\nlimits: {a: {rate: 1/s}}\n"
LOG = "time,scope\n2026-01-01T00:00:00Z,/shop\n"

READERS = [
    ("validate", "policies"),
    ("validate", "policies", "-o", "json"),
    *(
        ("validate", "policies", "--format", form)
        for form in ("concise", "github", "gitlab", "junit", "sarif")
    ),
    ("validate", "policies", "-v"),
    ("validate", "policies", "--base", "live"),
    ("test", "policies"),
    ("test", "policies", "--coverage"),
    ("plan", "policies"),
    ("plan", "policies", "--out", "saved.plan"),
    ("apply", "policies", "--yes"),
    ("diff", "policies"),
    ("explain", "/shop", "--policies", "policies"),
    ("check", "/shop", "--policies", "policies"),
    ("simulate", "policies", "--log", "log.csv", "--map", "map.yaml"),
    ("fmt", "policies"),
    ("fmt", "--check", "policies"),
]
"""Every command that reads a tree."""


@pytest.fixture
def secret(tree: Path, tmp_path: Path, published: str) -> Path:
    """A file outside the tree, with two links to it in the tree."""
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "ugly.yaml").write_text(POLICY)
    (tree / "leak.yaml").symlink_to(secret)
    (tree / "more").symlink_to(outside)
    Path("log.csv").write_text(LOG)
    Path("map.yaml").write_text(
        "apiVersion: ratectl/v1\nkind: TrafficMap\nformat: csv\ntime: {field: time}\n"
        "scope: {field: scope}\n"
    )
    return secret


@pytest.mark.parametrize("words", READERS, ids=" ".join)
def test_a_link_out_of_the_tree_is_an_error_for_every_command_that_reads_one(
    cli: Cli, secret: Path, words: tuple[str, ...]
) -> None:
    run = cli(*words)
    assert run.code in (1, 65), run
    assert "hunter2" not in run.out + run.err
    assert "AWS" not in run.out + run.err
    assert "leak.yaml" in run.out + run.err
    assert "RC124" in run.out + run.err
    assert secret.read_text() == SECRET
    assert (secret.parent / "outside" / "ugly.yaml").read_text() == POLICY, "nothing is written"
    assert not Path("saved.plan").exists()


def test_pull_refuses_a_link_out_of_the_tree_and_reads_nothing_behind_it(
    cli: Cli, secret: Path
) -> None:
    run = cli("pull", "policies")
    assert run.code == 77
    assert "policies/leak.yaml" in run.err
    assert "hunter2" not in run.out + run.err
    run = cli("pull", "policies", "--force")
    assert run.code == 77
    assert secret.read_text() == SECRET


def test_pull_writes_into_an_existing_empty_folder(cli: Cli, published: str) -> None:
    Path("out").mkdir()
    assert cli("pull", "out").code == 0
    assert Path("out/all.yaml").exists()


def test_pull_does_not_take_a_link_for_the_file_that_it_would_write(
    cli: Cli, published: str, tmp_path: Path
) -> None:
    there = Path("policies/all.yaml")
    there.rename(tmp_path / "same.yaml")
    there.symlink_to(tmp_path / "same.yaml")
    run = cli("pull", "policies")
    assert (run.code, "policies/all.yaml: other content than in generation 1" in run.err) == (
        77,
        True,
    )
    assert cli("pull", "policies", "--force").code == 0
    assert not there.is_symlink()


@pytest.mark.parametrize("folder", ["policies", "schemas", ".github"])
def test_init_does_not_write_through_a_link_out_of_the_tree(
    cli: Cli, clean_place: Path, tmp_path: Path, folder: str
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (clean_place / folder).symlink_to(outside)
    run = cli("init", "--ci", "github")
    assert run.code == 77
    assert "leads out of . by a link: remove that link" in run.err
    assert list(outside.iterdir()) == []
    assert [path.name for path in clean_place.iterdir()] == [folder]


def test_an_agent_of_a_directory_reads_nothing_outside_it(secret: Path, tmp_path: Path) -> None:
    with pytest.raises(PolicyError) as raised:
        ratectl.Agent("policies", state_dir=tmp_path / "edge")
    assert "is a link out of" in str(raised.value)
    assert "hunter2" not in f"{raised.value} {raised.value.diagnostics}"


@pytest.mark.parametrize("target", ["../secret", ".git/config"])
def test_maps_and_logs_behind_a_link_out_of_the_repository_are_refused(
    cli: Cli, tree: Path, secret: Path, target: str
) -> None:
    (tree / "leak.yaml").unlink()
    (tree / "more").unlink()
    Path(".git").mkdir()
    Path(".git/config").write_text(SECRET)
    words = ("simulate", "policies", "--log", "log.csv", "--map", "map.yaml")
    assert "leads out" not in cli(*words).err
    for name in ("map.yaml", "log.csv"):
        kept = Path(name).read_bytes()
        Path(name).unlink()
        Path(name).symlink_to(target)
        run = cli(*words)
        assert run.code == 64
        assert f"{name} leads out of the repository" in run.err
        assert "hunter2" not in run.out + run.err
        Path(name).unlink()
        Path(name).write_bytes(kept)


def test_an_existing_pipeline_is_not_read_through_a_link(cli: Cli, clean_place: Path) -> None:
    """Reading an endless device would never end."""
    (clean_place / ".gitlab-ci.yml").symlink_to("/dev/zero")
    run = cli("init", "--ci", "gitlab", "--timeout", "20")
    assert run.code == 0
    assert "existed and was kept" in run.err


@pytest.mark.parametrize("option", ["--sign", "--public-key"])
def test_an_endless_key_file_is_refused(cli: Cli, published: str, option: str) -> None:
    if option == "--sign":
        run = cli("apply", "policies", "--yes", "--sign", "/dev/zero", "--timeout", "20")
    else:
        run = cli("agent", "run", "--public-key", "/dev/zero")
    assert run.code == 64
    assert "it has more than 1000000 bytes" in run.err


def test_an_endless_password_file_is_refused(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RATECTL_ETCD_USER", "ada")
    monkeypatch.setenv("RATECTL_ETCD_PASSWORD_FILE", "/dev/zero")
    run = cli("history", "--store", "etcd://127.0.0.1:1/prod", "--timeout", "20")
    assert run.code == 64
    assert "cannot read /dev/zero: it has more than" in run.err


def test_an_endless_plan_file_is_refused(
    cli: Cli, published: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ratectl.publishing.saved_plan._MAX_PLAN", 1000)
    Path("saved.plan").write_bytes(b'{"kind": "SavedPlan"' + b" " * 2000)
    os.truncate("saved.plan", 9 * 1024**2)
    run = cli("apply", "saved.plan", "--yes")
    assert run.code == 65
    assert "RC103" in run.err
