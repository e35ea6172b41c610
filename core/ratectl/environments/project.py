"""Settings of a project in `ratectl.yaml`: strict YAML, with a place for each problem.

Somebody may have written a password into the file, at any place. Findings show no text of it, but
names and URLs of stores without secrets: every finding is made by ``_finding``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any, Final

from ratectl.diagnostics import Diagnostic, Span
from ratectl.environments.target import UNPROTECTED, Protection
from ratectl.errors import UsageError
from ratectl.policy import codes
from ratectl.policy.loading.templates import holds_template, template_finding
from ratectl.policy.yaml.reader import read
from ratectl.runtime.closest import closest
from ratectl.runtime.urls import looks_like_url
from ratectl.stores.registry import check_form, same_store

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from ratectl.policy.yaml.nodes import Node, Place

__all__ = ["NAME_FORM", "Declared", "Project", "ProjectError", "parse_project"]

NAME_FORM: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""Form of an environment's name."""

_API: Final = "ratectl/v1"
_KIND: Final = "Environments"
_WHOLE: Final = ("apiVersion", "kind", "policies", "default", "environments")
_ENVIRONMENT: Final = ("store", "confirm", "sign")
_SECRETS: Final = re.compile(r"user|pass|token|secret|credential|key|cert|^ca$", re.IGNORECASE)
_NO_SECRETS: Final = (
    "credentials do not belong in this file: set RATECTL_ETCD_USER and RATECTL_ETCD_PASSWORD_FILE, "
    "and RATECTL_SIGN_KEY for the key that signs"
)
_URL_FORMS: Final = "write sqlite:///path.db, or etcd://host:2379/production"
_RENDER: Final = "write the value itself, or leave it out and set RATECTL_STORE"
_YAML_HINTS: Final = {codes.DUPLICATE_KEY: "delete or rename one", codes.TEMPLATE: _RENDER}
_PLAIN: Final = (
    "correct it as docs/environments.md shows, and quote text; credentials do not belong in this "
    "file"
)
_EXAMPLE: Final = "write {store: etcd://host:2379/production}"


@dataclass(frozen=True, slots=True)
class Declared:
    """An environment as the file declares it."""

    name: str
    store: str
    """URL; the path of an SQLite file is absolute."""
    protection: Protection = UNPROTECTED


@dataclass(frozen=True, slots=True)
class Project:
    """The settings in one file."""

    file: Path
    policies: Path | None
    """Folder of the policies; None if the file names none."""
    default: str | None
    """Environment of commands that name none."""
    environments: Mapping[str, Declared]


class ProjectError(UsageError):
    """Raised for a file that is not valid; ``diagnostics`` holds every finding."""

    def __init__(self, file: Path, diagnostics: Sequence[Diagnostic]) -> None:
        self.diagnostics = tuple(diagnostics)
        super().__init__(f"{file} is not valid")


def parse_project(data: bytes, file: Path) -> Project:
    """Return the settings in the bytes of a file. Its paths are relative to the file's folder.

    :raises ProjectError: they are not valid.
    """
    reading = read(data, str(file))
    findings = [_of_yaml(item) for item in reading.diagnostics if item.code != codes.EMPTY_FILE]
    project = None
    if not findings:
        reader = _Reader(file)
        project = reader.project([document.root for document in reading.documents])
        findings = sorted(reader.findings, key=lambda finding: finding.sort_key)
    template = template_finding(findings, reading.lines, str(file))
    if template is not None:
        findings = [_of_yaml(template)]
    if findings or project is None:
        raise ProjectError(file, findings)
    return project


def _finding(
    code: str, message: str, span: Span, hint: str, *words: str | UsageError, notes: tuple[str, ...]
) -> Diagnostic:
    """Return a finding. Each ``{}`` in its message stands for one of ``words``.

    A word is shown only if it has the form of a name. An error of ``stores.registry`` is shown,
    because it shows URLs without secrets. ``notes`` are places.
    """
    return Diagnostic(code, message.format(*map(_shown_word, words)), span, hint=hint, notes=notes)


