"""Distributions as users get them: built once, installed into new environments."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from ratectl.engine import why_not_compiled

ROOT: Final = Path(__file__).parents[2]
OLDEST: Final = (3, 11)
GENERATED: Final = {".git", ".venv", "build", "dist", "out", "__pycache__", "PKG-INFO", "setup.cfg"}
"""Names of files and folders that are not sources, for a tree without a Git repository."""


@dataclass(frozen=True)
class Built:
    """Distributions of this tree, and the output of the build that had no compiler."""

    source: Path
    compiled: Path | None
    pure: Path
    warnings: str


@dataclass(frozen=True)
class Environment:
    """Virtual environment without pip."""

    folder: Path

    def run(self, *words: str, **settings: str) -> str:
        """Run a program of the environment outside of the sources; return its output."""
        program, *arguments = words
        return run([str(self.folder / "bin" / program), *arguments], self.folder, **settings)

    def install(self, *words: str | Path) -> None:
        """Install packages with the pip of the tests; their dependencies come from PyPI."""
        pip = [sys.executable, "-m", "pip", "--python", str(self.folder / "bin" / "python")]
        run([*pip, "install", "--quiet", "--no-compile", *map(str, words)], self.folder)


def run(command: list[str], folder: Path, **settings: str) -> str:
    """Return what a command prints, errors included; fail the test if the command fails."""
    own = {"PYTHONPATH", "RATECTL_ENGINE"}
    env = {name: value for name, value in os.environ.items() if name not in own} | settings
    done = subprocess.run(
        command, cwd=folder, env=env, text=True, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout


def sources() -> set[str]:
    """Return the paths of all files that Git tracks or would add."""
    if (ROOT / ".git").exists():
        listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
        names = run(listed, ROOT).splitlines()
        return {name for name in names if (ROOT / name).exists()}
    files = (path.relative_to(ROOT) for path in ROOT.rglob("*") if path.is_file())
    return {
        str(path)
        for path in files
        if not GENERATED.intersection(path.parts) and ".egg-info" not in str(path.parent)
        if path.suffix not in {".so", ".pyc"} and "_cache" not in path.parts[0]
    }


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Build the source distribution from a copy of the sources, and the wheels from it.

    The compiled wheel is None where there is no compiler; RATECTL_REQUIRE_C=1 makes that an error.
    """
    place = tmp_path_factory.mktemp("built")
    for name in sources():
        (place / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, place / "tree" / name)
    source = _build("sdist", place / "tree", place / "source")[0]
    with tarfile.open(source) as archive:
        archive.extractall(place / "unpacked", filter="data")
    (tree,) = (place / "unpacked").iterdir()
    compiled = None
    if os.environ.get("RATECTL_REQUIRE_C") == "1" or not why_not_compiled():
        compiled = _build("wheel", tree, place / "compiled")[0]
        # Otherwise the next build would reuse what this one has compiled.
        for written in tree.rglob("csrc/*.c"):
            written.touch()
    pure, output = _build("wheel", tree, place / "pure", CC="/no/such/compiler")
    return Built(source, compiled, pure, output)


def _build(kind: str, tree: Path, folder: Path, **settings: str) -> tuple[Path, str]:
    """Return the distribution that a build of a tree leaves in a folder, and its output."""
    command = [sys.executable, "-m", "build", "--no-isolation", f"--{kind}", "--outdir"]
    output = run([*command, str(folder), str(tree)], tree, **settings)
    (distribution,) = folder.iterdir()
    return distribution, output


@pytest.fixture(scope="session", params=["oldest", "newest"])
def environment(
    request: pytest.FixtureRequest, built: Built, tmp_path_factory: pytest.TempPathFactory
) -> Environment:
    """Create an environment of the oldest Python that ratectl supports, and of the newest one here.

    RATECTL_REQUIRE_PYTHONS=1 makes it an error if this machine lacks either.
    """
    found = _interpreters()
    version = OLDEST if request.param == "oldest" else max(found)
    if version not in found or (request.param == "newest" and version == OLDEST):
        reason = f"no {request.param} Python for packages; found: {sorted(found)}"
        if os.environ.get("RATECTL_REQUIRE_PYTHONS") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp(request.param)
    run([found[version], "-m", "venv", "--without-pip", str(folder)], folder)
    environment = Environment(folder)
    environment.install(built.pure)
    return environment


def _interpreters() -> dict[tuple[int, int], str]:
    """Return the Pythons on PATH and of pyenv that start, by version."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    folders = [*map(Path, os.get_exec_path()), *pyenv.glob("versions/*/bin")]
    found: dict[tuple[int, int], str] = {}
    for folder in folders:
        for program in folder.glob("python3.[1-9][0-9]"):
            version = (3, int(program.name.removeprefix("python3.")))
            if version >= OLDEST and version not in found and _starts(program, version):
                found[version] = str(program)
    return found


def _starts(program: Path, version: tuple[int, int]) -> bool:
    """Return True for an interpreter; a link of pyenv may name a version that is not active."""
    ask = [str(program), "-c", "import sys, venv; print(tuple(sys.version_info[:2]))"]
    done = subprocess.run(ask, capture_output=True, text=True, check=False)
    return done.stdout.strip() == str(version)
