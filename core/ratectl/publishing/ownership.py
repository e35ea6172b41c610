"""Sets: parts of one tree, each published by its owner without the others.

A scope or exception has one owner. Owners are kept beside the bundle, and change in the same
transaction; agents do not read them. Publishing a set publishes the live tree with the set's new
documents in it: caps and names are checked on the tree that will be enforced.
"""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, Literal, Self

from ratectl.diagnostics import Diagnostic, Span
from ratectl.errors import BundleError, NotFound
from ratectl.history.generations import live_entry, read_blob
from ratectl.policy import codes
from ratectl.policy.bundle import digest, encode_document
from ratectl.policy.language.model import Policy, PolicyTree, exception_key, with_exceptions
from ratectl.policy.language.scopes import ancestry, scope_problem
from ratectl.policy.read import check_loaded
from ratectl.policy.validation.tree import check_tree
from ratectl.publishing.handover import Item, Moved

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ratectl.history.generations import Live
    from ratectl.policy.language.model import Exemption, SourceMap
    from ratectl.policy.loading.loader import Loaded
    from ratectl.stores.base import Store

__all__ = [
    "Merged",
    "Owners",
    "judged",
    "merge",
    "others_untouched",
    "owners_blob",
    "part_of",
    "read_owners",
    "set_problem",
]

_FORMAT: Final = 1
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_LIVE: Final = "live"
"""Prefix of names of files without owner; other files have their set's name as prefix."""


def set_problem(name: str) -> str | None:
    """Return why this cannot be the name of a set, which is a folder name too; None if it can."""
    if _NAME.fullmatch(name):
        return None
    return "up to 64 letters, digits, '.', '_' and '-', the first a letter or digit"