def _shown_word(word: str | UsageError) -> str:
    return str(word) if isinstance(word, UsageError) or NAME_FORM.fullmatch(word) else "…"


def _of_yaml(finding: Diagnostic) -> Diagnostic:
    """Return a finding of the YAML reader without its words, which may quote any text."""
    code, hint = finding.code, _YAML_HINTS.get(finding.code, _PLAIN)
    return _finding(code, codes.CODES[code], finding.span, hint, notes=finding.notes)


class _Reader:
    """Turns nodes into settings, and collects what is wrong with them."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.findings: list[Diagnostic] = []

    def report(
        self,
        code: str,
        message: str,
        place: Place | None,
        hint: str,
        *words: str | UsageError,
        first: Place | None = None,
    ) -> None:
        """Note a finding; see ``_finding``. ``first``: place that it contradicts."""
        span = self._span(place)
        notes = (f"the first one is at {self._span(first)}",) if first else ()
        self.findings.append(_finding(code, message, span, hint, *words, notes=notes))

    def _span(self, place: Place | None) -> Span:
        return Span(str(self.file), *(place or ()))

    def project(self, roots: Sequence[Node]) -> Project | None:
        if len(roots) > 1:
            hint = "write one document"
            self.report(codes.REPEATED, "the file holds several documents", roots[1].place, hint)
            return None
        hint = f"write apiVersion: {_API} and kind: {_KIND}"
        if not roots:
            self.report(codes.EMPTY_FILE, "the file holds no settings", None, hint)
            return None
        root = roots[0]
        if not isinstance(root.value, dict):
            self.report(codes.NOT_A_MAPPING, "the settings are not a mapping", root.place, hint)
            return None
        self._header(root)
        self._known(root, _WHOLE)
        environments = self._environments(root.children.get("environments"))
        return Project(self.file, self._policies(root), self._default(root), environments)

    def _header(self, root: Node) -> None:
        expected = (("apiVersion", _API, codes.API_VERSION), ("kind", _KIND, codes.KIND))
        for key, value, code in expected:
            if key not in root.children:
                self.report(
                    codes.MISSING_FIELD, f"{key} is missing", root.place, f"add {key}: {value}"
                )
            elif root.value[key] != value:
                message = f"{key} is not {value}"
                self.report(code, message, root.place_of(key), f"write {key}: {value}")

    def _known(self, node: Node, fields: Sequence[str]) -> None:
        for key, place in node.keys.items():
            if key in fields:
                continue
            meant = closest(key, fields, 0.7)
            hint = f"did you mean {meant}?" if meant else f"known here: {', '.join(fields)}"
            secret = _SECRETS.search(key) or not NAME_FORM.fullmatch(key)
            hint = _NO_SECRETS if secret and not meant else hint
            self.report(codes.UNKNOWN_FIELD, "unknown field '{}'", place, hint, key)

    def _text(self, node: Node, key: str, hint: str) -> str | None:
        """Return the text of a field; None if it is absent, or is no text."""
        if key not in node.children:
            return None
        value = node.value[key]
        if isinstance(value, str) and value.strip():
            return value
        what = "is empty" if isinstance(value, str) else "is not text"
        self.report(codes.TYPE, f"{key} {what}", node.place_of(key), hint)
        return None

    def _policies(self, root: Node) -> Path | None:
        hint = "write a folder beside this file, or below it, like policies: policies"
        text = self._text(root, "policies", hint)
        if text is None:
            return None
        parts = [part for part in text.split("/") if part not in ("", ".")]
        if looks_like_url(text) or text.startswith(("/", "~")) or ".." in parts:
            message = "policies names no folder in that of this file"
            self.report(codes.CHOICE, message, root.place_of("policies"), hint)
            return None
        folder = self.file.parent.joinpath(*parts)
        if folder.is_file():
            message = "policies names a file, and not a folder"
            self.report(codes.CHOICE, message, root.place_of("policies"), hint)
        return folder

    def _default(self, root: Node) -> str | None:
        name = self._text(root, "default", "write the name of an environment, or delete the line")
        environments = root.value.get("environments")
        known = list(environments) if isinstance(environments, dict) else []
        if name is not None and name not in known:
            names = ", ".join(["{}"] * len(known)) or "none"
            message = f"default names no environment: '{{}}'; declared: {names}"
            hint = "write one of them, or delete the line"
            self.report(codes.CHOICE, message, root.place_of("default"), hint, name, *known)
        return name

    def _environments(self, node: Node | None) -> Mapping[str, Declared]:
        if node is None:
            return {}
        if not isinstance(node.value, dict) or not node.keys:
            message = "environments is not a mapping of names"
            hint = "write environments: {production: {store: etcd://host:2379/production}}"
            self.report(codes.TYPE, message, node.place, hint)
            return {}
        found = {
            name: self._environment(name, node) for name in node.keys if self._is_name(name, node)
        }
        environments = [declared for declared in found.values() if declared is not None]
        for first, second in combinations(environments, 2):
            if same_store(first.store, second.store):
                message = "environments {} and {} have the same store"
                hint = "give each a store of its own, or delete one"
                places = node.keys[second.name], node.keys[first.name]
                names = first.name, second.name
                self.report(codes.REPEATED, message, places[0], hint, *names, first=places[1])
        return {declared.name: declared for declared in environments}

    def _is_name(self, name: Any, node: Node) -> bool:
        fits = NAME_FORM.fullmatch(name) is not None
        if not fits:
            hint = "use letters, digits, '.', '_' and '-', at most 64; begin with a letter or digit"
            message = "this cannot name an environment"
            self.report(codes.NAME, message, node.keys[name], f"{hint}; {_NO_SECRETS}")
        return fits

    def _environment(self, name: Any, parent: Node) -> Declared | None:
        node, place = parent.children[name], parent.keys[name]
        if not isinstance(node.value, dict):
            self.report(codes.TYPE, "environment {} is not a mapping", place, _EXAMPLE, name)
            return None
        self._known(node, _ENVIRONMENT)
        if "store" not in node.children:
            message = "environment {} has no store"
            self.report(codes.MISSING_FIELD, message, place, _EXAMPLE, name)
        store = self._store(node)
        protection = Protection(self._confirm(node), self._sign(node))
        return None if store is None else Declared(name, store, protection)

    def _store(self, node: Node) -> str | None:
        text = self._text(node, "store", "write the URL of a store, like etcd://host:2379/prod")
        if text is None:
            return None
        place = node.place_of("store")
        if holds_template(text):
            message = "store is a template, and nothing renders this file"
            self.report(codes.TEMPLATE, message, place, _RENDER)
            return None
        try:
            check_form(text)
        except UsageError as error:
            secret = "@" in text or _SECRETS.search(text.partition("?")[2])
            hint = _NO_SECRETS if secret else _URL_FORMS
            self.report(codes.CHOICE, "{}", place, hint, error)
            return None
        return self._from_here(text)

    def _from_here(self, url: str) -> str:
        """Return a URL with the path of an SQLite file relative to the folder of this file."""
        path = url.removeprefix("sqlite:///")
        return url if path == url else f"sqlite:///{self.file.parent / path}"

    def _confirm(self, node: Node) -> bool:
        value = node.value.get("confirm", False)
        if isinstance(value, bool):
            return value
        hint = "write true: changes then ask for the environment's name; or false"
        self.report(codes.TYPE, "confirm is not true or false", node.place_of("confirm"), hint)
        return False

    def _sign(self, node: Node) -> bool:
        value = node.value.get("sign", "optional")
        if value in ("required", "optional"):
            return bool(value == "required")
        hint = "write required, or optional"
        self.report(codes.CHOICE, "sign is not required or optional", node.place_of("sign"), hint)
        return False
