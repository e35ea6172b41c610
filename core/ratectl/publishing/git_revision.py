"""Read policies of a Git revision, without touching the work tree."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final, NamedTuple

from ratectl.errors import UsageError
from ratectl.policy.loading.files import STDIN, STDIN_NAME, Sources, is_policy_file
from ratectl.policy.loading.loader import load_sources
from ratectl.runtime.git import GitFailed, ask
from ratectl.runtime.wording import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ratectl.policy.loading.loader import Loaded

__all__ = ["load_at"]

_SECONDS: Final = 60.0
"""For reading a whole tree of policies: a partial clone may have to fetch it."""

_FILE_MODES: Final = ("100644", "100755")


class _Place(NamedTuple):
    """A path in its repository; ``path`` is empty at the top."""

    folder: Path
    path: str
    directory: bool


def load_at(paths: Sequence[str], revision: str) -> Loaded | None:
    """Return the policies in ``paths`` at ``revision`` of their repositories; None without any.

    Links and submodules are not followed: nothing that they lead to is part of the revision.

    :raises UsageError: a path lies in no repository, there is no such revision, or Git fails.
    """
    if not revision or revision.startswith("-"):
        raise UsageError(f"{revision!r} is not a revision: write a branch, a tag or a commit")
    held: dict[str, bytes] = {}
    for given in paths:
        if given == STDIN:
            raise UsageError(f"{STDIN_NAME} has no revisions: name the file, or use --base live")
        place = _place(given)
        commit = _commit(place, revision)
        try:
            for name, data in _files(place, commit):
                held.setdefault(f"{printable(name)}@{commit[:10]}", data)
        except GitFailed as error:
            raise UsageError(f"cannot read {given} at {revision}: {error}") from None
    return load_sources(Sources.of(held)) if held else None


def _place(given: str) -> _Place:
    path = Path(given)
    # Not Path.is_dir, which raises where one may not look.
    directory = os.path.isdir(path)  # noqa: PTH112
    folder = path if directory else path.parent
    if not os.path.isdir(folder):  # noqa: PTH112
        raise UsageError(f"no such file or directory, or none to look at: {printable(given)}")
    try:
        top = os.fsdecode(ask(folder, "rev-parse", "--show-toplevel").removesuffix(b"\n"))
        inside = (folder.resolve() if directory else folder.resolve() / path.name).relative_to(top)
    except (GitFailed, ValueError) as error:
        raise UsageError(f"cannot find the repository of {printable(given)}: {error}") from None
    return _Place(folder, "" if inside == Path() else inside.as_posix(), directory)


def _commit(place: _Place, revision: str) -> str:
    """The full name of a commit."""
    words = ("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    try:
        return ask(place.folder, *words).decode("ascii").strip()
    except GitFailed:
        why = "fetch it, or correct the name"
        with suppress(GitFailed):
            if ask(place.folder, "rev-parse", "--is-shallow-repository").strip() == b"true":
                why = "the clone is shallow; fetch more of it (git fetch --unshallow)"
        raise UsageError(f"there is no revision {revision!r} here: {why}") from None


def _files(place: _Place, commit: str) -> Iterator[tuple[str, bytes]]:
    """Policy files at and below the place, by their path in the repository."""
    where = ("--", place.path) if place.path else ()
    listed = ask(
        place.folder, "ls-tree", "-r", "-z", "--full-tree", commit, *where, seconds=_SECONDS
    )
    found: list[tuple[str, bytes]] = []
    for line in listed.split(b"\0"):
        if line:
            meta, _, raw = line.partition(b"\t")
            mode, _, blob = meta.split(b" ")
            name = os.fsdecode(raw)
            if mode.decode() in _FILE_MODES and _wanted(place, name):
                found.append((name, blob))
    found.sort(key=lambda each: PurePosixPath(each[0]).parts)
    blobs = _blobs(place.folder, [blob for _, blob in found])
    return zip((name for name, _ in found), blobs, strict=True)


def _wanted(place: _Place, name: str) -> bool:
    """Return the files that a reader of the folder would read: YAML files that are not hidden."""
    if name == place.path:
        return not place.directory
    below = f"{place.path}/" if place.path else ""
    return name.startswith(below) and is_policy_file(name.removeprefix(below).split("/"))


def _blobs(folder: Path, ids: list[bytes]) -> list[bytes]:
    """The contents of blobs, as ``cat-file --batch`` writes them: a head, the bytes, a newline."""
    if not ids:
        return []
    answer = ask(folder, "cat-file", "--batch", given=b"\n".join(ids) + b"\n", seconds=_SECONDS)
    found: list[bytes] = []
    at = 0
    for _ in ids:
        end = answer.index(b"\n", at)
        head = answer[at:end].split(b" ")
        if len(head) != 3:
            raise GitFailed(answer[at:end].decode(errors="replace"))
        size = int(head[2])
        found.append(answer[end + 1 : end + 1 + size])
        at = end + size + 2
    return found
