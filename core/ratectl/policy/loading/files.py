"""Policy files: find them below the given paths, and read their bytes.

A tree consists of the given folders and files. Links inside it are followed; a link out of it is an
error: findings quote lines, so somebody who can add a file to a tree could otherwise have any
readable file quoted.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import TYPE_CHECKING, Final

from ratectl.diagnostics import Diagnostic, Span
from ratectl.errors import UsageError
from ratectl.policy import codes
from ratectl.policy.yaml.text import MAX_BYTES
from ratectl.runtime.closest import closest
from ratectl.runtime.files import (
    NOT_REGULAR,
    Beneath,
    left_repository,
    named_path,
    parts_below,
    read_at_most,
)
from ratectl.runtime.owners import owner_note, this_user
from ratectl.runtime.urls import looks_like_url, shown
from ratectl.runtime.wording import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = [
    "SETTINGS",
    "STDIN",
    "STDIN_NAME",
    "Place",
    "Sources",
    "find_sources",
    "is_policy_file",
    "is_settings",
]

STDIN: Final = "-"
"""The path that stands for standard input."""

_MOST_NAMES: Final = 1_000
STDIN_NAME: Final = "<stdin>"
"""Name to show for standard input, given as ``-``."""

SETTINGS: Final = "ratectl.yaml"
"""Name of the file that declares environments: in a folder of policies it is skipped."""

_OF_SETTINGS: Final = re.compile(rb"^kind:[ \t]*[\"']?Environments\b", re.MULTILINE)
_SUFFIXES: Final = (".yaml", ".yml")


@dataclass(frozen=True, slots=True)
class Place:
    """File to read: given itself, or found below a given folder."""

    path: str
    """Path as the user gave it, or as found below a folder."""
    root: str = ""
    """Real path of the folder; empty for a file that was given itself."""
    parts: tuple[str, ...] = ()
    """Names on the way from ``root`` to the file; none of them is a link."""

    @property
    def real(self) -> str:
        """Path of the file without links."""
        return f"{self.root.rstrip('/')}/{'/'.join(self.parts)}" if self.parts else _real(self.path)

    def read(self, beneath: Beneath) -> bytes:
        """Return the bytes of the file, at most one more than is allowed.

        :raises OSError: it cannot be read.
        """
        if self.root:
            file = beneath.open(self.root, self.parts)
        else:
            file = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return read_at_most(file, MAX_BYTES + 1)
        finally:
            os.close(file)


@dataclass(slots=True)
class Sources:
    """Files in reading order, without duplicates, and findings about files that were not found."""

    paths: dict[str, Place | None] = field(default_factory=dict)
    """Name to show → place of the file; None if its bytes are in ``held``."""
    diagnostics: list[Diagnostic] = field(default_factory=list)
    held: dict[str, bytes] = field(default_factory=dict)
    """Name → bytes that are not in a file: standard input, or files of a commit."""
    _seen: set[str | None] = field(default_factory=set)

    @classmethod
    def of(cls, held: Mapping[str, bytes]) -> Sources:
        """Return sources with these bytes by name."""
        return cls(dict.fromkeys(held), held=dict(held))

    def read_all(self) -> Iterator[tuple[str, bytes | Diagnostic]]:
        """Yield the name of every file with its bytes, or with a finding if it cannot be read.

        At most one byte more than is allowed is read, to bound memory.
        """
        with Beneath() as beneath:
            for name, place in self.paths.items():
                if place is None:
                    yield name, self.held[name][: MAX_BYTES + 1]
                    continue
                try:
                    yield name, place.read(beneath)
                except OSError as error:
                    yield name, _unreadable(name, error, place.path)

    def add(self, name: str, place: Place | None) -> None:
        """Add a file unless its real path is known: it would declare its scopes twice."""
        real = None if place is None else place.real
        if real in self._seen:
            return
        self._seen.add(real)
        while name in self.paths:  # two names may look the same when shown
            name += "'"
        self.paths[name] = place


def find_sources(paths: Sequence[str | os.PathLike[str]], stdin: bytes | None) -> Sources:
    """Return the files at ``paths``: files, directories and ``-``.

    :raises UsageError: no path at all, an empty one, or ``-`` without ``stdin``.
    """
    if not paths:
        raise UsageError("no path to read policies from")
    given = [os.fspath(path) for path in paths]
    finder = _Finder(Sources(), [path for path in given if path != STDIN])
    for path in given:
        if path == STDIN:
            if stdin is None:
                raise UsageError("'-' needs the bytes of standard input")
            finder.sources.held[STDIN_NAME] = stdin
            finder.sources.add(STDIN_NAME, None)
        else:
            named_path("a path to read policies from", path)
            finder.add(path)
    return finder.sources


def is_policy_file(parts: Sequence[str]) -> bool:
    """Return True if a file at this path in a folder is read: a YAML file that is not hidden."""
    return parts[-1].endswith(_SUFFIXES) and not any(part.startswith(".") for part in parts)


_Found = tuple[tuple[str, ...], Place]
"""File or folder below a directory: the parts of its path from there, and its place."""


class _Finder:
    """Finder of the files of one tree, which may have several roots."""

    def __init__(self, sources: Sources, named: Sequence[str]) -> None:
        self.sources = sources
        self._named = {_real(path): path for path in named if left_repository(path) is None}
        """Real path → the path that the user gave. Links to these paths may be followed."""

    def add(self, path: str) -> None:
        """Add a given file, or the files of a given folder."""
        name = _shown(path)
        try:
            mode = os.stat(path).st_mode  # noqa: PTH116
        except (FileNotFoundError, NotADirectoryError, ValueError):
            if looks_like_url(path):
                name = printable(shown(path))
            meant = _near(path)
            message = f"no such file or directory: {name}"
            hint = f"did you mean {meant}?" if meant else "correct the path, or create it"
            self._report(Diagnostic(codes.NOT_FOUND, message, Span(name), hint=hint))
            return
        except OSError as error:
            self._report(_unreadable(name, error, path))
            return
        repository = left_repository(path)
        if repository is not None:
            self._report(_leads_out(name, f"the repository {_shown(repository)}"))
        elif stat.S_ISDIR(mode):
            self._add_folder(path, name)
        else:
            self.sources.add(name, Place(path))

    def _add_folder(self, path: str, name: str) -> None:
        problems = len(self.sources.diagnostics)
        files = sorted(self._walk(path, name), key=lambda file: file[0])
        for parts, place in files:
            self.sources.add(_below(name, parts), place)
        if not files and len(self.sources.diagnostics) == problems:
            message = f"no policy files in {name}"
            hint = "write at least one file that ends in .yaml or .yml"
            self._report(Diagnostic(codes.NO_FILES, message, Span(name), hint=hint))

    def _report(self, finding: Diagnostic) -> None:
        self.sources.diagnostics.append(finding)

    def _walk(self, top: str, name: str) -> Iterator[_Found]:
        """Yield the files below ``top``; hidden ones are skipped, no directory is entered twice.

        Real paths are derived from the entries: asking the system for them would take longer than
        reading the files.
        """
        root = _real(top)
        entered = {root}
        pending: list[_Found] = [((), Place(top, root))]
        while pending:
            parts, folder = pending.pop()
            fresh: list[_Found] = []
            for entry in self._listed(folder, _below(name, parts)):
                here = (*parts, entry.name)
                try:
                    kind = _kind(entry)
                    place = self._placed(entry, folder) if kind else None
                except OSError as error:
                    self._report(_unreadable(_below(name, here), error, entry.path))
                    continue
                if kind and place is None:
                    self._report(_leads_out(_below(name, here), name))
                elif kind == "other":
                    self._report(
                        _unreadable(_below(name, here), OSError(0, NOT_REGULAR), entry.path)
                    )
                elif kind == "file" and place:
                    if not (entry.name == SETTINGS and _holds_settings(place)):
                        yield here, place
                elif place and place.real not in entered:
                    entered.add(place.real)
                    fresh.append((here, place))
            pending += reversed(fresh)

    def _listed(self, folder: Place, name: str) -> Sequence[os.DirEntry[str]]:
        """Return the entries of a folder that are not hidden, by name."""
        try:
            with os.scandir(folder.path) as listed:
                shown = (entry for entry in listed if not entry.name.startswith("."))
                return sorted(shown, key=lambda entry: entry.name)
        except OSError as error:
            self._report(_unreadable(name, error, folder.path))
            return ()

    def _placed(self, entry: os.DirEntry[str], folder: Place) -> Place | None:
        """Return the place of an entry; None for a link that leads out of the tree."""
        if not entry.is_symlink():
            return Place(entry.path, folder.root, (*folder.parts, entry.name))
        real = _real(entry.path)
        for root in (folder.root, *self._named):
            parts = () if real == root and _is_folder(entry) else parts_below(root, real)
            if parts is not None:
                return Place(entry.path, root, parts)
        return Place(self._named[real]) if real in self._named else None


def _holds_settings(place: Place) -> bool:
    """Return True for a file of settings. A file of policies may have the same name."""
    with contextlib.suppress(OSError), Beneath() as beneath:  # reading it later reports the error
        return is_settings(place.read(beneath))
    return False


def is_settings(data: bytes) -> bool:
    """Return True for the bytes of a file that declares environments."""
    return _OF_SETTINGS.search(data) is not None


def _kind(entry: os.DirEntry[str]) -> str:
    """Return ``folder``, ``file`` (of policies), ``other`` (a pipe with such a name) or nothing.

    A link to a missing file counts as a file: reading it gives the finding.
    """
    if _is_folder(entry):
        return "folder"
    if not entry.name.endswith(_SUFFIXES):
        return ""
    if not entry.is_symlink():
        return "file" if entry.is_file() else "other"
    other = os.path.exists(entry.path) and not os.path.isfile(entry.path)  # noqa: PTH110, PTH113
    return "other" if other else "file"


def _is_folder(entry: os.DirEntry[str]) -> bool:
    if entry.is_symlink():  # False, not an error, if this user may not look at the target
        return os.path.isdir(entry.path)  # noqa: PTH112
    return entry.is_dir()


def _real(path: str) -> str:
    """Return a path without links, or the path itself if that is unknown."""
    try:
        return os.path.realpath(path)
    except (OSError, ValueError):  # the working directory is gone, or this is no valid path
        return path


def _unreadable(name: str, error: OSError, path: str) -> Diagnostic:
    why = error.strerror or "input/output error"
    why = why[:1].lower() + why[1:]
    message, span = f"cannot read {name}: {why}", Span(name)
    if why == NOT_REGULAR:
        return Diagnostic(codes.UNREADABLE, message, span, hint="put a file there, or remove it")
    if not isinstance(error, PermissionError):
        return Diagnostic(codes.UNREADABLE, message, span, hint="correct the path, or remove it")
    note = owner_note(path)
    hint = f"let {this_user()} read it and enter the folders above it, or run ratectl as its owner"
    return Diagnostic(codes.UNREADABLE, message, span, hint=hint, notes=(note,) if note else ())


def _near(path: str) -> str | None:
    """Return the path of an entry beside a missing one that has almost its name, or None."""
    folder, name = os.path.split(path.rstrip("/"))
    try:
        entries = [each for each in os.listdir(folder or ".") if not each.startswith(".")]  # noqa: PTH208
    except (OSError, ValueError):
        return None
    if len(entries) > _MOST_NAMES:
        return None  # comparing would take long
    near = closest(name, entries, 0.7)
    found = os.path.join(folder, near) if near else ""  # noqa: PTH118
    fits = found.endswith((".yaml", ".yml")) or os.path.isdir(found)  # noqa: PTH112
    return _shown(found) if near and fits else None


def _leads_out(name: str, of: str) -> Diagnostic:
    message = f"{name} is a link out of {of}, or to a hidden file there: it is not read"
    hint = "put the file itself there, or give the target of the link as a path as well"
    return Diagnostic(codes.LINK_OUT, message, Span(name), hint=hint)


def _below(name: str, parts: Sequence[str]) -> str:
    """Return the name to show for the file at ``parts`` below a folder of this name."""
    if not parts:
        return name
    below = "" if name == "." else f"{name.rstrip('/')}/"
    return f"{below}{printable('/'.join(parts))}"


def _shown(path: str) -> str:
    """Return a path in its usual form, safe for a terminal."""
    return printable(str(PurePath(path)))
