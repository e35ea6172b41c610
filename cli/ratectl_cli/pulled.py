"""A generation as the files that ``ratectl pull`` writes: as they were applied, where that is so.

Whatever the store holds, the files say what the bundle says: that is looked at, not believed.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, NamedTuple

from ratectl.policy.bundle import encode_policies
from ratectl.policy.language.model import PolicyTree
from ratectl.policy.loading.files import Sources
from ratectl.policy.loading.loader import load_sources
from ratectl.policy.read import check_loaded
from ratectl.policy.rules import family
from ratectl.publishing.ownership import part_of
from ratectl.publishing.source_files import FileNames, intact
from ratectl_cli.render.policy_yaml import policy_lines

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ratectl.policy.language.model import Exemption
    from ratectl.policy.loading.loader import Loaded
    from ratectl.publishing.ownership import Owners
    from ratectl.publishing.source_files import PolicyFile

__all__ = ["Part", "Pulled", "parts_of", "pulled_files", "stream"]

_TOP: Final = "global.yaml"
"""Where the policy of ``/`` goes."""
_ODD: Final = "scope.yaml"
"""For a scope that no file can be named like."""
_BEGINS: Final = re.compile(r"\s*(?:#.*\s*)*---\s")
"""A text whose first document has a mark of its own."""


@dataclass(frozen=True, slots=True)
class Pulled:
    """A file to write; ``path`` is relative and safe."""

    path: str
    text: str
    applied: PolicyFile | None
    """What it was applied from; None where it is written anew, without comments."""


class Part(NamedTuple):
    """What goes into one folder; at the top where it has no name."""

    folder: str
    tree: PolicyTree
    files: Sequence[PolicyFile]
    """What it was applied from."""


def parts_of(
    tree: PolicyTree, owners: Owners, files: Sequence[PolicyFile], name: str | None = None
) -> list[Part]:
    """What each set owns, in a folder of its name, and what nobody does; or just what one does."""
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
    """The files of parts of ``tree``, by path."""
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
    """Files as they were first: a name goes to what had it."""
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
    """A file for each scope, with its exceptions."""
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
    """Files whose tests ask for what is not in the tree: nobody could apply them."""
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
    """All of them as one text, each below a comment that names it."""
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
