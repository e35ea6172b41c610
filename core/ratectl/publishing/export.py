"""Export a generation as files: as they were applied, if they say what the bundle says.

The files in a store are not trusted: each is compared with the bundle.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from ratectl.errors import Refused, UsageError
from ratectl.history.generations import read_live, read_tree
from ratectl.history.trees import find_entry
from ratectl.policy import codes
from ratectl.policy.bundle import encode_policies
from ratectl.policy.format.tree_text import policy_lines
from ratectl.policy.language.model import PolicyTree
from ratectl.policy.loading.files import Sources, find_sources
from ratectl.policy.loading.loader import load_sources
from ratectl.policy.read import check_loaded
from ratectl.policy.rules import family
from ratectl.publishing.ownership import part_of, read_owners
from ratectl.publishing.source_files import FileNames, intact, read_documents
from ratectl.runtime.whole_files import holds_just, leads_out, write_all
from ratectl.runtime.wording import listed, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from ratectl.policy.language.model import Exemption
    from ratectl.policy.loading.loader import Loaded
    from ratectl.publishing.ownership import Owners
    from ratectl.publishing.source_files import PolicyFile
    from ratectl.stores.base import Store

__all__ = [
    "Export",
    "Part",
    "Pulled",
    "parts_of",
    "pulled_files",
    "read_export",
    "stream",
    "write_files",
]

State = Literal["written", "replaced", "unchanged"]
"""Change to a file."""

_NAMED: Final = 10
"""Names, at most, in a message."""

_TOP: Final = "global.yaml"
"""File of the policy of ``/``."""
_ODD: Final = "scope.yaml"
"""File of a scope whose name cannot be a file name."""
_BEGINS: Final = re.compile(r"\s*(?:#.*\s*)*---\s")
"""Beginning of a text whose first document has a ``---`` line."""


@dataclass(frozen=True, slots=True)
class Pulled:
    """A file to write; ``path`` is relative, and leads to no other folder."""

    path: str
    text: str
    applied: PolicyFile | None
    """The file as it was applied; None for a file that is generated, without comments."""


class Export(NamedTuple):
    """The files of a generation, by path."""

    generation: int
    live: bool
    files: Sequence[Pulled]


class Part(NamedTuple):
    """The documents of one folder; an empty name is the top folder."""

    folder: str
    tree: PolicyTree
    files: Sequence[PolicyFile]
    """Files that were applied."""


def read_export(store: Store, generation: int | None = None, set_name: str | None = None) -> Export:
    """Return a generation (None: the live one) as files; with ``set_name``, one set of it.

    :raises UsageError: there is no such generation, or no such set in it.
    :raises NothingPublished: the store holds no generation.
    :raises BundleError, NotFound: the generation cannot be read.
    """
    entry = find_entry(store, generation)
    live = read_live(store).generation == entry.generation
    tree = read_tree(store, entry)
    owners = read_owners(store, entry.owners)
    if set_name is not None and set_name not in owners.sets:
        sets = owners.sets
        there = f"its sets are {listed(sets, _NAMED)}" if sets else "it has no sets"
        raise UsageError(f"set {set_name!r} owns nothing of generation {entry.generation}: {there}")
    parts = parts_of(tree, owners, read_documents(store, entry).files, set_name)
    return Export(entry.generation, live, pulled_files(tree, parts))


def parts_of(
    tree: PolicyTree, owners: Owners, files: Sequence[PolicyFile], name: str | None = None
) -> list[Part]:
    """Return a part for each set, in a folder of its name, and one for documents without owner.

    ``name``: only the part of this set, in the top folder.
    """
    wanted = [None, *owners.sets] if name is None else [name]
    return [
        Part(
            each if name is None and each is not None else "",
            part_of(tree, owners, each),
            [file for file in files if file.set == each],
        )
        for each in wanted
    ]


def pulled_files(tree: PolicyTree, parts: Sequence[Part]) -> list[Pulled]:
    """Return the files of parts of ``tree``, by path."""
    found = _composed(parts)
    misfits = _misfits(tree, found)
    if misfits:
        parts = [
            part._replace(files=[file for file in part.files if file not in misfits])
            for part in parts
        ]
        return pulled_files(tree, parts)
    return sorted(found, key=lambda each: each.path.split("/"))


def _composed(parts: Sequence[Part]) -> list[Pulled]:
    """Return applied files under their names, then generated files under free names."""
    names = FileNames()
    found: list[Pulled] = []
    left: list[tuple[str, PolicyTree]] = []
    for folder, tree, files in parts:
        below = f"{folder}/" if folder else ""
        kept, rest = intact(files, tree)
        for file in kept:
            path = names.take(f"{below}{file.path}", otherwise=_ODD)
            found.append(Pulled(path, file.text, file))
        left.append((below, rest))
    for below, rest in left:
        found += _rendered(rest, below, names)
    return found


def _rendered(tree: PolicyTree, below: str, names: FileNames) -> Iterator[Pulled]:
    """Yield a generated file for each scope, with its exceptions."""
    exceptions: dict[str, list[Exemption]] = defaultdict(list)
    for each in tree.exceptions:
        exceptions[each.scope].append(each)
    for scope in sorted({*tree.policies, *exceptions}):
        said = {scope: tree.policies[scope]} if scope in tree.policies else {}
        wanted = _TOP if scope == "/" else f"{scope[1:]}.yaml"
        text = _text(PolicyTree(said, exceptions=tuple(exceptions.get(scope, ()))))
        yield Pulled(names.take(f"{below}{wanted}", otherwise=_ODD), text, None)


def _text(tree: PolicyTree) -> str:
    return "".join(f"{line}\n" for line in policy_lines(tree))


def _misfits(tree: PolicyTree, found: Sequence[Pulled]) -> set[PolicyFile]:
    """Return files with tests that are invalid in this tree: they could not be applied again."""
    if not found:
        return set()
    loaded = replace(_load({each.path: each.text for each in found}), tree=tree)
    misfits = {
        each.span.file
        for each in check_loaded(loaded).diagnostics
        if each.severity == "error" and family(each.code) == "tests"
    }
    return {each.applied for each in found if each.applied and each.path in misfits}


def stream(files: Sequence[Pulled]) -> str:
    """Return all files as one text, each below a comment with its name."""
    parts = []
    for number, file in enumerate(files):
        text = file.text.removeprefix("\ufeff")
        mark = "---\n" if number and not _BEGINS.match(text) else ""
        parts.append(f"{mark}# {file.path}\n{text.rstrip()}\n")
    joined = "".join(parts)
    said = _load({each.path: each.text for each in files}).tree if files else PolicyTree({})
    again = _load({"-": joined})
    same = again.ok and encode_policies(again.tree) == encode_policies(said)
    return joined if same else _text(said)


def _load(texts: dict[str, str]) -> Loaded:
    return load_sources(Sources.of({name: text.encode() for name, text in texts.items()}))


# Writing ---------------------------------------------------------------------------------------


def write_files(
    root: str | os.PathLike[str],
    export: Export,
    *,
    force: bool = False,
    write: Callable[[Path, Mapping[str, bytes]], None] = write_all,
) -> dict[str, State]:
    """Write the files below ``root``: all of them, or none. Return the state of each by path.

    ``force``: replace files with other contents. ``write``: writes files, all or none.

    :raises Refused: something is in the way, or a file cannot be written.
    """
    files, root = export.files, Path(root)
    try:
        states = {file.path: _state(root, file) for file in files}
        _refuse_strays(root, export)
        differing = [str(root / path) for path, state in states.items() if state == "replaced"]
        if differing and not force:
            raise Refused(
                f"{listed(differing, _NAMED)}: other content than in generation "
                f"{export.generation}, and pull replaces no file without --force"
            )
        write(
            root,
            {each.path: each.text.encode() for each in files if states[each.path] != "unchanged"},
        )
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise Refused(f"cannot write {error.filename or root}: {why}") from error
    return states


def _state(root: Path, file: Pulled) -> State:
    """Return the state of a file.

    :raises Refused: a link leads out of the folder, or a folder has the name of the file.
    """
    target = root / file.path
    if leads_out(root, target.parent):
        raise Refused(f"{target.parent} leads out of {root} by a link: remove that link")
    if not os.path.lexists(target):
        return "written"
    if target.is_dir():
        raise Refused(f"{target} is in the way: it is a folder")
    return "unchanged" if holds_just(target, file.text.encode()) else "replaced"


def _refuse_strays(root: Path, export: Export) -> None:
    """Return if the folder holds no other policies, which would be applied as well.

    :raises Refused: it does, or a file in it cannot be read.
    """
    if not os.path.lexists(root):
        return
    if not root.is_dir():
        raise Refused(f"{root} is in the way: it is not a folder")
    sources = find_sources([root], None)
    ours = {os.path.realpath(root / file.path) for file in export.files}
    sources.paths = {
        name: place
        for name, place in sources.paths.items()
        if place is None or place.real not in ours
    }
    names = {printable(str(root / file.path)) for file in export.files}
    sources.diagnostics = [
        each
        for each in sources.diagnostics
        if each.span.file not in names and each.code != codes.NO_FILES
    ]
    if not sources.paths and not sources.diagnostics:
        return
    loaded = load_sources(sources)
    wrong = tuple(
        found
        for found in loaded.diagnostics
        if found.severity == "error" and found.code != codes.NO_POLICIES
    )
    strays = {source.file for source in loaded.tree.sources.values()}
    strays |= {found.span.file for found in wrong}
    if strays:
        raise Refused(
            f"{listed(sorted(strays), _NAMED)}: not in generation {export.generation}, and pull "
            "removes no file: remove what would be applied as well, or pull into another folder",
            wrong,
        )
