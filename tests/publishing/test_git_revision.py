"""Reading policies from a Git revision: the files that are read, and the errors."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from ratectl.errors import UsageError
from ratectl.policy.loading.loader import load
from ratectl.publishing.git_revision import load_at

if TYPE_CHECKING:
    from pathlib import Path

HEAD = "apiVersion: ratectl/v1\nscope: {scope}\nlimits: {{spike: {{rate: {rate}}}}}\n"


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a repository with two commits; its work tree differs from both."""
    for name in list(os.environ):
        if name.startswith("GIT_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    top = tmp_path / "repo"
    policies = top / "deploy" / "policies"
    policies.mkdir(parents=True)
    git(top, "init", "-q")
    for number in (1, 2):
        write(policies / "a.yaml", "/a", f"{number}/s")
        write(policies / "sub dir" / "ü.yml", "/b", f"{number}0/s")
        write(policies / ".hidden.yaml", "/hidden", "1/s")
        write(policies / ".hidden" / "c.yaml", "/hidden", "1/s")
        write(policies / "note.txt", "/note", "1/s")
        write(top / "elsewhere.yaml", "/elsewhere", "1/s")
        git(top, "add", "-A")
        git(top, "commit", "-q", "-m", str(number))
    write(policies / "a.yaml", "/a", "3/s")
    write(policies / "fresh.yaml", "/fresh", "3/s")
    return top


def git(folder: Path, *words: str) -> str:
    identity = ("-c", "user.name=T", "-c", "user.email=t@example.org")
    done = subprocess.run(
        ["git", "-C", str(folder), *identity, *words], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def write(path: Path, scope: str, rate: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(HEAD.format(scope=scope, rate=rate))


def rates(path: str | Path, revision: str) -> dict[str, str]:
    loaded = load_at([str(path)], revision)
    assert loaded is not None
    assert loaded.ok
    policies = loaded.tree.policies.items()
    return {scope: str(policy.limits["spike"].rate) for scope, policy in policies}


def test_directory_is_read_as_of_the_revision(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {p: p.read_bytes() for p in repo.rglob("*.y*ml")}
    policies = repo / "deploy" / "policies"
    assert rates(policies, "HEAD") == {"/a": "2/s", "/b": "20/s"}
    assert rates(policies, "HEAD~1") == {"/a": "1/s", "/b": "10/s"}
    assert rates(policies, git(repo, "rev-parse", "--short", "HEAD^")) == rates(policies, "HEAD~1")
    assert set(rates(repo, "HEAD")) == {"/a", "/b", "/elsewhere"}
    monkeypatch.chdir(policies)
    assert rates(".", "HEAD") == rates(policies, "HEAD")
    assert rates("../policies", "HEAD") == rates(policies, "HEAD")
    assert rates("sub dir", "HEAD") == {"/b": "20/s"}
    assert {p: p.read_bytes() for p in repo.rglob("*.y*ml")} == before, (
        "the work tree is not touched"
    )


def test_same_files_are_read_as_from_the_work_tree(repo: Path) -> None:
    git(repo, "add", "-A")
    git(repo, "commit", "-q", "-m", "3")
    for path in (repo, repo / "deploy", repo / "deploy" / "policies" / "sub dir"):
        loaded = load_at([str(path)], "HEAD")
        assert loaded is not None
        assert loaded.tree.policies == load([path]).tree.policies


def test_file_may_have_any_name(repo: Path) -> None:
    policies = repo / "deploy" / "policies"
    assert rates(policies / "a.yaml", "HEAD") == {"/a": "2/s"}
    assert rates(policies / "note.txt", "HEAD") == {"/note": "1/s"}
    assert load_at([str(policies / "fresh.yaml")], "HEAD") is None
    (policies / "*.yaml").write_text(HEAD.format(scope="/star", rate="1/s"))
    assert load_at([str(policies / "*.yaml")], "HEAD") is None, "a name is not a pattern"


def test_file_below_several_paths_is_read_once(repo: Path) -> None:
    policies = repo / "deploy" / "policies"
    loaded = load_at([str(policies), str(policies / "a.yaml"), str(repo)], "HEAD")
    assert loaded is not None
    assert loaded.ok
    assert set(loaded.tree.policies) == {"/a", "/b", "/elsewhere"}


def test_file_deleted_from_the_work_tree_is_read(repo: Path) -> None:
    (repo / "elsewhere.yaml").unlink()
    assert rates(repo / "elsewhere.yaml", "HEAD") == {"/elsewhere": "1/s"}


def test_tags_and_branches_are_revisions(repo: Path) -> None:
    git(repo, "tag", "-a", "v1", "-m", "one", "HEAD~1")
    git(repo, "branch", "live/then", "HEAD~1")
    for name in ("v1", "live/then"):
        assert rates(repo / "elsewhere.yaml", name) == {"/elsewhere": "1/s"}


@pytest.mark.parametrize(
    "revision", ["", "-", "--all", "-n1", "nowhere", "HEAD~9", "HEAD:deploy", "HEAD..HEAD", "a b"]
)
def test_invalid_revision_is_an_error(repo: Path, revision: str) -> None:
    with pytest.raises(UsageError, match=r"is not a revision|there is no revision"):
        load_at([str(repo)], revision)


def test_revision_missing_from_a_shallow_clone_is_an_error_that_says_so(
    repo: Path, tmp_path: Path
) -> None:
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", "--depth", "1", f"file://{repo}", str(clone))
    assert "/a" in rates(clone, "HEAD")
    with pytest.raises(UsageError, match="shallow; fetch more"):
        load_at([str(clone)], "HEAD~1")


def test_path_outside_of_a_repository_is_an_error(tmp_path: Path, repo: Path) -> None:
    write(tmp_path / "loose" / "a.yaml", "/a", "1/s")
    with pytest.raises(UsageError, match="cannot find the repository"):
        load_at([str(tmp_path / "loose")], "HEAD")
    with pytest.raises(UsageError, match="no such file"):
        load_at([str(tmp_path / "nowhere" / "a.yaml")], "HEAD")
    with pytest.raises(UsageError, match="<stdin> has no revisions"):
        load_at(["-"], "HEAD")


def test_missing_git_is_an_error(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UsageError, match="git is not installed"):
        load_at([str(repo)], "HEAD")


def test_empty_repository_has_no_revision(tmp_path: Path, repo: Path) -> None:
    git(tmp_path, "init", "-q", "empty")
    with pytest.raises(UsageError, match="there is no revision 'HEAD'"):
        load_at([str(tmp_path / "empty")], "HEAD")


def test_links_to_files_are_not_followed(repo: Path) -> None:
    (repo / "deploy" / "policies" / "link.yaml").symlink_to("note.txt")
    (repo / "deploy" / "dir").symlink_to("policies")
    git(repo, "add", "-A")
    git(repo, "commit", "-q", "-m", "links")
    assert set(rates(repo / "deploy", "HEAD")) == {"/a", "/b", "/fresh"}
    assert set(rates(repo / "deploy" / "dir", "HEAD")) == {"/a", "/b", "/fresh"}, (
        "the path itself may be a link"
    )


def test_git_environment_of_a_hook_is_ignored(
    repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(tmp_path, "init", "-q", "other")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other" / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "other" / ".git" / "index"))
    assert rates(repo / "elsewhere.yaml", "HEAD") == {"/elsewhere": "1/s"}


def test_valid_files_of_a_broken_revision_are_read(repo: Path) -> None:
    (repo / "deploy" / "policies" / "a.yaml").write_text("scope: [")
    git(repo, "commit", "-q", "-a", "-m", "broken")
    loaded = load_at([str(repo)], "HEAD")
    assert loaded is not None
    assert not loaded.ok
    assert set(loaded.tree.policies) == {"/b", "/elsewhere"}
