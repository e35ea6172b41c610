"""Commands name what they cannot read or write, and exit with the right code."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cli_support import PROGRAM, TREE, ratectl

import ratectl as library
from other_user import NOBODY, as_user, open_folder, require_root
from ratectl.policy import codes
from ratectl.policy.loading.files import find_sources
from ratectl.policy.loading.loader import load_sources

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cli_support import Cli, Result


# -- no permission ---------------------------------------------------------------------------------


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch, published: str) -> Iterator[Path]:
    """A working directory for all users, with files that only root can read."""
    require_root()
    with open_folder() as folder:
        (folder / "policies" / "closed").mkdir(parents=True)
        (folder / "policies" / "all.yaml").write_text(TREE)
        (folder / "policies" / "closed" / "x.yaml").write_text(
            TREE.replace("scope: /", "scope: /x")
        )
        (folder / "ok").mkdir()
        (folder / "ok" / "all.yaml").write_text(TREE)
        (folder / "file.yaml").write_text(TREE)
        (folder / "state").mkdir(mode=0o700)
        (folder / "mine").mkdir()
        (folder / "mine" / "store.db").write_bytes(
            Path(published.removeprefix("sqlite:///")).read_bytes()
        )
        for path in (folder / "mine", folder / "mine" / "store.db"):
            os.chown(path, NOBODY, NOBODY)
        monkeypatch.setenv("RATECTL_STORE", f"sqlite:///{folder}/mine/store.db")
        monkeypatch.chdir(folder)
        yield folder


def close(folder: Path) -> None:
    (folder / "policies" / "closed").chmod(0)
    (folder / "file.yaml").chmod(0)


def as_nobody(cli: Cli, folder: Path, *words: str) -> Result:
    """Run a command as another user; first as root, which imports all modules."""
    spare = folder.parent / f"{folder.name}.spare"
    shutil.copytree(folder, spare, symlinks=True)
    try:
        cli(*words)
    finally:
        shutil.rmtree(folder / "mine")
        shutil.rmtree(folder / "state")
        shutil.copytree(spare / "mine", folder / "mine")
        (folder / "state").mkdir(mode=0o700)
        for path in (folder / "mine", folder / "mine" / "store.db"):
            os.chown(path, NOBODY, NOBODY)
        shutil.rmtree(spare)
        for made in ("closed.out", "ok/closed"):
            (folder / made).unlink(missing_ok=True)
    close(folder)
    return as_user(NOBODY, lambda: cli(*words))


FOLDER, FILE, BELOW = "policies/closed", "file.yaml", "policies/closed/x.yaml"

UNREADABLE: list[tuple[tuple[str, ...], int, str]] = [
    (("validate", "policies"), 1, f"cannot read {FOLDER}: permission denied"),
    (("validate", "-q", "policies"), 1, f"cannot read {FOLDER}: permission denied"),
    (("validate", "policies", "-o", "json"), 1, f"cannot read {FOLDER}: permission denied"),
    (("validate", "policies", "--format", "github"), 1, f"cannot read {FOLDER}: permission denied"),
    (("validate", FOLDER), 1, f"cannot read {FOLDER}: permission denied"),
    (("validate", FILE), 1, f"cannot read {FILE}: permission denied"),
    (("validate", BELOW), 1, f"cannot read {BELOW}: permission denied"),
    (("validate", f"{FOLDER}/none"), 1, f"cannot read {FOLDER}/none: permission denied"),
    (("validate", BELOW, "--base", "HEAD"), 64, f"cannot find the repository of {BELOW}"),
    *(
        ((*words, path), 65, f"cannot read {said}: permission denied")
        for words in (
            ("test",), ("plan",), ("apply", "--yes"), ("diff",), ("fmt",), ("fmt", "--check"),
            ("explain", "/", "--policies"), ("check", "/", "--policies"),
        )
        for path, said in (("policies", FOLDER), (FILE, FILE), (BELOW, BELOW))
    ),
    (("simulate", "ok", "--log", FILE, "--map", FILE), 64, "--map file.yaml: permission denied"),
    (("apply", "ok", "--yes", "--sign", FILE), 64, "cannot read the key file.yaml"),
    (("plan", "ok", "--out", f"{FOLDER}/p"), 77, f"{FOLDER}/p: permission denied"),
    (("test", "ok", "--junit", f"{FOLDER}/j"), 64, f"--junit {FOLDER}/j: permission denied"),
    (("pull", FOLDER), 77, "permission denied"),
    (("init", f"{FOLDER}/x"), 77, "permission denied"),
    (("key", "generate", f"{FOLDER}/k"), 77, f"{FOLDER}/k.key: permission denied"),
    (("history", "--store", f"sqlite:///{FOLDER}/s.db"), 69, "that this user may write"),
    (("panic", "off", "--local", "--state-dir", "state"), 77, "panic.json: permission denied"),
    (("panic", "status", "--local", "--state-dir", "state"), 0, "panic.json: permission denied"),
]  # fmt: skip
"""Commands, their exit codes, and what they say."""


@pytest.mark.parametrize(("words", "code", "said"), UNREADABLE, ids=lambda each: str(each)[:60])
def test_files_without_permission_are_named(
    cli: Cli, shared: Path, words: tuple[str, ...], code: int, said: str
) -> None:
    run = as_nobody(cli, shared, *words)
    assert said in run.out + run.err, run
    assert run.code == code


@pytest.mark.parametrize("path", ["policies/closed", "policies/closed/x.yaml"])
def test_an_agent_reports_a_directory_without_permission(shared: Path, path: str) -> None:
    """The error is a finding, not a PermissionError."""
    close(shared)

    def agent() -> str:
        try:
            library.Agent(path, state_dir="state")
        except library.PolicyError as error:
            return str(error)
        return ""

    found = as_user(NOBODY, agent)
    assert found.startswith(f"{shared}/{path}: error[RC121]: cannot read")


# -- files that are gone, names that deceive -------------------------------------------------------


def test_a_file_that_disappears_is_a_finding(tree: Path) -> None:
    (tree / "gone.yaml").write_text("x")
    (tree / "below").mkdir()
    (tree / "below" / "gone.yaml").write_text("x")
    sources = find_sources([tree], None)
    shutil.rmtree(tree / "below")
    (tree / "gone.yaml").unlink()
    found = load_sources(sources).diagnostics
    assert [each.code for each in found] == [codes.UNREADABLE] * 2
    assert "cannot read" in found[0].message
    assert "no such file or directory" in found[0].message


NAMES = [
    b"two\nlines.yaml",
    b"\x1b[31mred.yaml",
    b"\xff\xfe.yaml",
    "\u202egnp.yaml".encode(),
    b"tab\there.yaml",
]


@pytest.mark.parametrize("name", NAMES, ids=repr)
@pytest.mark.parametrize("form", ["full", "concise", "json", "github", "gitlab", "junit", "sarif"])
def test_control_characters_in_names_are_escaped(
    cli: Cli, tree: Path, name: bytes, form: str
) -> None:
    Path(os.fsdecode(os.fsencode(tree) + b"/" + name)).write_text("scope: [")
    run = cli("validate", "policies", "--format", form)
    assert run.code == 1
    for text in (run.out, run.err):
        assert all(each.isprintable() or each == "\n" for each in text), repr(text)
    if form in ("full", "concise", "github"):
        assert all("two" not in line or "lines" in line for line in run.out.splitlines())


@pytest.mark.parametrize("words", [("validate", "x" * 300), ("apply", "x" * 300, "--yes")])
def test_a_name_that_is_too_long_is_a_finding(
    cli: Cli, published: str, words: tuple[str, ...]
) -> None:
    run = cli(*words)
    assert run.code in (1, 65)
    assert "file name too long" in run.out + run.err


def test_a_loop_of_links_is_a_finding(cli: Cli, tree: Path) -> None:
    (tree / "a.yaml").symlink_to("b.yaml")
    (tree / "b.yaml").symlink_to("a.yaml")
    run = cli("validate", "policies")
    assert run.code == 1
    assert "cannot read policies/a.yaml: too many levels of symbolic links" in run.out
    run = cli("validate", "policies/a.yaml")
    assert "cannot read policies/a.yaml: too many levels of symbolic links" in run.out


@pytest.mark.parametrize("words", [("validate", "."), ("apply", ".", "--yes"), ("explain", "/")])
def test_a_removed_working_directory_is_reported(tmp_path: Path, words: tuple[str, ...]) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    code = f"import os; os.rmdir({str(folder)!r}); from ratectl_cli.app import main; main()"
    environment = {**os.environ, "RATECTL_STORE": f"sqlite:///{tmp_path}/s.db"}
    run = subprocess.run(
        [PROGRAM[0], "-P", "-c", code, *words],
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment,
        check=False,
    )
    assert run.returncode not in (0, 70)
    assert run.stdout + run.stderr
    assert "Traceback" not in run.stderr


# -- nowhere to say it -----------------------------------------------------------------------------


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("words", [("validate", "policies"), ("history",), ("diff", "nowhere")])
def test_a_full_standard_output_is_reported_on_standard_error(
    tree: Path, published: str, words: tuple[str, ...], form: str
) -> None:
    with Path("/dev/full").open("w") as full:
        run = subprocess.run(
            [*PROGRAM, *words, "-o", form], stdout=full, stderr=subprocess.PIPE, text=True,
            check=False, env=os.environ,
        )  # fmt: skip
    assert run.returncode != 0
    assert run.stderr.startswith(("error", "internal error")), run.stderr


def test_an_error_that_cannot_be_rendered_is_still_printed(
    tree: Path, published: str, tmp_path: Path
) -> None:
    """A module without read permission caused an exit code without a message."""
    code = (
        "import sys\n"
        "class Denied:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'ratectl_cli.render.failures':\n"
        "            raise PermissionError(13, 'Permission denied', 'failures.py')\n"
        "sys.meta_path.insert(0, Denied())\n"
        "from ratectl_cli.app import main; main()\n"
    )
    run = subprocess.run(
        [PROGRAM[0], "-c", code, "plan", "nowhere"], capture_output=True, text=True, check=False,
        env=os.environ,
    )  # fmt: skip
    assert run.returncode == 65
    assert run.stderr == "error: the policies cannot be read\n"


def test_a_closed_standard_output_is_reported(tree: Path) -> None:
    run = ratectl("validate", "nowhere")
    assert (run.returncode, "RC120" in run.stdout) == (1, True)
