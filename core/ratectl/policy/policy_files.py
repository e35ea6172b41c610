"""Which files hold policies, and their bytes."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import TYPE_CHECKING, Final

from ratectl.errors import UsageError
from ratectl.policy import codes
from ratectl.policy.diagnostics import Diagnostic, Span
from ratectl.policy.yaml_text import MAX_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["STDIN", "Sources", "find_sources"]

STDIN: Final = "<stdin>"
"""Name of the file that ``-`` stands for."""

_SUFFIXES: Final = (".yaml", ".yml")


@dataclass(slots=True)
class Sources:
    """Files in order of reading, each once, and what kept others from being found."""

    paths: dict[str, str | None] = field(default_factory=dict)
    """Name to show → path to open; None is standard input."""
    diagnostics: list[Diagnostic] = field(default_factory=list)
    stdin: bytes | None = None
    _seen: set[str | None] = field(default_factory=set)

    def read(self, name: str) -> bytes | Diagnostic:
        """The bytes of a file: at most one more than is allowed, so that nothing fills memory."""
        path = self.paths[name]
        if path is None:
            return self.stdin or b""
        try:
            with open(path, "rb") as file:  # noqa: PTH123 - pathlib would only wrap it
                return file.read(MAX_BYTES + 1)
        except OSError as error:
            return _unreadable(name, error)

    def add(self, path: str | None, name: str) -> None:
        """Add a file once, by its real path: else it would declare its scopes twice."""
        real = path if path is None else os.path.realpath(path)
        if real in self._seen:
            return
        self._seen.add(real)
        while name in self.paths:  # two names may show alike
            name += "'"
        self.paths[name] = path


def find_sources(paths: Sequence[str | os.PathLike[str]], stdin: bytes | None) -> Sources:
    """The files at ``paths``: files, directories and ``-``.

    :raises UsageError: no path at all, or ``-`` without ``stdin``.
    """
    if not paths:
        raise UsageError("no path to read policies from")
    sources = Sources(stdin=stdin)
    for given in paths:
        path = os.fspath(given)
        if path == "-":
            if stdin is None:
                raise UsageError("'-' needs the bytes of standard input")
            sources.add(None, STDIN)
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
        sources.add(path, name)
        return
    problems = len(sources.diagnostics)
    found = sorted(_walk(path, sources), key=lambda file: PurePath(file).parts)
    for file in found:
        sources.add(file, _shown(file))
    if not found and len(sources.diagnostics) == problems:
        message = f"no policy files in {name}"
        hint = "write at least one file that ends in .yaml or .yml"
        sources.diagnostics.append(Diagnostic(codes.NO_FILES, message, Span(name), hint=hint))


def _walk(top: str, sources: Sources) -> Iterator[str]:
    """Files below ``top``; hidden ones are skipped, links followed, no directory entered twice."""

    def unreadable(error: OSError) -> None:
        name = _shown(str(error.filename or top))
        sources.diagnostics.append(_unreadable(name, error))

    entered = {os.path.realpath(top)}
    for folder, folders, files in os.walk(top, onerror=unreadable, followlinks=True):
        fresh = []
        for name in sorted(folders):
            real = os.path.realpath(os.path.join(folder, name))  # noqa: PTH118
            if not name.startswith(".") and real not in entered:
                entered.add(real)
                fresh.append(name)
        folders[:] = fresh
        for name in files:
            path = os.path.join(folder, name)  # noqa: PTH118
            # A link to nowhere is kept, to be reported; a pipe would block.
            special = os.path.exists(path) and not os.path.isfile(path)  # noqa: PTH110, PTH113
            if name.endswith(_SUFFIXES) and not name.startswith(".") and not special:
                yield path


def _unreadable(name: str, error: OSError) -> Diagnostic:
    why = (error.strerror or "input/output error").lower()
    hint = "make it readable for this user"
    return Diagnostic(codes.UNREADABLE, f"cannot read {name}: {why}", Span(name), hint=hint)


def _shown(path: str) -> str:
    """A name fit for a terminal: file names may hold any bytes."""
    name = str(PurePath(path))
    if name.isprintable():
        return name
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)
