"""A generation as the files that ``ratectl pull`` writes: as they were applied, where that is so.

Whatever the store holds, the files say what the bundle says: that is looked at, not believed.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from ratectl.documents import FileNames, intact
from ratectl.policy import check_loaded
from ratectl.policy.bundle import encode_policies
from ratectl.policy.loader import load_sources
from ratectl.policy.model import PolicyTree
from ratectl.policy.policy_files import Sources
from ratectl.policy.rules import family
from ratectl_cli.render.policy_yaml import policy_lines

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ratectl.documents import PolicyFile
    from ratectl.policy.loader import Loaded
    from ratectl.policy.model import Exemption

__all__ = ["Pulled", "pulled_files", "stream"]

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
    rendered: bool
    """Written anew, from what the bundle says, without comments."""


def pulled_files(tree: PolicyTree, files: Sequence[PolicyFile]) -> list[Pulled]:
    """The files of a generation, by path; ``files`` is what it was applied from."""
    kept, rest = intact(files, tree)
    names = FileNames()
    for file in kept:
        names.add(file.path)
    found = [Pulled(file.path, file.text, rendered=False) for file in kept]
    found += _rendered(rest, names)
    misfits = _misfits(found)
    if misfits:
        return pulled_files(tree, [file for file in kept if file.path not in misfits])
    return sorted(found, key=lambda each: each.path.split("/"))


def _rendered(tree: PolicyTree, names: FileNames) -> Iterator[Pulled]:
    """A file for each scope, with its exceptions."""
    exceptions: dict[str, list[Exemption]] = defaultdict(list)
    for each in tree.exceptions:
        exceptions[each.scope].append(each)
    for scope in sorted({*tree.policies, *exceptions}):
        said = {scope: tree.policies[scope]} if scope in tree.policies else {}
        wanted = _TOP if scope == "/" else f"{scope[1:]}.yaml"
        text = _text(PolicyTree(said, exceptions=tuple(exceptions.get(scope, ()))))
        yield Pulled(names.take(wanted, otherwise=_ODD), text, rendered=True)


def _text(tree: PolicyTree) -> str:
    return "".join(f"{line}\n" for line in policy_lines(tree))


def _misfits(found: Sequence[Pulled]) -> set[str]:
    """Files whose tests ask for what is not there: nobody could apply them."""
    if not found:
        return set()
    diagnostics = check_loaded(_load({each.path: each.text for each in found})).diagnostics
    return {
        each.span.file
        for each in diagnostics
        if each.severity == "error" and family(each.code) == "tests"
    }


def stream(tree: PolicyTree, files: Sequence[Pulled]) -> str:
    """All of them as one text, each below a comment that names it."""
    parts = []
    for number, file in enumerate(files):
        text = file.text.removeprefix("\ufeff")
        mark = "---\n" if number and not _BEGINS.match(text) else ""
        parts.append(f"{mark}# {file.path}\n{text.rstrip()}\n")
    joined = "".join(parts)
    loaded = _load({"-": joined})
    same = loaded.ok and encode_policies(loaded.tree) == encode_policies(tree)
    return joined if same else _text(replace(tree, sources={}))


def _load(texts: dict[str, str]) -> Loaded:
    return load_sources(Sources.of({name: text.encode() for name, text in texts.items()}))
