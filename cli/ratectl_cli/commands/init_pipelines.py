"""Pipelines that ``ratectl init --ci`` writes: their files and places in a repository."""

from __future__ import annotations

from enum import StrEnum
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ratectl.runtime.files import left_repository, read_file
from ratectl.runtime.git import GitFailed, ask

if TYPE_CHECKING:
    from collections.abc import Container, Mapping

__all__ = ["Platform", "cautions", "pipeline_files", "settings_file"]


class Platform(StrEnum):
    """Platforms that run pipelines."""

    GITHUB = "github"
    GITLAB = "gitlab"


_MAX_BYTES: Final = 1_000_000
_ENTRY: Final = ".gitlab-ci.yml"
_JOBS: Final = ".gitlab/ratectl.yml"
_WORKFLOW: Final = ".github/workflows/ratectl.yaml"
_ACTION: Final = ".github/actions/ratectl/action.yml"

_BEGINS: Final = {Platform.GITHUB: _WORKFLOW, Platform.GITLAB: _ENTRY}
"""File that the platform reads first."""

_CALLS: Final = {Platform.GITHUB: str(Path(_ACTION).parent), Platform.GITLAB: _JOBS}
"""Text in that file if it is ours or uses our files."""

_REMEDIES: Final = {
    Platform.GITHUB: (
        f"no job in it uses ./{_CALLS[Platform.GITHUB]}. Rename it and run this command again"
    ),
    Platform.GITLAB: f"add `include: [{{local: {_JOBS}}}]` to it",
}

_PLACES: Final[Mapping[Platform, Mapping[str, str]]] = {
    Platform.GITHUB: {"workflow.yaml": _WORKFLOW, "action.yaml": _ACTION},
    Platform.GITLAB: {"pipeline.yaml": _ENTRY, "jobs.yaml": _JOBS},
}
"""Name among the package's examples → place below the top of a repository."""


def pipeline_files(platform: Platform, top: Path) -> dict[Path, bytes]:
    """Return the files of a pipeline for the repository at ``top``."""
    source = resources.files("ratectl_cli") / "examples" / "ci" / platform.value
    places = _PLACES[platform].items()
    return {top / place: (source / name).read_bytes() for name, place in places}


def settings_file(platform: Platform, top: Path, kept: Container[Path]) -> str | None:
    """Return the file with settings to fill in before the first pipeline; None if not ours."""
    if platform is Platform.GITHUB:
        return None if _is_foreign(platform, top, kept) else _WORKFLOW
    return _JOBS


def cautions(platform: Platform, top: Path, kept: Container[Path]) -> list[str]:
    """Return warnings that the pipeline would never run, each with a remedy."""
    messages = []
    repository = _repository_around(top)
    if repository is not None:
        messages.append(
            f"pipelines must be at the top of a repository, which is {repository}: move them "
            "there, and name the folder of the policies in them"
        )
    if _is_foreign(platform, top, kept):
        messages.append(f"{top / _BEGINS[platform]} existed and was kept: {_REMEDIES[platform]}")
    return messages


def _is_foreign(platform: Platform, top: Path, kept: Container[Path]) -> bool:
    """Return True if the file that the platform reads first was kept and does not use ratectl."""
    entry = top / _BEGINS[platform]
    return entry in kept and _CALLS[platform] not in _text(entry)


def _repository_around(folder: Path) -> Path | None:
    """Return the repository that contains ``folder`` below its top; None if there is none."""
    try:
        top = ask(folder, "rev-parse", "--show-toplevel").decode(errors="replace").rstrip("\n")
    except GitFailed:
        return None
    return None if folder.resolve() == Path(top).resolve() else Path(top)


def _text(path: Path) -> str:
    """Return the text of a file of the repository; "" if it cannot be read or lies outside."""
    if not path.is_file() or left_repository(str(path)) is not None:
        return ""
    try:
        return read_file(path, _MAX_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""
