"""Loader: turns policy files into a tree, and reports all problems at once."""

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
from ratectl.policy.loading.files import find_sources
from ratectl.policy.loading.model_errors import explain_errors
from ratectl.policy.loading.templates import template_finding
from ratectl.policy.yaml.nodes import BROKEN, Document, Node, Place
from ratectl.policy.yaml.reader import read
from ratectl.policy.yaml.text import MAX_PROBLEMS, quoted, too_many, visible
from ratectl.runtime.closest import closest

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping, Sequence

    from pydantic import BaseModel

    from ratectl.policy.loading.files import Sources

__all__ = [
    "NO_FILES", "NO_POLICIES", "Loaded", "load", "load_sources", "source_line",
    "with_source_lines",
]  # fmt: skip

_MAX_SHOWN_LINE: Final = 1_000
_OUR_VERSION = re.compile(r"ratectl/v[1-9][0-9]{0,3}")


@dataclass(frozen=True, slots=True)
class Loaded:
    """Tree and findings of the files that were loaded.

    ``tree`` has only the documents without errors: do not use it if ``ok`` is false.
    """

    tree: PolicyTree
    diagnostics: tuple[Diagnostic, ...]
    files: tuple[str, ...]
    texts: Mapping[str, tuple[str, ...]]
    """Lines of each file that could be read."""
    broken: frozenset[str] = frozenset()
    """Scopes whose documents have errors; the scopes below them cannot be judged."""
    unread: frozenset[str] = frozenset()
    """Files that were not read to the end: the rest may declare any scope."""
    tests: tuple[WrittenTest, ...] = ()
    """Tests in order of files and lines. They are not part of the tree and never published."""
    raw: Mapping[str, bytes] = field(default_factory=dict)
    """Bytes of each file that could be opened."""
    ignored: tuple[Diagnostic, ...] = ()
    """Warnings that comments in the files ignore."""

    @property
    def ok(self) -> bool:
        return all(finding.severity != "error" for finding in self.diagnostics)

    @property
    def usable(self) -> bool:
        """True if agents could run it: they clip values above a cap, which is no error for them."""
        return all(
            finding.severity != "error" or finding.code == codes.CAP_EXCEEDED
            for finding in self.diagnostics
        )


def load(paths: Sequence[str | os.PathLike[str]], *, stdin: bytes | None = None) -> Loaded:
    """Read the policies at ``paths``: files, directories (all ``.yaml`` and ``.yml`` in them) and
    ``-`` for ``stdin``.

    :raises UsageError: no path at all, an empty one, or ``-`` without ``stdin``.
    """
    return load_sources(find_sources(paths, stdin))


