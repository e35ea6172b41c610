"""Which files hold policies, and their bytes."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import TYPE_CHECKING, Final

from ratectl.errors import UsageError
from ratectl.files import named_path
from ratectl.policy import codes
from ratectl.policy.diagnostics import Diagnostic, Span
from ratectl.policy.yaml_text import MAX_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["STDIN", "Sources", "find_sources", "is_policy_file", "printable"]

STDIN: Final = "<stdin>"
"""Name of the file that ``-`` stands for."""

_SUFFIXES: Final = (".yaml", ".yml")
_CHUNK: Final = 16_384


@dataclass(slots=True)
class Sources:
    """Files in order of reading, each once, and what kept others from being found."""

    paths: dict[str, str | None] = field(default_factory=dict)
    """Name to show → path to open; None where the bytes are ``held``."""
    diagnostics: list[Diagnostic] = field(default_factory=list)
    held: dict[str, bytes] = field(default_factory=dict)
    """Name → bytes, of what does not lie in a file: standard input, or a commit."""
    _seen: set[str | None] = field(default_factory=set)

    @classmethod
    def of(cls, held: Mapping[str, bytes]) -> Sources:
        """Bytes at hand, under their names."""
        return cls(dict.fromkeys(held), held=dict(held))

    def read(self, name: str) -> bytes | Diagnostic:
        """The bytes of a file: at most one more than is allowed, so that nothing fills memory."""
        path = self.paths[name]
        if path is None:
            return self.held[name][: MAX_BYTES + 1]
        try:
            return _read(path)
        except OSError as error:
            return _unreadable(name, error)

    def add(self, path: str | None, name: str, real: str | None) -> None:
        """Add a file once, by its real path: else it would declare its scopes twice."""
        if real in self._seen:
            return
        self._seen.add(real)
        while name in self.paths:  # two names may show alike
            name += "'"
        self.paths[name] = path


def find_sources(paths: Sequence[str | os.PathLike[str]], stdin: bytes | None) -> Sources:
    """The files at ``paths``: files, directories and ``-``.

    :raises UsageError: no path at all, an empty one, or ``-`` without ``stdin``.
    """
    if not paths:
        raise UsageError("no path to read policies from")
    for path in paths:
        named_path("a path to read policies from", os.fspath(path))
    sources = Sources()
    for given in paths:
        path = os.fspath(given)
        if path == "-":
            if stdin is None:
                raise UsageError("'-' needs the bytes of standard input")
            sources.held[STDIN] = stdin
            sources.add(None, STDIN, None)
        else:
            _add_path(sources, path)
    return sources


def _add_path(sources: Sources, path: str) -> None:
    name = _shown(path)
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116
    except (FileNotFoundError, NotADirectoryError, ValueError):
        hint = "mend the path, or create it"
        sources.diagnostics.append(
            Diagnostic(codes.NOT_FOUND, f"no such file or directory: {name}", Span(name), hint=hint)
        )
        return
    except OSError as error:
        sources.diagnostics.append(_unreadable(name, error))
        return
    if not stat.S_ISDIR(mode):
        sources.add(path, name, os.path.realpath(path))
        return
    problems = len(sources.diagnostics)
    found = sorted(_walk(path, sources), key=lambda file: file[0])
    below = "" if name == "." else f"{name.rstrip('/')}/"
    for parts, file, real in found:
        sources.add(file, f"{below}{printable('/'.join(parts))}", real)
    if not found and len(sources.diagnostics) == problems:
        message = f"no policy files in {name}"
        hint = "write at least one file that ends in .yaml or .yml"
        sources.diagnostics.append(Diagnostic(codes.NO_FILES, message, Span(name), hint=hint))


_File = tuple[tuple[str, ...], str, str]
"""A file below a directory: the parts of its path from there, its path, and its real path."""


def is_policy_file(parts: Sequence[str]) -> bool:
    """Whether a directory's file of this path is read: neither hidden nor something else."""
    return parts[-1].endswith(_SUFFIXES) and not any(part.startswith(".") for part in parts)


def _walk(top: str, sources: Sources) -> Iterator[_File]:
    """Files below ``top``; hidden ones are skipped, links followed, no directory entered twice.

    Real paths are derived, not asked for: that would cost more than reading the files.
    """
    entered = {os.path.realpath(top)}
    pending: list[_File] = [((), top, os.path.realpath(top))]
    while pending:
        parts, folder, real_folder = pending.pop()
        try:
            with os.scandir(folder) as listed:
                entries = sorted(listed, key=lambda entry: entry.name)
        except OSError as error:
            sources.diagnostics.append(_unreadable(_shown(str(error.filename or top)), error))
            continue
        fresh: list[_File] = []
        for entry in entries:
            if entry.name.startswith("."):
                continue
            link = entry.is_symlink()
            real = os.path.realpath(entry.path) if link else _join(real_folder, entry.name)
            file = ((*parts, entry.name), entry.path, real)
            if os.path.isdir(entry.path) if link else entry.is_dir():  # noqa: PTH112
                if real not in entered:
                    entered.add(real)
                    fresh.append(file)
            elif entry.name.endswith(_SUFFIXES) and _openable(entry):
                yield file
        pending += reversed(fresh)


def _join(folder: str, name: str) -> str:
    return f"{folder.rstrip('/')}/{name}"


def _openable(entry: os.DirEntry[str]) -> bool:
    """Whether to read it. A link to nowhere is kept, to be reported; a pipe would block."""
    if not entry.is_symlink():
        return entry.is_file()
    return os.path.isfile(entry.path) or not os.path.exists(entry.path)  # noqa: PTH110, PTH113


def _read(path: str) -> bytes:
    """At most ``MAX_BYTES`` and one; asking for so many at once would clear as much memory."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = os.read(file, _CHUNK)
        chunks, size = [data], len(data)
        while data and size <= MAX_BYTES:  # to the end: a pipe gives less than it holds
            data = os.read(file, _CHUNK)
            chunks.append(data)
            size += len(data)
    finally:
        os.close(file)
    return b"".join(chunks)[: MAX_BYTES + 1]


def _unreadable(name: str, error: OSError) -> Diagnostic:
    why = (error.strerror or "input/output error").lower()
    hint = "make it readable for this user"
    return Diagnostic(codes.UNREADABLE, f"cannot read {name}: {why}", Span(name), hint=hint)


def _shown(path: str) -> str:
    """A path in its usual form, fit for a terminal."""
    return printable(str(PurePath(path)))


def printable(name: str) -> str:
    """A name fit for a terminal: file names may hold any bytes."""
    if name.isprintable():
        return name
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)
