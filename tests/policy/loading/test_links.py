"""Links, pipes and races: no line of a file outside the tree is read."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ratectl.policy import codes
from ratectl.policy.loading.loader import load
from ratectl.runtime.files import Beneath, left_repository, make_folder, parts_below

if TYPE_CHECKING:
    from collections.abc import Callable

    from ratectl.policy.loading.loader import Loaded

SECRET = "AWS_SECRET_ACCESS_KEY=hunter2"
POLICY = "apiVersion: ratectl/v1\nscope: /{}\n"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Make a tree of one policy, beside a file and a folder with secrets."""
    (tmp_path / "outside").mkdir()
    for path in (tmp_path / "secret", tmp_path / "outside" / "secret.yaml"):
        path.write_text(f"{SECRET}\n")
    tree = tmp_path / "policies"
    tree.mkdir()
    (tree / "a.yaml").write_text(POLICY.format("a"))
    return tree


def all_of(loaded: Loaded) -> str:
    """Return all text that a command could print."""
    lines = [line for text in loaded.texts.values() for line in text]
    return f"{loaded.diagnostics} {lines} {loaded.raw}"


def refused(loaded: Loaded, name: str) -> None:
    """Check that only the link of this name is an error, and that its target was not read."""
    (found,) = loaded.diagnostics
    assert (found.code, Path(found.span.file).name) == (codes.LINK_OUT, name)
    assert SECRET not in all_of(loaded)
    assert list(loaded.tree.policies) == ["/a"], "the rest is read"


def to_a_file(tree: Path) -> None:
    (tree / "b.yaml").symlink_to("../secret")


def to_a_file_by_its_full_path(tree: Path) -> None:
    (tree / "b.yaml").symlink_to(tree.parent / "secret")


def to_a_folder(tree: Path) -> None:
    (tree / "b.yaml").symlink_to("../outside")


def to_a_folder_above(tree: Path) -> None:
    (tree / "b.yaml").symlink_to("..")


def through_another_link(tree: Path) -> None:
    (tree / "b").symlink_to("c")
    (tree / "c").symlink_to("../secret")
    (tree / "b.yaml").symlink_to("b")


def inside_that_leads_outside(tree: Path) -> None:
    (tree / "d").mkdir()
    (tree / "d" / "secret").symlink_to("../../secret")
    (tree / "b.yaml").symlink_to("d/secret")


def to_a_folder_whose_name_begins_alike(tree: Path) -> None:
    alike = tree.parent / "policies-of-others"
    alike.mkdir()
    (alike / "secret.yaml").write_text(SECRET)
    (tree / "b.yaml").symlink_to("../policies-of-others")


def to_a_process(tree: Path) -> None:
    (tree / "b.yaml").symlink_to("/proc/self/environ")


def to_a_device(tree: Path) -> None:
    (tree / "b.yaml").symlink_to("/dev/zero")


def to_a_hidden_file(tree: Path) -> None:
    (tree / ".env").write_text(SECRET)
    (tree / "b.yaml").symlink_to(".env")


def to_a_file_of_git(tree: Path) -> None:
    (tree / ".git").mkdir()
    (tree / ".git" / "config").write_text(SECRET)
    (tree / "b.yaml").symlink_to(".git/config")


def to_nowhere_outside(tree: Path) -> None:
    (tree / "b.yaml").symlink_to("/nonexistent/secret")


LINKS = [
    to_a_file, to_a_file_by_its_full_path, to_a_folder, to_a_folder_above, through_another_link,
    inside_that_leads_outside, to_a_folder_whose_name_begins_alike, to_a_process, to_a_device,
    to_a_hidden_file, to_a_file_of_git, to_nowhere_outside,
]  # fmt: skip


@pytest.mark.parametrize("link", LINKS, ids=lambda each: each.__name__)
def test_a_link_out_of_the_tree_is_an_error_and_is_not_read(
    tree: Path, link: Callable[[Path], None]
) -> None:
    link(tree)
    loaded = load([tree])
    names = {Path(found.span.file).name for found in loaded.diagnostics}
    if "secret" in names:  # a link to another link
        pytest.fail("only policies' names are looked at")
    refused(loaded, "b.yaml")


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["pipe", "folder"])
def test_pipes_and_devices_are_reported(tree: Path, make: Callable[[Path], None]) -> None:
    make(tree / "b.yaml")
    found = [each.message for each in load([tree]).diagnostics]
    if make is os.mkfifo:
        assert found == [f"cannot read {tree}/b.yaml: it is no regular file"]
    else:
        assert found == [], "a folder may have any name"


def test_a_link_to_another_given_path_is_followed(tree: Path) -> None:
    common = tree.parent / "common"
    common.mkdir()
    (common / "b.yaml").write_text(POLICY.format("b"))
    (tree.parent / "c.yaml").write_text(POLICY.format("c"))
    (tree / "b.yaml").symlink_to("../common/b.yaml")
    (tree / "folder").symlink_to("../common")
    (tree / "c.yaml").symlink_to("../c.yaml")
    loaded = load([tree, common, tree.parent / "c.yaml"])
    assert loaded.ok, loaded.diagnostics
    assert sorted(loaded.tree.policies) == ["/a", "/b", "/c"]
    assert not load([tree]).ok


def test_a_given_link_is_followed_if_it_stays_in_its_repository(tree: Path) -> None:
    """The user gave this path."""
    link = tree.parent / "link"
    link.symlink_to("policies")
    assert load([link]).ok
    file = tree.parent / "link.yaml"
    file.symlink_to("policies/a.yaml")
    assert load([file]).ok


