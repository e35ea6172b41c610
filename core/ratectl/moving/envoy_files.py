"""Files of envoyproxy/ratelimit: their fields, and a strict reader with places."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from pydantic import Field, ValidationError

from ratectl.diagnostics import Diagnostic, Span
from ratectl.errors import PolicyError, UsageError
from ratectl.policy import codes
from ratectl.policy.loading.files import STDIN, find_sources
from ratectl.policy.loading.loader import with_source_lines
from ratectl.policy.loading.model_errors import explain_errors
from ratectl.policy.yaml.reader import read
from ratectl.sidecar.mapping_file import EntryText, EntryValue, Fields

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence

    from ratectl.policy.loading.files import Sources
    from ratectl.policy.yaml.nodes import Document, Node

__all__ = [
    "DescriptorModel", "DomainFile", "MovingError", "RateLimitModel", "Rule", "all_rules",
    "finding", "is_wildcard", "raise_findings", "read_files", "read_sources", "rules_below",
]  # fmt: skip


class ReplacedModel(Fields):
    """A limit that does not count beside another one."""

    name: EntryText


class RateLimitModel(Fields):
    """A limit."""

    unit: str | None = None
    requests_per_unit: Annotated[int, Field(ge=0)] | None = None
    unlimited: bool = False
    name: str = ""
    replaces: Annotated[tuple[ReplacedModel, ...], Field(strict=False)] = ()


class DescriptorModel(Fields):
    """One entry of a descriptor, and the entries that may come next."""

    key: EntryText
    value: EntryValue = ""
    rate_limit: RateLimitModel | None = None
    shadow_mode: bool = False
    quota_mode: bool = False
    detailed_metric: bool = False
    value_to_metric: bool = False
    share_threshold: bool = False
    metadata: dict[str, Any] | None = None
    descriptors: Annotated[tuple[DescriptorModel, ...], Field(strict=False)] = ()


class ConfigModel(Fields):
    """A whole file: one domain."""

    domain: EntryText
    descriptors: Annotated[tuple[DescriptorModel, ...], Field(strict=False)] = ()


class DomainFile(NamedTuple):
    """A file that was read."""

    name: str
    config: ConfigModel
    root: Node
    lines: tuple[str, ...]


class Rule(NamedTuple):
    """A descriptor of a file, with its place."""

    model: DescriptorModel
    node: Node
    file: str

    def span(self, field: str = "key") -> Span:
        """Return the place of a field, or of one in ``rate_limit``; else that of the rule."""
        for node in (self.node, self.node.children.get("rate_limit", self.node)):
            if field in node.children:
                return Span(self.file, *node.place_of(field))
        return Span(self.file, *self.node.place)


class MovingError(PolicyError):
    """Raised for files that cannot be moved; ``diagnostics`` holds every finding."""

    headline = "nothing was written, as not everything can be moved"


def read_files(paths: Sequence[str | os.PathLike[str]]) -> list[DomainFile]:
    """Read files and folders of files.

    :raises UsageError: there is no path, or it is standard input.
    :raises MovingError: a file cannot be read, or is not valid.
    """
    if STDIN in paths:
        raise UsageError(
            "files of envoyproxy/ratelimit are not read from standard input: name them"
        )
    return read_sources(find_sources(paths, None))


def read_sources(sources: Sources) -> list[DomainFile]:
    """Read sources; see ``read_files`` for what is raised."""
    findings = list(sources.diagnostics)
    texts: dict[str, tuple[str, ...]] = {}
    files = []
    for name, data in sources.read_all():
        if isinstance(data, Diagnostic):
            findings.append(data)
            continue
        reading = read(data, name)
        texts[name] = reading.lines
        found, config = list(reading.diagnostics), None
        if not found:
            found, config = _checked(reading.documents, name)
        findings += found
        if config is not None:
            files.append(DomainFile(name, config, reading.documents[0].root, reading.lines))
    raise_findings(findings + list(_repeated(files)), texts)
    return files


def raise_findings(findings: Sequence[Diagnostic], texts: dict[str, tuple[str, ...]]) -> None:
    """Raise an error with findings, if there are any; ``texts``: lines of the files.

    :raises MovingError: there are.
    """
    if findings:
        found = with_source_lines(list(findings), texts)
        raise MovingError(sorted(found, key=lambda finding: finding.sort_key))


def finding(span: Span, message: str, hint: str) -> Diagnostic:
    """Return a finding about what cannot be said."""
    return Diagnostic(codes.UNSAYABLE, message, span, hint=hint)


def all_rules(file: DomainFile) -> Iterator[Rule]:
    """Yield all descriptors of a file."""
    levels: list[DomainFile | Rule] = [file]
    while levels:
        below = list(rules_below(levels.pop()))
        yield from below
        levels += below


def rules_below(above: DomainFile | Rule) -> Iterator[Rule]:
    """Yield the descriptors that a domain or a descriptor lists."""
    model, node, file = (
        (above.config, above.root, above.name)
        if isinstance(above, DomainFile)
        else (above.model, above.node, above.file)
    )
    for number, inner in enumerate(model.descriptors):
        yield Rule(inner, node.children["descriptors"].children[number], file)


def is_wildcard(key: str, value: str) -> bool:
    """Return True if envoyproxy/ratelimit takes the entry for the beginning of others."""
    return (value or key).endswith("*")


def _checked(
    documents: Sequence[Document], file: str
) -> tuple[list[Diagnostic], ConfigModel | None]:
    root = documents[0].root
    if len(documents) > 1:
        place = Span(file, *documents[1].root.place)
        message = "the file holds several documents, and envoyproxy/ratelimit reads the first one"
        hint = "write one file for each domain"
        return [Diagnostic(codes.REPEATED, message, place, hint=hint)], None
    if not isinstance(root.value, dict):
        message, place = "the file is no mapping of fields", Span(file, *root.place)
        hint = "write domain and descriptors"
        return [Diagnostic(codes.NOT_A_MAPPING, message, place, hint=hint)], None
    try:
        return [], ConfigModel.model_validate(root.value)
    except ValidationError as error:
        return list(explain_errors(error, ConfigModel, root, file, foreign=True)), None


def _repeated(files: Sequence[DomainFile]) -> Iterator[Diagnostic]:
    """Yield a finding for each domain, and each composite key, that is declared twice."""
    domains: dict[str, Span] = {}
    for file in files:
        place = Span(file.name, *file.root.place_of("domain"))
        first = domains.setdefault(file.config.domain, place)
        if first is not place:
            yield _twice(f"the domain {file.config.domain}", place, first, "write it in one file")
        levels: list[DomainFile | Rule] = [file]
        while levels:
            entries: dict[str, Span] = {}
            for rule in rules_below(levels.pop()):
                levels.append(rule)
                entry = "_".join(filter(None, (rule.model.key, rule.model.value)))
                place = rule.span()
                first = entries.setdefault(entry, place)
                if first is not place:
                    yield _twice(f"the entry {entry}", place, first, "delete or rename one")


def _twice(what: str, place: Span, first: Span, hint: str) -> Diagnostic:
    notes = (f"the first one is at {first}",)
    return Diagnostic(codes.REPEATED, f"{what} is declared twice", place, hint=hint, notes=notes)
