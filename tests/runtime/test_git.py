"""Git in untrusted folders: the repository that is used, and commands that must not run."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from ratectl.errors import UsageError
from ratectl.publishing.git_revision import load_at
from ratectl.publishing.provenance import author, gather
from ratectl.runtime.git import ask
from support import embed_repository

if TYPE_CHECKING:
    from pathlib import Path

POLICY = "apiVersion: ratectl/v1\nscope: %s\nlimits: {spike: {rate: 1/s}}\n"


@pytest.fixture
def top(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a repository with one commit of policies, by Ada."""
    for name in list(os.environ):
        if name.startswith("GIT_") or name == "RATECTL_AUTHOR":
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    top = tmp_path / "repository"
    (top / "policies").mkdir(parents=True)
    (top / "policies" / "all.yaml").write_text(POLICY % "/")
    git(top, "init", "-q", "-b", "main")
    git(top, "config", "user.name", "Ada")
    git(top, "config", "user.email", "ada@example.org")
    git(top, "add", "-A")
    git(top, "commit", "-q", "-m", "first")
    return top


def git(folder: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *words], check=True, capture_output=True, text=True, timeout=30
    )
    return done.stdout.strip()


@pytest.mark.parametrize("place", ["policies", "policies/team"])
def test_settings_of_an_embedded_repository_are_ignored(
    top: Path, tmp_path: Path, place: str
) -> None:
    ran = tmp_path / "ran"
    (top / place / "below").mkdir(parents=True)
    (top / place / "below" / "b.yaml").write_text(POLICY % "/b")
    embed_repository(top / place, f"touch {ran}; false")
    git(top, "add", "-A")
    git(top, "commit", "-q", "-m", "proposed")
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", str(top), str(clone))
    git(clone, "config", "user.name", "Ada")

    for path in (clone / place, clone / place / "below", clone / place / "below" / "b.yaml"):
        provenance = gather(path)
        loaded = load_at([str(path)], "HEAD")
        assert not ran.exists(), "a command from the proposed change has run"
        assert (provenance.commit, provenance.dirty) == (git(top, "rev-parse", "HEAD"), False)
        assert provenance.author == "Ada", "a proposed change cannot choose the author"
        assert loaded is not None
        assert loaded.ok
    (clone / place / "below" / "b.yaml").write_text(POLICY % "/c")
    assert gather(clone / place).dirty
    assert not ran.exists()


def test_embedded_repository_outside_of_any_other_does_not_choose_the_author(
    tmp_path: Path, top: Path
) -> None:
    git(top, "config", "--global", "user.name", "Ada")
    embed_repository(tmp_path / "loose", "false")
    assert author(tmp_path / "loose") == "Ada"


def test_bare_repository_is_a_warning_that_names_it(top: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    git(tmp_path, "clone", "-q", "--bare", str(top), str(bare))
    (bare / "team").mkdir()
    for path in (bare, bare / "team"):
        warnings: list[str] = []
        assert gather(path, warn=warnings.append).commit is None
        (warning,) = warnings
        assert warning == (
            f"the commit is not recorded: {bare} is a bare Git repository, or looks like one; "
            "use a work tree (git clone)"
        )
        with pytest.raises(UsageError, match="bare Git repository, or looks like one"):
            load_at([str(path)], "HEAD")


def test_missing_git_is_a_warning_and_a_missing_commit_is_not(
    top: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warnings: list[str] = []
    (tmp_path / "loose").mkdir()
    git(tmp_path, "init", "-q", "empty")
    for folder in (tmp_path / "loose", tmp_path / "empty", top):
        gather(folder, warn=warnings.append)
    assert warnings == [], "no repository, no commit yet, and a commit"
    monkeypatch.setenv("PATH", "")
    assert gather(top, warn=warnings.append).commit is None
    assert warnings == ["the commit is not recorded: git is not installed"]


def test_monitors_and_hooks_of_the_repository_do_not_run(top: Path, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    hooks = top / "hooks"
    hooks.mkdir()
    for name in ("post-index-change", "fsmonitor-watchman"):
        (hooks / name).write_text(f"#!/bin/sh\ntouch {ran}\n")
        (hooks / name).chmod(0o755)
    git(top, "config", "core.hooksPath", "hooks")
    git(top, "config", "core.fsmonitor", "hooks/fsmonitor-watchman")
    (top / "policies" / "all.yaml").touch()
    ask(top, "status", "--porcelain")
    ask(top, "update-index", "--refresh")
    assert not ran.exists()


@pytest.mark.parametrize(
    "name", ["GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY", "GIT_NAMESPACE", "GIT_SHALLOW_FILE"]
)
def test_git_environment_of_a_hook_is_ignored(
    top: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    commit = git(top, "rev-parse", "HEAD")
    other = tmp_path / "other"
    other.mkdir()
    monkeypatch.setenv(name, str(other))
    assert gather(top).commit == commit
    assert load_at([str(top)], "HEAD") is not None


def test_ceiling_directories_are_obeyed(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", f"/nowhere:{top}")
    assert gather(top / "policies").commit is None
    assert gather(top).commit is not None, "the folder itself is searched, as Git does"


def test_git_settings_from_the_environment_are_used(
    top: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "user.name")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "Grace")
    assert author(top).startswith("Grace")