@pytest.fixture
def repository(tree: Path) -> Path:
    """Make a work tree of Git, beside the files of ``tree``."""
    top = tree.parent / "repository"
    (top / ".git").mkdir(parents=True)
    (top / ".git" / "config").write_text(SECRET)
    (top / "real").mkdir()
    (top / "real" / "a.yaml").write_text(POLICY.format("a"))
    return top


@pytest.mark.parametrize(
    "target",
    ["../outside", "../policies", "/etc", ".git", "../outside/secret.yaml", ".git/config", "/dev"],
)
@pytest.mark.parametrize("typed", ["full", "relative"])
def test_a_path_of_a_repository_does_not_leave_it_by_a_link(
    repository: Path, monkeypatch: pytest.MonkeyPatch, target: str, typed: str
) -> None:
    """A proposed change can replace the whole folder by a link."""
    (repository / "policies").symlink_to(target)
    monkeypatch.chdir(repository)
    for below in ("policies", "policies/secret.yaml", "policies/config"):
        path = below if typed == "relative" else str(repository / below)
        loaded = load([path])
        assert not loaded.files
        assert SECRET not in all_of(loaded)
        (found,) = loaded.diagnostics
        assert found.code in (codes.LINK_OUT, codes.NOT_FOUND)
    assert load(["policies"]).diagnostics[0].code == codes.LINK_OUT


def test_a_path_that_leaves_its_repository_adds_nothing_to_the_tree(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The target may be another repository, and other links of the tree may lead there."""
    (repository.parent / "outside" / ".git").mkdir()
    (repository / "evil").symlink_to("../outside")
    (repository / "real" / "b.yaml").symlink_to("../../outside/secret.yaml")
    monkeypatch.chdir(repository)
    loaded = load(["real", "evil"])
    assert {found.code for found in loaded.diagnostics} == {codes.LINK_OUT}
    assert len(loaded.diagnostics) == 2
    assert SECRET not in all_of(loaded)


def test_a_given_link_inside_a_repository_is_followed(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (repository / "current").symlink_to("real")
    monkeypatch.chdir(repository)
    assert load(["current"]).ok
    assert load([str(repository / "current" / "a.yaml")]).ok
    assert left_repository("../policies") is None, "which leads out by its name"
    assert left_repository(str(repository)) is None
    assert left_repository(".") is None


# -- races -----------------------------------------------------------------------------------------


def test_a_folder_replaced_by_a_link_during_reading_is_not_followed(tree: Path) -> None:
    """Any part of a path may be replaced after the file was found and before it is opened."""
    inner = tree / "b"
    inner.mkdir()
    (inner / "secret.yaml").write_text(POLICY.format("b"))
    spare, decoy = tree / ".spare", tree / ".decoy"
    decoy.symlink_to(tree.parent / "outside")
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            inner.rename(spare)
            decoy.rename(inner)
            inner.rename(decoy)
            spare.rename(inner)

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        seen = [all_of(load([tree])) for _ in range(400)]
    finally:
        stop.set()
        thread.join()
    assert not any(SECRET in each for each in seen)
    assert any("scope: /b" in each for each in seen), "it was read, too"


def test_parts_of_a_path_replaced_by_links_are_not_followed(tree: Path) -> None:
    (tree / "b").mkdir()
    (tree / "b" / "c.yaml").write_text("c")
    root = os.path.realpath(tree)
    with Beneath() as beneath:
        os.close(beneath.open(root, ("b", "c.yaml")))
    (tree / "b").rename(tree / "real")
    (tree / "b").symlink_to("real")
    (tree / "real" / "d.yaml").symlink_to("c.yaml")
    os.mkfifo(tree / "pipe.yaml")
    for parts in (("b", "c.yaml"), ("real", "d.yaml"), ("pipe.yaml",), ("real",)):
        with Beneath() as beneath, pytest.raises(OSError):  # noqa: PT011
            beneath.open(root, parts)


def test_folders_are_closed_after_reading(tree: Path) -> None:
    def handles() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    (tree / "b").mkdir()
    (tree / "b" / "b.yaml").write_text(POLICY.format("b"))
    (tree / "b" / "c.yaml").symlink_to("nowhere.yaml")
    before = handles()
    for _ in range(5):
        load([tree])
    assert handles() == before


def test_parts_of_a_path_below_a_folder() -> None:
    assert parts_below("/a", "/a/b/c") == ("b", "c")
    assert parts_below("/", "/b") == ("b",)
    assert parts_below("/a", "/ab/c") is None
    assert parts_below("/a", "/a") is None
    assert parts_below("/a", "/a/.git/config") is None
    assert parts_below("/a", "/a/..data/x.yaml") == ("..data", "x.yaml")


# -- bounds ----------------------------------------------------------------------------------------


def test_an_endless_file_is_read_up_to_the_bound(tree: Path) -> None:
    with (tree / "b.yaml").open("wb") as file:
        file.truncate(10 * 1024**3)  # a sparse file
    found = load([tree]).diagnostics
    assert [each.code for each in found] == [codes.TOO_LARGE]
    assert [each.code for each in load(["/dev/zero"]).diagnostics] == [codes.TOO_LARGE]


def test_a_folder_gets_its_mode_for_any_umask(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir(mode=0o755)
    before = os.umask(0o077)
    try:
        make_folder(tmp_path / "there" / "a" / "b", 0o711)
    finally:
        os.umask(before)
    modes = [path.stat().st_mode & 0o777 for path in (tmp_path / "there").rglob("*")]
    assert modes == [0o711, 0o711]
    assert (tmp_path / "there").stat().st_mode & 0o777 == 0o755