@dataclass(frozen=True, slots=True)
class Owners:
    """Owners: the set of each scope, and of each exception by its hash."""

    scopes: Mapping[str, str] = field(default_factory=dict)
    exceptions: Mapping[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.scopes or self.exceptions)

    @property
    def sets(self) -> list[str]:
        """Names of all sets that own a document."""
        return sorted({*self.scopes.values(), *self.exceptions.values()})

    def of(self, document: Policy | Exemption) -> str | None:
        """Return the set that owns a document; None if none does."""
        if isinstance(document, Policy):
            return self.scopes.get(document.scope)
        return self.exceptions.get(digest(encode_document(document)))

    def data(self) -> dict[str, dict[str, str]]:
        """Return the owners as JSON data."""
        return {"scopes": dict(self.scopes), "exceptions": dict(self.exceptions)}

    @classmethod
    def from_data(cls, data: Mapping[str, Mapping[str, str]]) -> Self:
        """Read the data that ``data`` returned.

        :raises TypeError, ValueError: they are other data, or a name is invalid.
        """
        if not isinstance(data, dict):
            raise TypeError("owners are of scopes, and of exceptions")
        for name in ("scopes", "exceptions"):
            if not isinstance(data.get(name), dict):
                raise TypeError(f"owners of {name} are missing")
        owners = cls(dict(data["scopes"]), dict(data["exceptions"]))
        for owner in (*owners.scopes.values(), *owners.exceptions.values()):
            if not isinstance(owner, str):
                raise TypeError(f"{owner!r} is no name of a set")
        problems = [*map(scope_problem, owners.scopes), *map(set_problem, owners.sets)]
        for problem in filter(None, problems):
            raise ValueError(problem)
        return owners

    def encode(self) -> bytes:
        """Return canonical bytes: equal for equal owners."""
        value = {"format": _FORMAT, **self.data()}
        return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read the bytes that ``encode`` returned.

        :raises BundleError: they are other bytes.
        """
        try:
            value = json.loads(data)
            if value["format"] != _FORMAT:
                raise BundleError("owners have a newer format: upgrade ratectl")
            return cls.from_data(value)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise BundleError(f"owners are not readable: {error}") from None


def owners_blob(store: Store, live: Live) -> str | None:
    """Return the address of the owners of the live generation; None without owners."""
    if live.head is None:
        return None
    try:
        return live_entry(store, live).owners
    except NotFound:
        return None


def read_owners(store: Store, sha256: str | None) -> Owners:
    """Read the owners in a blob.

    :raises NotFound, BundleError: it is gone, or damaged. Owners are never guessed.
    """
    return Owners() if sha256 is None else Owners.decode(read_blob(store, sha256))


def part_of(tree: PolicyTree, owners: Owners, name: str | None) -> PolicyTree:
    """Return the documents of a tree that one set owns (None: no set), without sources."""
    return PolicyTree(
        {scope: policy for scope, policy in tree.policies.items() if owners.of(policy) == name},
        exceptions=tuple(each for each in tree.exceptions if owners.of(each) == name),
    )


# Merging ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Merged:
    """The live tree with the new documents of a set."""

    name: str
    tree: PolicyTree
    """For checks and output: the set's files have the names that were read, and other files have
    the name of their set as prefix."""
    published: PolicyTree
    """The tree to publish: every file has the name of its set as prefix."""
    owners: Owners
    moved: Moved
    conflicts: tuple[Diagnostic, ...] = ()
    """Documents in the files of the set that another set owns."""


def merge(
    name: str,
    part: PolicyTree,
    live: PolicyTree,
    owners: Owners,
    *,
    generation: int,
    prune: bool = False,
    take: Sequence[str] = (),
) -> Merged:
    """Return the live tree of ``generation`` with ``part`` as the documents of set ``name``.

    ``take``: scopes at and below which the set takes over documents of others. Exceptions have no
    names, so those at one scope are replaced together by the set's new ones.
    """
    draft = _Draft(name, owners, generation, frozenset(take))
    known = {*live.policies, *map(_id, live.exceptions)}
    for document, source in _documents(part):
        draft.say(document, source, known)
    said = {*part.policies, *map(_id, part.exceptions)}
    amended = {each.scope for each in part.exceptions}
    for document, source in _documents(live):
        replaced = (
            not isinstance(document, Policy)
            and document.scope in amended
            and owners.of(document) == name
        )
        if _id(document) not in said and not replaced:
            draft.keep(document, source, prune=prune)
    return draft.merged()


def _documents(tree: PolicyTree) -> Iterator[tuple[Policy | Exemption, SourceMap | None]]:
    for scope, policy in tree.policies.items():
        yield policy, tree.sources.get(scope)
    for position, exception in enumerate(tree.exceptions):
        yield exception, tree.sources.get(exception_key(position))


def _id(document: Policy | Exemption) -> str:
    """Return the identity of a document: its scope, or its hash, which has no slash."""
    if isinstance(document, Policy):
        return document.scope
    return digest(encode_document(document))


def _item(document: Policy | Exemption, owner: str | None) -> Item:
    kind: Literal["Policy", "Exception"] = "Policy" if isinstance(document, Policy) else "Exception"
    return Item(kind, document.scope, owner)


def _sorted(found: list[Item]) -> tuple[Item, ...]:
    return tuple(sorted(found, key=lambda item: (item.scope, item.kind == "Exception")))


class _Draft:
    """A merge in progress."""

    def __init__(self, name: str, owners: Owners, generation: int, take: frozenset[str]) -> None:
        self.name = name
        self.before = owners
        self.generation = generation
        self.take = take
        self.scopes: dict[str, str] = {}
        self.exceptions: dict[str, str] = {}
        self.found: list[tuple[Policy | Exemption, SourceMap | None, SourceMap | None]] = []
        self.left: list[Item] = []
        self.pruned: list[Item] = []
        self.taken: list[Item] = []
        self.conflicts: list[Diagnostic] = []

    def say(self, document: Policy | Exemption, source: SourceMap | None, known: set[str]) -> None:
        """Add a document of the set."""
        owner = self.before.of(document)
        if _id(document) in known and owner != self.name:
            if self.take.isdisjoint(ancestry(document.scope)):
                self.conflicts.append(self._conflict(document, source, owner))
            else:
                self.taken.append(_item(document, owner))
        self._put(document, source, _named(source, self.name), self.name)

    def keep(self, document: Policy | Exemption, source: SourceMap | None, *, prune: bool) -> None:
        """Add a live document that the files of the set do not hold."""
        owner = self.before.of(document)
        if owner == self.name:
            (self.pruned if prune else self.left).append(_item(document, owner))
            if prune:
                return
        shown = _named(source, _LIVE) if owner is None else source
        self._put(document, shown, source, owner)

    def _put(
        self,
        document: Policy | Exemption,
        shown: SourceMap | None,
        kept: SourceMap | None,
        owner: str | None,
    ) -> None:
        self.found.append((document, shown, kept))
        if owner is not None:
            owned = self.scopes if isinstance(document, Policy) else self.exceptions
            owned[_id(document)] = owner

    def _conflict(
        self, document: Policy | Exemption, source: SourceMap | None, owner: str | None
    ) -> Diagnostic:
        whose = f"set {owner}" if owner else "no set"
        what = f"the scope {document.scope}"
        if not isinstance(document, Policy):
            what = f"this exception at {document.scope}"
        take = f"take it over with --take-ownership {document.scope}"
        hint = f"remove it here, or {take}"
        if owner:
            hint = (
                f"remove it here; or remove it from set {owner} and apply that set with --prune; "
                f"or {take}"
            )
        return Diagnostic(
            codes.OWNED,
            f"{what} belongs to {whose} in generation {self.generation}, not to {self.name}",
            source.span("scope") if source else Span(f"<{document.scope}>"),
            hint=hint,
        )

    def merged(self) -> Merged:
        return Merged(
            self.name,
            _tree((document, shown) for document, shown, _ in self.found),
            _tree((document, kept) for document, _, kept in self.found),
            Owners(self.scopes, self.exceptions),
            Moved(_sorted(self.left), _sorted(self.pruned), _sorted(self.taken)),
            tuple(sorted(self.conflicts, key=lambda each: each.sort_key)),
        )


def judged(loaded: Loaded, merged: Merged, live: PolicyTree, owners: Owners) -> Loaded:
    """Return the policies of a set with the findings of every rule on the whole tree.

    Findings in documents of other sets count only if they are new: this set causes them. Findings
    that were there before are for their owners to mend, and do not prevent publishing.
    """
    checked = check_loaded(replace(loaded, tree=merged.tree), live)
    known = {_finding(each) for each in check_tree(_labelled(live, owners), now_ns=time.time_ns())}
    # File names of the set differ from all live ones, so its own findings are never known.
    found = tuple(each for each in checked.diagnostics if _finding(each) not in known)
    return replace(checked, diagnostics=found)


def others_untouched(merged: Merged, live: PolicyTree, owners: Owners) -> bool:
    """Return True if documents of other sets stay as they are live, or were taken over."""
    before, now = _owned(live, owners), _owned(merged.tree, merged.owners)
    kept = all(
        now.get(each) == said or now.get(each, said)[1] == merged.name
        for each, said in before.items()
    )
    return kept and all(
        owner == merged.name or before.get(each) == (document, owner)
        for each, (document, owner) in now.items()
    )


def _owned(tree: PolicyTree, owners: Owners) -> dict[str, tuple[bytes, str | None]]:
    """Return every document of a tree and its owner, by identity."""
    return {
        _id(document): (encode_document(document), owners.of(document))
        for document, _ in _documents(tree)
    }


def _finding(found: Diagnostic) -> tuple[str, Span, str]:
    return found.code, found.span, found.message


def _labelled(tree: PolicyTree, owners: Owners) -> PolicyTree:
    """Return a live tree with file names as ``merge`` writes those of others."""
    return _tree(
        (document, _named(source, _LIVE) if owners.of(document) is None else source)
        for document, source in _documents(tree)
    )


def _named(source: SourceMap | None, name: str) -> SourceMap | None:
    return source and replace(source, file=f"{name}:{source.file}")


def _tree(found: Iterator[tuple[Policy | Exemption, SourceMap | None]]) -> PolicyTree:
    policies: dict[str, Policy] = {}
    sources: dict[str, SourceMap] = {}
    exceptions: list[tuple[Exemption, SourceMap | None]] = []
    for document, source in found:
        if not isinstance(document, Policy):
            exceptions.append((document, source))
            continue
        policies[document.scope] = document
        if source is not None:
            sources[document.scope] = source
    return with_exceptions(PolicyTree(policies, sources), exceptions)
