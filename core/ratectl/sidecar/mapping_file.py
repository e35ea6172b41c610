"""The file that maps Envoy's domains and descriptors to scopes: its fields, and its reader."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from ratectl.diagnostics import Diagnostic, Span
from ratectl.errors import UsageError
from ratectl.policy import codes
from ratectl.policy.language.field_types import AttributeName, Scope, UnitName, unique
from ratectl.policy.language.model import API_VERSION
from ratectl.policy.loading.loader import with_source_lines
from ratectl.policy.loading.model_errors import explain_errors
from ratectl.policy.yaml.nodes import BROKEN, Node
from ratectl.policy.yaml.reader import read

__all__ = [
    "KIND", "DomainModel", "EntryText", "EntryValue", "Fields", "MappingError", "MappingModel",
    "NodeModel", "parse_mapping", "read_mapping", "read_mapping_with_places",
]  # fmt: skip

KIND: Final = "EnvoyMapping"
_MOST_BYTES: Final = 16 * 1024 * 1024

EntryText = Annotated[str, Field(min_length=1, max_length=4_096)]
"""Key of an entry, and other texts that are not empty."""
EntryValue = Annotated[str, Field(max_length=4_096)]


class Fields(BaseModel):
    """Fields of a file, of which none is unknown."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class _Settings(Fields):
    """Settings for descriptors; nodes below inherit them."""

    scope: Scope | None = None
    """Scope of the request. Default: ``/`` and the domain."""
    unit: UnitName | None = None
    """Unit of the hits. Default: requests."""
    late_cost: bool | None = None
    """True if hits come after a request has run (``apply_on_stream_done``): they are charged even
    where less is left. A descriptor with 0 hits looks."""
    charge_refused: bool | None = None
    """True if a descriptor that brings hits of its own (``hits_addend``) is charged also where it
    is refused, as in envoyproxy/ratelimit: for limits that count requests and late costs."""


class NodeModel(_Settings):
    """One entry of a descriptor, and what stands below it."""

    key: EntryText
    value: EntryValue | None = None
    """Value of the entry; one with ``*`` at its end is the beginning of a value. Default: any."""
    name: EntryText | None = None
    """Name for ``replaces`` of other nodes."""
    replaces: (
        Annotated[tuple[EntryText, ...], AfterValidator(unique), Field(min_length=1, strict=False)]
        | None
    ) = None
    """Names of nodes whose descriptors pass, in a request with a descriptor of this node."""
    descriptors: Annotated[tuple[NodeModel, ...], Field(min_length=1, strict=False)] | None = None
    """Entries that may come next."""


class DomainModel(_Settings):
    """One of Envoy's domains."""

    attributes: dict[EntryText, AttributeName] = Field(default_factory=dict)
    """Attributes by keys of entries. Default: the attribute has the name of the key."""
    correlation: EntryText | None = None
    """Key of the entry that is the same for all calls about one request, like ``x-request-id``.
    Hits can be given back by it; it is no attribute."""
    override: AttributeName | None = None
    """Attribute for the limit that Envoy brings along, as a text like ``100/min``."""
    unlisted: Literal["decide", "pass"] = "decide"
    """``pass``: descriptors that ``descriptors`` does not list with a scope are admitted."""
    descriptors: Annotated[tuple[NodeModel, ...], Field(min_length=1, strict=False)] | None = None


class MappingModel(Fields):
    """A whole file."""

    domains: dict[EntryText, DomainModel]


class MappingError(UsageError):
    """Raised for a file that is not valid; ``diagnostics`` holds every finding."""

    def __init__(self, file: str, diagnostics: tuple[Diagnostic, ...]) -> None:
        self.diagnostics = diagnostics
        super().__init__(f"{file} is not valid")


def read_mapping(file: str | os.PathLike[str]) -> MappingModel:
    """Read a file.

    :raises UsageError: it cannot be read.
    :raises MappingError: it is not valid.
    """
    return read_mapping_with_places(file)[0]


