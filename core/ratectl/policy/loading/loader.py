"""Policy files to a tree: every file, every document, every problem at once."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from ratectl.diagnostics import Diagnostic, Span
from ratectl.policy import codes
from ratectl.policy.codes import NO_FILES, NO_POLICIES
from ratectl.policy.language.kinds import DEFAULT_KIND, KINDS
from ratectl.policy.language.model import (
    API_VERSION,
    Exemption,
    Policy,
    PolicyTree,
    SourceMap,
    with_exceptions,
)
from ratectl.policy.language.scopes import scope_problem
from ratectl.policy.language.testcase import PolicyTest, WrittenTest
from ratectl.policy.loading.files import STDIN, find_sources
from ratectl.policy.loading.model_errors import closest, explain_errors
from ratectl.policy.yaml.reader import BROKEN, MAX_PROBLEMS, Document, Node, Place, read
from ratectl.policy.yaml.text import quoted, too_many, visible

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping, Sequence

    from pydantic import BaseModel

    from ratectl.policy.loading.files import Sources

__all__ = [
    "NO_FILES", "NO_POLICIES", "STDIN", "Loaded", "load", "load_sources", "source_line",
    "with_source_lines",
]  # fmt: skip

_MAX_SHOWN_LINE: Final = 1_000
_OUR_VERSION = re.compile(r"ratectl/v[1-9][0-9]{0,3}")


@dataclass(frozen=True, slots=True)
class Loaded:
    """What the files say.

    ``tree`` holds only the documents without errors: refuse the whole where ``ok`` is false.
    """

    tree: PolicyTree
    diagnostics: tuple[Diagnostic, ...]
    files: tuple[str, ...]
    texts: Mapping[str, tuple[str, ...]]
    """The lines of each file that could be read."""
    broken: frozenset[str] = frozenset()
    """Scopes whose documents have errors; what lies below them cannot be judged."""
    unread: frozenset[str] = frozenset()
    """Files that were not read to their end: any scope might stand in the rest."""
    tests: tuple[WrittenTest, ...] = ()
    """In order of files and lines. They are no part of the tree: nothing publishes them."""
    raw: Mapping[str, bytes] = field(default_factory=dict)
    """The bytes of each file that could be opened."""

    @property
    def ok(self) -> bool:
        return all(found.severity != "error" for found in self.diagnostics)

    @property
    def usable(self) -> bool:
        """Whether agents could run it: they clip values above a cap, and never reject for it."""
        return all(
            found.severity != "error" or found.code == codes.CAP_EXCEEDED
            for found in self.diagnostics
        )


def load(paths: Sequence[str | os.PathLike[str]], *, stdin: bytes | None = None) -> Loaded:
    """Read the policies at ``paths``: files, directories (all ``.yaml`` and ``.yml`` in them) and
    ``-`` for ``stdin``.

    :raises UsageError: no path at all, an empty one, or ``-`` without ``stdin``.
    """
    return load_sources(find_sources(paths, stdin))


def load_sources(sources: Sources) -> Loaded:
    """Read the policies of files that are found already, in their order; there is at least one."""
    loading = _Loading(list(sources.diagnostics))
    for name, data in sources.read_all():
        if isinstance(data, Diagnostic):
            loading.found.append(data)
            loading.unread.add(name)
        else:
            loading.raw[name] = data
            loading.file(name, data)
    if not loading.documents and all(d.code == codes.EMPTY_FILE for d in loading.found):
        message, hint = "no file holds a policy", "write at least one document"
        span = Span(next(iter(sources.paths)))
        loading.found.append(Diagnostic(NO_POLICIES, message, span, hint=hint))
    found = with_source_lines(loading.found, loading.texts)
    return Loaded(
        with_exceptions(PolicyTree(loading.policies, loading.sources), loading.exceptions),
        tuple(sorted(found, key=lambda each: each.sort_key)),
        tuple(sources.paths),
        loading.texts,
        frozenset(loading.broken),
        frozenset(loading.unread),
        tuple(loading.tests),
        loading.raw,
    )


def with_source_lines(
    diagnostics: Iterable[Diagnostic], texts: Mapping[str, Sequence[str]]
) -> list[Diagnostic]:
    """The same findings, each with the line that it points into, if that is short enough to show.

    Characters that could drive a terminal are replaced, one for one.
    """
    return [
        found
        if found.source_line is not None
        else replace(found, source_line=source_line(found.span, texts))
        for found in diagnostics
    ]


def source_line(span: Span, texts: Mapping[str, Sequence[str]]) -> str | None:
    """The line that ``span`` points into; None where there is none, or it is too long to show."""
    lines = texts.get(span.file, ())
    if not 0 < span.line <= len(lines) or len(lines[span.line - 1]) > _MAX_SHOWN_LINE:
        return None
    return visible(lines[span.line - 1])


@dataclass(slots=True)
class _Loading:
    found: list[Diagnostic]
    texts: dict[str, tuple[str, ...]] = field(default_factory=dict)
    policies: dict[str, Policy] = field(default_factory=dict)
    exceptions: list[tuple[Exemption, SourceMap]] = field(default_factory=list)
    sources: dict[str, SourceMap] = field(default_factory=dict)
    declared: dict[str, Span] = field(default_factory=dict)
    broken: set[str] = field(default_factory=set)
    unread: set[str] = field(default_factory=set)
    tests: list[WrittenTest] = field(default_factory=list)
    raw: dict[str, bytes] = field(default_factory=dict)
    documents: int = 0

    def file(self, name: str, data: bytes) -> None:
        reading = read(data, name)
        self.texts[name] = reading.lines
        self.documents += len(reading.documents)
        if not reading.complete:
            self.unread.add(name)
        found = list(reading.diagnostics)
        for document in reading.documents:
            found += self.document(document, name, MAX_PROBLEMS + 1 - len(found))
        if len(found) > MAX_PROBLEMS:
            shown = sorted(
                (each for each in found if each.code != codes.TOO_MANY),
                key=lambda each: each.sort_key,
            )
            found = [*shown[:MAX_PROBLEMS], too_many(name)]
        self.found += found

    def document(self, document: Document, name: str, room: int) -> list[Diagnostic]:
        """Check one document and take it into the tree if nothing is wrong with it.

        ``room``: findings wanted, at most; explaining more costs time for nothing.
        """
        root = document.root
        if root.value is BROKEN:
            return []
        if not isinstance(root.value, dict):
            return [_not_a_mapping(root, name)] if room > 0 else []
        found = _header(document, name)
        if any(each.code == codes.KIND for each in found):
            return found
        said: BaseModel | None = None
        # What a field of another version would mean cannot be judged.
        if root.value.get("apiVersion", API_VERSION) in (API_VERSION, BROKEN):
            said, problems = _validate(document, name, room)
            found += problems
        if not document.ok or found:
            said = None
        if isinstance(said, PolicyTest):
            self.tests.append(WrittenTest(said, SourceMap(name, _places(root))))
        elif isinstance(said, Exemption):
            self.exceptions.append((said, SourceMap(name, _places(root))))
        elif _kind(document) is Policy:
            self.declare(root, name, said if isinstance(said, Policy) else None, found)
        return found

    def declare(
        self, root: Node, name: str, policy: Policy | None, found: list[Diagnostic]
    ) -> None:
        """Note that a scope is declared; its policy is None where that has errors."""
        scope = root.value.get("scope")
        if not isinstance(scope, str) or scope_problem(scope):
            return
        span = Span(name, *root.children["scope"].place)
        first = self.declared.setdefault(scope, span)
        if first is not span:
            found.append(_declared_twice(scope, first, span))
        elif policy is None:
            self.broken.add(scope)
        else:
            self.policies[scope] = policy
            self.sources[scope] = SourceMap(name, _places(root))


def _kind(document: Document) -> type[BaseModel]:
    """The model of a document; the usual one where its kind is not known."""
    fields = document.root.value
    kind = fields.get("kind") if isinstance(fields, dict) else None
    return KINDS.get(kind if isinstance(kind, str) else DEFAULT_KIND, Policy)


def _validate(
    document: Document, name: str, room: int
) -> tuple[BaseModel | None, list[Diagnostic]]:
    fields, model = document.root.value, _kind(document)
    body = {key: fields[key] for key in fields if key not in ("apiVersion", "kind")}
    try:
        return model.model_validate(body), []
    except ValidationError as error:
        found = list(islice(explain_errors(error, model, document.root, name), max(room, 0)))
        unread = document.unread_from
        if unread is not None:  # what is missing may stand in the rest; its last value is torn
            found = [
                each
                for each in found
                if each.span.line < unread and each.code != codes.MISSING_FIELD
            ]
        return None, found


def _header(document: Document, name: str) -> list[Diagnostic]:
    """What is wrong with ``apiVersion`` and ``kind``."""
    root, fields = document.root, document.root.value
    found = []
    if problem := _version_problem(fields):
        if "apiVersion" in fields:
            place = root.place_of("apiVersion")
        elif document.unread_from is None:
            place = root.place
        else:
            return []
        code, message, hint = problem
        found.append(Diagnostic(code, message, Span(name, *place), hint=hint))
    if fields.get("apiVersion", API_VERSION) == API_VERSION and (problem := _kind_problem(fields)):
        code, message, hint = problem
        found.append(Diagnostic(code, message, Span(name, *root.place_of("kind")), hint=hint))
    return found


def _version_problem(fields: Mapping[str, Any]) -> tuple[str, str, str] | None:
    version = fields.get("apiVersion")
    if version in (API_VERSION, BROKEN):
        return None
    if version is None:
        return codes.API_VERSION, "apiVersion is missing", f"write apiVersion: {API_VERSION} first"
    if not isinstance(version, str):
        return codes.API_VERSION, "apiVersion must be text", f"write apiVersion: {API_VERSION}"
    if _OUR_VERSION.fullmatch(version):
        message = f"apiVersion {quoted(version)} is newer than this version of ratectl can read"
        return codes.API_VERSION, message, f"upgrade ratectl, or write {API_VERSION}"
    message = f"apiVersion {quoted(version)} is not known"
    hint = f"write {API_VERSION}, or keep other documents out of the policies"
    return codes.API_VERSION, message, hint


def _kind_problem(fields: Mapping[str, Any]) -> tuple[str, str, str] | None:
    kind = fields.get("kind", DEFAULT_KIND)
    if kind is BROKEN:
        return None
    if not isinstance(kind, str):
        return codes.KIND, "kind must be text", "write kind: Policy, or leave it out"
    if kind in KINDS:
        return None
    known = {each.lower(): each for each in KINDS}
    meant = closest(kind, known)
    message = f"unknown kind {quoted(kind)}"
    hint = f"there are {' and '.join(KINDS)}; without a kind it is a {DEFAULT_KIND}"
    return codes.KIND, message, f"did you mean {known[meant]!r}? {hint}" if meant else hint


def _not_a_mapping(root: Node, name: str) -> Diagnostic:
    hint = f"start it with apiVersion: {API_VERSION}"
    what = "text"
    if isinstance(root.value, list):
        what, hint = "a list", "write each policy as a document of its own, separated by ---"
    elif not isinstance(root.value, str):
        what = "a number or boolean"
    message = f"the document is {what}, not a mapping"
    return Diagnostic(codes.NOT_A_MAPPING, message, Span(name, *root.place), hint=hint)


def _declared_twice(scope: str, first: Span, span: Span) -> Diagnostic:
    message = f"the scope {quoted(scope)} is declared twice"
    notes = (f"first declared at {first}",)
    hint = "merge the two documents, or rename one"
    return Diagnostic(codes.DUPLICATE_SCOPE, message, span, hint=hint, notes=notes)


def _places(root: Node) -> dict[str, Place]:
    """Places by dotted path. A limit's name may hold dots: its own places come first then."""
    at = {"": root.place}
    pending = [("", root)]
    while pending:
        prefix, node = pending.pop()
        for key, child in node.children.items():
            path = f"{prefix}{key}"
            place = node.place_of(key) if isinstance(key, str) else child.place
            at.setdefault(path, place)
            if child.children:
                pending.append((f"{path}.", child))
    return at
