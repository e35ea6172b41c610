"""Search for ratectl.yaml, and files that are not used."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from other_user import NOBODY, as_user, open_folder, require_root
from ratectl.environments import find_project
from ratectl.environments import search as module
from ratectl.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TEXT = "apiVersion: ratectl/v1\nkind: Environments\n"


@pytest.fixture
def top(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The top of a Git work tree, with folders in it."""
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    top = tmp_path / "repository"
    (top / ".git").mkdir(parents=True)
    (top / "services" / "shop").mkdir(parents=True)
    return top


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that every user may enter, without a work tree."""
    require_root()
    with open_folder() as folder:
        yield folder


def write(folder: Path) -> Path:
    file = folder / "ratectl.yaml"
    file.write_text(TEXT)
    file.chmod(0o644)
    return file


def found(folder: Path) -> Path | None:
    project = find_project(folder)
    return None if project is None else project.file


def why_refused(folder: Path) -> str:
    with pytest.raises(Refused) as refused:
        find_project(folder)
    assert refused.value.__notes__, "there is a hint"
    return str(refused.value)


def test_the_nearest_file_up_to_the_top_of_the_work_tree_counts(top: Path) -> None:
    shop = top / "services" / "shop"
    assert found(shop) is None
    at_top = write(top)
    assert found(shop) == found(top / "services") == found(top) == at_top
    nearer = write(top / "services")
    assert (found(shop), found(top)) == (nearer, at_top)


def test_a_file_above_the_work_tree_is_not_read(top: Path) -> None:
    outside = write(top.parent)
    outside.write_text("not: [valid")
    assert found(top / "services" / "shop") is None


def test_without_a_work_tree_only_the_folder_itself_counts(tmp_path: Path, top: Path) -> None:
    folder = tmp_path / "plain" / "inner"
    folder.mkdir(parents=True)
    write(folder.parent)
    assert found(folder) is None
    file = write(folder)
    assert found(folder) == file


def test_the_working_directory_is_the_default(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(top)
    monkeypatch.chdir(top / "services")
    project = find_project()
    assert project is not None
    assert project.file == file


def test_without_a_working_directory_there_is_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert find_project() is None


@pytest.mark.parametrize(("mode", "who"), [(0o666, "every user"), (0o646, "every user")])
def test_a_file_that_others_may_write_is_refused(top: Path, mode: int, who: str) -> None:
    write(top).chmod(mode)
    assert f"is not used: {who} may write it" in why_refused(top)


def test_a_file_that_its_group_may_write_is_refused(
    top: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(top).chmod(0o664)
    monkeypatch.setattr(module, "_is_own_group", lambda gid: gid != top.stat().st_gid)
    assert "its group may write it" in why_refused(top)
    monkeypatch.setattr(module, "_is_own_group", lambda gid: gid == top.stat().st_gid)
    assert found(top) is not None, "the group that only this user is in"


def test_only_a_group_of_this_name_without_other_members_is_the_users_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    me = module.pwd.getpwuid(os.geteuid()).pw_name

    class Group:
        gr_name, gr_mem = me, [me]

    monkeypatch.setattr(module.grp, "getgrgid", lambda _gid: Group)
    assert module._is_own_group(1)
    Group.gr_mem = [me, "mallory"]
    assert not module._is_own_group(1)
    Group.gr_name, Group.gr_mem = "staff", []
    assert not module._is_own_group(1)


def test_a_file_of_another_user_is_refused(shared: Path) -> None:
    os.chown(write(shared), NOBODY, NOBODY)
    assert "is not used: it belongs to another user (nobody)" in why_refused(shared)


def test_a_file_of_root_is_used_by_everybody(shared: Path) -> None:
    file = write(shared)
    assert as_user(NOBODY, lambda: found(shared)) == file


def test_a_file_that_cannot_be_read_is_refused(shared: Path) -> None:
    write(shared).chmod(0o600)

    def refused() -> str:
        return why_refused(shared)

    assert "it cannot be read (permission denied)" in as_user(NOBODY, refused)


def test_a_link_in_the_work_tree_may_not_lead_out_of_it(top: Path) -> None:
    write(top.parent)
    (top / "ratectl.yaml").symlink_to(top.parent / "ratectl.yaml")
    assert "it is a link that leads out of the repository" in why_refused(top)
    (top / "ratectl.yaml").unlink()
    write(top / "services")
    (top / "ratectl.yaml").symlink_to("services/ratectl.yaml")
    assert found(top) == top / "ratectl.yaml"


def test_a_link_of_another_user_is_refused(shared: Path) -> None:
    write(shared).rename(shared / "mine.yaml")
    link = shared / "ratectl.yaml"
    link.symlink_to("mine.yaml")
    os.lchown(link, NOBODY, NOBODY)
    assert "it belongs to another user (nobody)" in why_refused(shared)


def test_what_is_no_file_is_refused_without_waiting(top: Path) -> None:
    os.mkfifo(top / "ratectl.yaml", 0o600)
    assert "it is no regular file" in why_refused(top)
    (top / "ratectl.yaml").unlink()
    (top / "ratectl.yaml").mkdir(0o755)
    assert "it is no regular file" in why_refused(top)


def test_a_dangling_link_is_refused(top: Path) -> None:
    (top / "ratectl.yaml").symlink_to("nowhere")
    assert "it cannot be read" in why_refused(top)


def test_a_huge_file_is_refused(top: Path) -> None:
    write(top).write_text(TEXT + "# " + "x" * 300_000)
    assert "it has more than 262144 bytes" in why_refused(top)
