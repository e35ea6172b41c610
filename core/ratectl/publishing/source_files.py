"""The files that a generation was written in: kept beside its bundle, with their comments.

Agents never fetch them, and nothing is enforced that is said only there. What comes out of a store
is not trusted: a file counts only while it says what the bundle says, and only under a name that a
folder of policies may hold.
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
from ratectl.policy.loading.files import STDIN, Sources, is_policy_file, printable
from ratectl.policy.loading.loader import load_sources
from ratectl.publishing.ownership import set_problem

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
"""For what came through a pipe, or under a name that no folder of policies may hold."""

_MAX_NAME: Final = 255
_MAX_PATH: Final = 3_000
"""Bytes: of a name, and of a path, which must fit below some folder."""


class PolicyFile(NamedTuple):
    """A file of policies: ``path`` is relative, with slashes, to what was applied."""

    path: str
    text: str
    set: str | None = None
    """The set that it was applied with."""


@dataclass(frozen=True, slots=True)
class Documents:
    """Files of policies, in the order in which they were read."""

    files: tuple[PolicyFile, ...]

    @classmethod
    def read(cls, given: str, loaded: Loaded, owner: str | None = None) -> Self:
        """Those of valid policies that were read at ``given``, a path or ``-``, for a set."""
        names = FileNames()
        root = printable(str(PurePath(given)))
        below = "" if root == "." else f"{root.rstrip('/')}/"
        found = []
        for name, data in loaded.raw.items():
            alone = name in (STDIN, root)
            path = PurePath(name).name if alone else name.removeprefix(below)
            found.append(PolicyFile(names.take(path, otherwise=_UNNAMED), data.decode(), owner))
        return cls(tuple(found))

    def beside(self, others: Self, name: str) -> Self:
        """These, of set ``name``, together with those of everybody else."""
        return type(self)((*self.files, *(file for file in others.files if file.set != name)))

    def data(self) -> list[dict[str, str | None]]:
        """As JSON."""
        return [file._asdict() for file in self.files]

    @classmethod
    def of(cls, data: Iterable[dict[str, Any]]) -> Self:
        """What ``data`` said.

        :raises TypeError, ValueError: it did not.
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
        """Compressed bytes; None where there is more than a store should keep."""
        value = {"format": _FORMAT, "files": self.data()}
        text = json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
        return None if len(text) > MAX_BUNDLE_BYTES else zlib.compress(text)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read compressed bytes.

        :raises BundleError: they are not such files, or hold more than ``encode`` writes.
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
    """The files of a generation; none where they are not kept, or cannot be read."""
    if entry.documents is not None:
        try:
            return Documents.decode(read_blob(store, entry.documents))
        except (NotFound, BundleError):
            pass  # comments are a comfort, never a condition
    return Documents(())


def is_safe(path: str) -> bool:
    """Whether a path leads nowhere but below the folder that it is put to, and is read there."""
    parts = path.split("/")
    return (
        path.isprintable()
        and "\\" not in path
        and len(path.encode()) <= _MAX_PATH
        and all(part and len(part.encode()) <= _MAX_NAME for part in parts)
        and is_policy_file(parts)  # no part begins with a dot: `..` neither
    )


class Beside(NamedTuple):
    """What is kept beside a bundle, for people: agents do not fetch it."""

    documents: Documents | None = None
    """The files that the tree was written in."""
    owners: Owners | None = None
    """Who owns what; None where nobody owns anything."""

    def encode(self) -> tuple[bytes | None, bytes | None]:
        """The bytes of both; None where there is nothing to keep."""
        return (
            self.documents.encode() if self.documents else None,
            self.owners.encode() if self.owners else None,
        )


class FileNames:
    """Names for files below one folder, none of which is in the way of another.

    Those that differ in capitals only are one name to some file systems.
    """

    def __init__(self) -> None:
        self._files: set[str] = set()
        self._folders: set[str] = set()

    def take(self, wanted: str, *, otherwise: str) -> str:
        """The name that is wanted, or ``otherwise`` if that cannot be; with a number if needed.

        ``otherwise`` is safe, and in no folder.
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
        """Whether nothing is in the way of a file of this name."""
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
    """The files that say nothing but what ``tree`` says, and what they leave to be said."""
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
    """Whether every document of the file was read; it may hold none."""
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