def read_mapping_with_places(file: str | os.PathLike[str]) -> tuple[MappingModel, Node]:
    """Read a file; the node has the place of each value.

    :raises UsageError: it cannot be read.
    :raises MappingError: it is not valid.
    """
    name = os.fspath(file)
    try:
        with Path(name).open("rb") as opened:
            data = opened.read(_MOST_BYTES + 1)
    except OSError as error:
        raise UsageError(f"cannot read the mapping {name}: {error.strerror}") from None
    if len(data) > _MOST_BYTES:
        raise UsageError(f"the mapping {name} has more than {_MOST_BYTES:,} bytes")
    return parse_mapping(data, name)


def parse_mapping(data: bytes, file: str) -> tuple[MappingModel, Node]:
    """Return the mapping in the bytes of a file, and a node with the place of each value.

    :raises MappingError: it is not valid.
    """
    reading = read(data, file)
    findings = list(reading.diagnostics)
    model = None
    if not findings:
        roots = [document.root for document in reading.documents]
        findings, model = _checked(roots, file)
    if findings or model is None:
        found = with_source_lines(findings, {file: reading.lines})
        raise MappingError(file, tuple(sorted(found, key=lambda finding: finding.sort_key)))
    return model, reading.documents[0].root


def _checked(roots: list[Node], file: str) -> tuple[list[Diagnostic], MappingModel | None]:
    root = roots[0]
    if len(roots) > 1:
        place = Span(file, *roots[1].place)
        message = "the file holds several documents"
        return [Diagnostic(codes.REPEATED, message, place, hint="write one document")], None
    if not isinstance(root.value, dict):
        message = "the mapping is no mapping of fields"
        hint = f"write apiVersion: {API_VERSION}, kind: {KIND} and domains"
        return [Diagnostic(codes.NOT_A_MAPPING, message, Span(file, *root.place), hint=hint)], None
    findings = list(_header(root, file))
    fields = {key: value for key, value in root.value.items() if key not in ("apiVersion", "kind")}
    try:
        model = MappingModel.model_validate(fields)
    except ValidationError as error:
        return [*findings, *explain_errors(error, MappingModel, root, file)], None
    findings += _repeated(model.domains, root.children["domains"], file)
    return findings, model


def _header(root: Node, file: str) -> list[Diagnostic]:
    found = []
    for key, wanted, code in (
        ("apiVersion", API_VERSION, codes.API_VERSION),
        ("kind", KIND, codes.KIND),
    ):
        if key not in root.children:
            place = Span(file, *root.place)
            missing = Diagnostic(
                codes.MISSING_FIELD, f"{key} is missing", place, hint=f"add {key}: {wanted}"
            )
            found.append(missing)
        elif root.value[key] not in (wanted, BROKEN):
            place = Span(file, *root.place_of(key))
            found.append(
                Diagnostic(code, f"{key} is not {wanted}", place, hint=f"write {key}: {wanted}")
            )
    return found


def _repeated(domains: dict[str, DomainModel], node: Node, file: str) -> list[Diagnostic]:
    """Return a finding for each entry that a second node lists at the same place."""
    found: list[Diagnostic] = []
    levels = [(model.descriptors, node.children[name]) for name, model in domains.items()]
    while levels:
        models, parent = levels.pop()
        if models is None:
            continue
        children = parent.children["descriptors"].children
        seen: dict[tuple[str, str | None], Node] = {}
        for number, model in enumerate(models):
            entry = model.key, model.value
            first = seen.setdefault(entry, children[number])
            if first is not children[number]:
                value = "" if model.value is None else f"={model.value}"
                found.append(
                    Diagnostic(
                        codes.REPEATED,
                        f"the entry {model.key}{value} is listed twice here",
                        Span(file, *children[number].children["key"].place),
                        hint="delete one, or put what is below into one",
                        notes=(f"the first one is at {Span(file, *first.place)}",),
                    )
                )
            levels.append((model.descriptors, children[number]))
    return found