def load_sources(sources: Sources) -> Loaded:
    """Read the policies of files that have been found, in their order; at least one."""
    loading = _Loading(list(sources.diagnostics))
    for name, data in sources.read_all():
        if isinstance(data, Diagnostic):
            loading.findings.append(data)
            loading.unread.add(name)
        else:
            loading.raw[name] = data
            loading.file(name, data)
    if not loading.documents and all(d.code == codes.EMPTY_FILE for d in loading.findings):
        loading.findings = [_no_policies(list(sources.paths))]
    findings = with_source_lines(loading.findings, loading.texts)
    return Loaded(
        with_exceptions(PolicyTree(loading.policies, loading.sources), loading.exceptions),
        tuple(sorted(findings, key=lambda finding: finding.sort_key)),
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
    """Return findings with the line that they point into, if it is short enough to show.

    Each character that could control a terminal is replaced by one other.
    """
    return [
        finding
        if finding.source_line is not None
        else replace(finding, source_line=source_line(finding.span, texts))
        for finding in diagnostics
    ]


def source_line(span: Span, texts: Mapping[str, Sequence[str]]) -> str | None:
    """Return the line that ``span`` points into; None if there is none, or it is too long."""
    lines = texts.get(span.file, ())
    if not 0 < span.line <= len(lines) or len(lines[span.line - 1]) > _MAX_SHOWN_LINE:
        return None
    return visible(lines[span.line - 1])


@dataclass(slots=True)
class _Loading:
    findings: list[Diagnostic]
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
        findings = list(reading.diagnostics)
        for document in reading.documents:
            findings += self.document(document, name, MAX_PROBLEMS + 1 - len(findings))
        template = template_finding(findings, reading.lines, name)
        if template is not None:
            self.unread.add(name)
            findings = [template]
        if len(findings) > MAX_PROBLEMS:
            shown = sorted(
                (finding for finding in findings if finding.code != codes.TOO_MANY),
                key=lambda finding: finding.sort_key,
            )
            findings = [*shown[:MAX_PROBLEMS], too_many(name)]
        self.findings += findings

    def document(self, document: Document, name: str, room: int) -> list[Diagnostic]:
        """Check one document, add it to the tree if it is valid, and return the findings.

        ``room``: maximum number of findings; to explain more would waste time.
        """
        root = document.root
        if root.value is BROKEN:
            return []
        if not isinstance(root.value, dict):
            return [_not_a_mapping(root, name)] if room > 0 else []
        findings = _header(document, name)
        if any(finding.code == codes.KIND for finding in findings):
            return findings
        model: BaseModel | None = None
        # Fields of another version cannot be judged.
        if root.value.get("apiVersion", API_VERSION) in (API_VERSION, BROKEN):
            model, problems = _validate(document, name, room)
            findings += problems
        if not document.ok or findings:
            model = None
        if isinstance(model, PolicyTest):
            self.tests.append(WrittenTest(model, SourceMap(name, _places(root))))
        elif isinstance(model, Exemption):
            self.exceptions.append((model, SourceMap(name, _places(root))))
        elif _kind(document) is Policy:
            self.declare(root, name, model if isinstance(model, Policy) else None, findings)
        return findings

    def declare(
        self, root: Node, name: str, policy: Policy | None, findings: list[Diagnostic]
    ) -> None:
        """Record that a scope is declared; ``policy`` is None if it has errors."""
        scope = root.value.get("scope")
        if not isinstance(scope, str) or scope_problem(scope):
            return
        span = Span(name, *root.children["scope"].place)
        first = self.declared.setdefault(scope, span)
        if first is not span:
            findings.append(_declared_twice(scope, first, span))
        elif policy is None:
            self.broken.add(scope)
        else:
            self.policies[scope] = policy
            self.sources[scope] = SourceMap(name, _places(root))


def _kind(document: Document) -> type[BaseModel]:
    """Return the model of a document; ``Policy`` if its kind is unknown."""
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
        findings = list(islice(explain_errors(error, model, document.root, name), max(room, 0)))
        unread = document.unread_from
        if unread is not None:  # the unread rest may have missing fields; its last value is cut off
            findings = [
                finding
                for finding in findings
                if finding.span.line < unread and finding.code != codes.MISSING_FIELD
            ]
        return None, findings


def _header(document: Document, name: str) -> list[Diagnostic]:
    """Return findings about ``apiVersion`` and ``kind``."""
    root, fields = document.root, document.root.value
    findings = []
    if problem := _version_problem(fields):
        if "apiVersion" in fields:
            place = root.place_of("apiVersion")
        elif document.unread_from is None:
            place = root.place
        else:
            return []
        code, message, hint = problem
        findings.append(Diagnostic(code, message, Span(name, *place), hint=hint))
    if fields.get("apiVersion", API_VERSION) == API_VERSION and (problem := _kind_problem(fields)):
        code, message, hint = problem
        findings.append(Diagnostic(code, message, Span(name, *root.place_of("kind")), hint=hint))
    return findings


def _version_problem(fields: Mapping[str, Any]) -> tuple[str, str, str] | None:
    version = fields.get("apiVersion")
    if version in (API_VERSION, BROKEN):
        return None
    if version is None and any(key.lower() == "apiversion" for key in fields):
        return None  # it is an unknown field
    if version is None:
        hint = f"write apiVersion: {API_VERSION} on the line above"
        return codes.API_VERSION, "apiVersion is missing", hint
    if not isinstance(version, str):
        return codes.API_VERSION, "apiVersion must be text", f"write apiVersion: {API_VERSION}"
    if _OUR_VERSION.fullmatch(version):
        message = f"apiVersion {quoted(version)} is newer than this version of ratectl can read"
        return codes.API_VERSION, message, f"upgrade ratectl, or write {API_VERSION}"
    message = f"apiVersion {quoted(version)} is not known"
    hint = f"write {API_VERSION}; if the document is not for ratectl, put it into another folder"
    return codes.API_VERSION, message, hint


def _kind_problem(fields: Mapping[str, Any]) -> tuple[str, str, str] | None:
    kind = fields.get("kind", DEFAULT_KIND)
    if kind is BROKEN:
        return None
    if not isinstance(kind, str):
        return codes.KIND, "kind must be text", "write kind: Policy, or leave it out"
    if kind in KINDS:
        return None
    if kind == "Environments":
        hint = "leave this file out of PATH; see `ratectl env`, which reads ratectl.yaml"
        return codes.KIND, "these are settings of environments, and no policies", hint
    known = {name.lower(): name for name in KINDS}
    meant = closest(kind.lower(), known)
    message = f"unknown kind {quoted(kind)}"
    *first, last = KINDS
    hint = f"write {', '.join(first)} or {last}; without a kind it is a {DEFAULT_KIND}"
    return codes.KIND, message, f"did you mean {known[meant]}? {hint}" if meant else hint


def _not_a_mapping(root: Node, name: str) -> Diagnostic:
    hint = f"start it with apiVersion: {API_VERSION}"
    what = "text"
    if isinstance(root.value, list):
        what, hint = "a list", "write each policy as a document of its own, separated by ---"
    elif not isinstance(root.value, str):
        what = "a number or boolean"
    message = f"the document is {what}, not a mapping"
    if not name.lower().endswith((".yaml", ".yml", ".json", "-")) and "<" not in name:
        message = f"{name} is not a policy file: it holds {what}"
        hint = "name a .yaml file, or the folder with the policies"
    return Diagnostic(codes.NOT_A_MAPPING, message, Span(name, *root.place), hint=hint)


def _no_policies(files: Sequence[str]) -> Diagnostic:
    hint = "write at least one policy; `ratectl init` writes examples"
    what = "the file holds" if len(files) == 1 else f"all {len(files)} files hold"
    return Diagnostic(NO_POLICIES, f"{what} no policy", Span(files[0]), hint=hint)


def _declared_twice(scope: str, first: Span, span: Span) -> Diagnostic:
    message = f"the scope {quoted(scope)} is declared twice"
    notes = (f"first declared at {first}",)
    hint = "write the limits of both in one document, or give one of them another scope"
    return Diagnostic(codes.DUPLICATE_SCOPE, message, span, hint=hint, notes=notes)


def _places(root: Node) -> dict[str, Place]:
    """Return places by dotted path. If a name with dots looks like a path, the name wins."""
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
