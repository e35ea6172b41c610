"""Source files of a generation: kept beside its bundle, with their comments.

Agents never fetch them, and they have no effect on decisions. Files from a store are not trusted: a
file counts only if it equals the bundle in content, and has a name that a folder of policies may
hold.
"""

from __future__ import annotations

import json
import zlib
from collections import Counter
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

from ratectl.errors import BundleError, NotFound
from ratectl.history.generations import read_blob
from ratectl.policy import codes
from ratectl.policy.bundle import MAX_BUNDLE_BYTES, encode_document
from ratectl.policy.language.model import PolicyTree
from ratectl.policy.loading.files import STDIN_NAME, Sources, is_policy_file
from ratectl.policy.loading.loader import load_sources
from ratectl.publishing.ownership import set_problem
from ratectl.runtime.wording import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ratectl.policy.language.model import Exemption, Policy
    from ratectl.policy.loading.loader import Loaded
    from ratectl.publishing.ownership import Owners
    from ratectl.records import HistoryEntry
    from ratectl.stores.base import Store

__all__ = ["Beside", "Documents", "FileNames", "PolicyFile", "intact", "is_safe", "read_documents"]

_FORMAT: Final = 1
_UNNAMED: Final = "policies.yaml"
"""Name of standard input, and of files with a name that no folder of policies may hold."""

_MAX_NAME: Final = 255
_MAX_PATH: Final = 3_000
"""Most bytes of a name, and of a path."""


class PolicyFile(NamedTuple):
    """A file of policies; ``path`` is relative to the applied folder, with slashes."""

    path: str
    text: str
    set: str | None = None
    """Set that the file was applied with."""


@dataclass(frozen=True, slots=True)
class Documents:
    """Files of policies, in reading order."""

    files: tuple[PolicyFile, ...]

    @classmethod
    def read(cls, given: str, loaded: Loaded, owner: str | None = None) -> Self:
        """Return the files of valid policies, read from a path or ``-``. ``owner``: their set."""
        names = FileNames()
        root = printable(str(PurePath(given)))
        below = "" if root == "." else f"{root.rstrip('/')}/"
        found = []
        for name, data in loaded.raw.items():
            alone = name in (STDIN_NAME, root)
            path = PurePath(name).name if alone else name.removeprefix(below)
            found.append(PolicyFile(names.take(path, otherwise=_UNNAMED), data.decode(), owner))
        return cls(tuple(found))

    def beside(self, others: Self, name: str) -> Self:
        """Return these files, of set ``name``, and the files that other sets have in ``others``."""
        return type(self)((*self.files, *(file for file in others.files if file.set != name)))

    def data(self) -> list[dict[str, str | None]]:
        """Return the files as JSON data."""
        return [file._asdict() for file in self.files]

    @classmethod
    def of(cls, data: Iterable[dict[str, Any]]) -> Self:
        """Read the data that ``data`` returned.

        :raises TypeError, ValueError: they are other data.
        """
        if not isinstance(data, list) or not all(isinstance(each, dict) for each in data):
            raise TypeError("documents are a list of files")
        if any(not {"path", "text"} <= set(each) <= set(PolicyFile._fields) for each in data):
            raise TypeError(f"files have {', '.join(PolicyFile._fields)}")
        files = tuple(PolicyFile(**each) for each in data)
        for file in files:
            if not (isinstance(file.path, str) and isinstance(file.text, str)):
                raise TypeError("files have a path and a text")
            if file.set is not None and set_problem(file.set):
                raise ValueError(f"a set has a name: {set_problem(file.set)}")
        return cls(files)

    def encode(self) -> bytes | None:
        """Return compressed bytes; None if they are more than a store should keep."""
        value = {"format": _FORMAT, "files": self.data()}
        text = json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
        return None if len(text) > MAX_BUNDLE_BYTES else zlib.compress(text)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read compressed bytes.

        :raises BundleError: they are no such files, or larger than ``encode`` writes.
        """
        unpacking = zlib.decompressobj()
        try:
            text = unpacking.decompress(data, MAX_BUNDLE_BYTES + 1)
            if len(text) > MAX_BUNDLE_BYTES or not unpacking.eof:
                raise BundleError("documents are too large, or cut off")
            value = json.loads(text)
            if value["format"] != _FORMAT:
                raise BundleError("documents have a newer format: upgrade ratectl")
            return cls.of(value["files"])
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, zlib.error) as bad:
            raise BundleError(f"documents are not readable: {bad}") from None


def read_documents(store: Store, entry: HistoryEntry) -> Documents:
    """Return the files of a generation; none if they are not kept, or unreadable."""
    if entry.documents is not None:
        try:
            return Documents.decode(read_blob(store, entry.documents))
        except (NotFound, BundleError):
            pass  # comments are helpful, not required
    return Documents(())


def is_safe(path: str) -> bool:
    """Return True if a path stays below its folder, and its file would be read as policies."""
    parts = path.split("/")
    return (
        path.isprintable()
        and "\\" not in path
        and len(path.encode()) <= _MAX_PATH
        and all(part and len(part.encode()) <= _MAX_NAME for part in parts)
        and is_policy_file(parts)  # no part begins with a dot: `..` neither
    )


class Beside(NamedTuple):
    """Data kept beside a bundle: agents do not fetch them."""

    documents: Documents | None = None
    """Source files of the tree."""
    owners: Owners | None = None
    """Owners of documents; None if there are none."""

    def encode(self) -> tuple[bytes | None, bytes | None]:
        """Return the bytes of both; None for a missing one."""
        return (
            self.documents.encode() if self.documents else None,
            self.owners.encode() if self.owners else None,
        )


class FileNames:
    """Names of files below one folder, without collisions.

    Names that differ only in capitals collide: some file systems do not tell them apart.
    """

    def __init__(self) -> None:
        self._files: set[str] = set()
        self._folders: set[str] = set()

    def take(self, wanted: str, *, otherwise: str) -> str:
        """Return the wanted name, or ``otherwise`` if it is unsafe; with a number if it is taken.

        ``otherwise`` is safe, and has no folder.
        """
        wanted = wanted if is_safe(wanted) and not self._below_a_file(wanted) else otherwise
        stem, dot, suffix = wanted.rpartition(".")
        name, number = wanted, 1
        while not self.free(name):
            number += 1
            name = f"{stem}-{number}{dot}{suffix}"
        self.add(name)
        return name

    def free(self, name: str) -> bool:
        """Return True if a file can have this name."""
        folded = name.casefold()
        taken = folded in self._files or folded in self._folders
        return not taken and not self._below_a_file(name)

    def _below_a_file(self, name: str) -> bool:
        return any(folder in self._files for folder in _folders(name.casefold()))

    def add(self, name: str) -> None:
        self._files.add(name.casefold())
        self._folders.update(_folders(name.casefold()))


def _folders(path: str) -> Iterable[str]:
    return map(str, list(PurePath(path).parents)[:-1])


def intact(files: Sequence[PolicyFile], tree: PolicyTree) -> tuple[list[PolicyFile], PolicyTree]:
    """Return the files whose documents are all in ``tree``, and the rest of the tree."""
    missing = dict(tree.policies)
    exceptions = Counter(map(encode_document, tree.exceptions))
    names = FileNames()
    kept = []
    for file in files:
        loaded = load_sources(Sources.of({file.path: file.text.encode()}))
        said = Counter(map(encode_document, loaded.tree.exceptions))
        if (
            is_safe(file.path)
            and names.free(file.path)
            and _readable(loaded)
            and all(_same(missing.get(at), policy) for at, policy in loaded.tree.policies.items())
            and said <= exceptions
        ):
            names.add(file.path)
            kept.append(file)
            exceptions -= said
            for scope in loaded.tree.policies:
                del missing[scope]
    return kept, PolicyTree(missing, exceptions=_left(tree.exceptions, exceptions))


def _readable(loaded: Loaded) -> bool:
    """Return True if every document of the file was read; there may be none."""
    return all(
        found.severity != "error" or found.code == codes.NO_POLICIES for found in loaded.diagnostics
    )


def _same(one: Policy | None, other: Policy) -> bool:
    return one is not None and encode_document(one) == encode_document(other)


def _left(found: Iterable[Exemption], wanted: Counter[bytes]) -> tuple[Exemption, ...]:
    wanted = wanted.copy()
    left = []
    for each in found:
        data = encode_document(each)
        if wanted[data]:
            wanted[data] -= 1
            left.append(each)
    return tuple(left)
