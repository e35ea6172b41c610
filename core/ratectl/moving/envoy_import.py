"""Import of files of envoyproxy/ratelimit: policies, and the mapping of descriptors to them.

Each descriptor with a limit becomes a scope with one quota. The mapping has the tree of
descriptors, as descriptors without a limit decide which ones are found, too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from ratectl.moving.block_text import block_text
from ratectl.moving.envoy_files import MovingError, all_rules, finding, raise_findings, rules_below
from ratectl.moving.envoy_limits import WEEK, problems_of, rate_of
from ratectl.moving.names import UniqueNames, attribute_names, attributes_on, limit_name, segment
from ratectl.policy.format.edits import WIDTH
from ratectl.policy.format.tree_text import flow_text
from ratectl.policy.language.model import API_VERSION
from ratectl.policy.loading.files import Sources
from ratectl.policy.loading.loader import load_sources
from ratectl.policy.read import check_loaded
from ratectl.runtime.wording import printable
from ratectl.sidecar.mapping_file import KIND, MappingError, parse_mapping

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ratectl.diagnostics import Diagnostic
    from ratectl.moving.envoy_files import DescriptorModel, DomainFile, Rule
    from ratectl.moving.envoy_limits import QuotaMode

__all__ = ["MAPPING", "Imported", "import_files"]

MAPPING: Final = "envoy-mapping.yaml"
"""Name of the mapping's file."""

_MOST_ATTRIBUTES: Final = 8
"""Attributes of ``per``."""

_MARK: Final = {
    "detailed_metric": "is left out: it changes metrics, and no decision",
    "value_to_metric": "is left out: it changes metrics, and no decision",
    "metadata": "is left out: it changes what Envoy is told, and no decision",
}
"""Fields that change no decision."""


@dataclass
class Imported:
    """Files that were made, and what their reader should know."""

    files: dict[str, str] = field(default_factory=dict)
    """Text by path."""
    scopes: int = 0
    notes: list[str] = field(default_factory=list)


def import_files(
    files: Sequence[DomainFile],
    *,
    quota_mode: QuotaMode | None = None,
    across: str | None = None,
    stable: bool = False,
) -> Imported:
    """Return policies and the mapping that decide as files of envoyproxy/ratelimit do.

    ``quota_mode``: the meaning of limits with ``quota_mode``. ``across``: who counts the limits
    (``redis``); None: each agent. ``stable``: names of scopes depend on nothing but what they are
    made of; else they are shorter, and numbered where two are alike.

    :raises MovingError: something cannot be said; it has every finding.
    """
    imported, domains = Imported(), {}
    findings: list[Diagnostic] = []
    names = UniqueNames()
    notes: dict[str, list[str]] = {}
    for file in files:
        name = names.name(segment(file.config.domain, stable=stable))
        rules = list(all_rules(file))
        attributes = attribute_names((rule.model.key for rule in rules), stable=stable)
        moved = _Domain(f"/{name}", attributes, quota_mode, across, stable, notes)
        moved.note_unknown(rules)
        domains[file.config.domain] = moved.domain(file)
        findings += moved.findings
        if moved.documents:
            imported.files[f"policies/{name}.yaml"] = "---\n".join(moved.documents)
            imported.scopes += len(moved.documents)
    raise_findings(findings, {file.name: file.lines for file in files})
    whole = {"apiVersion": API_VERSION, "kind": KIND, "domains": domains}
    imported.files[MAPPING] = block_text(whole)
    imported.notes = [_note(message, places) for message, places in notes.items()]
    _check(imported.files)
    return imported


@dataclass
class _Above:
    """Descriptors above one, and the scope of the nearest of them."""

    scope: str
    keys: tuple[str, ...] = ()
    varies: tuple[bool, ...] = ()
    """For each key, True if each value of it is counted by itself."""
    title: str = ""
    inherited: str | None = None
    """Name of the limit that its scope inherits."""


@dataclass
class _Domain:
    """Import of one domain."""

    scope: str
    attributes: dict[str, str]
    quota_mode: QuotaMode | None
    across: str | None
    stable: bool
    notes: dict[str, list[str]]
    """Places by message."""
    documents: list[str] = field(default_factory=list)
    findings: list[Diagnostic] = field(default_factory=list)

    def domain(self, file: DomainFile) -> dict[str, Any]:
        """Return the domain of the mapping."""
        attributes = {"attributes": self.attributes} if self.attributes else {}
        below = self._below(file, _Above(self.scope))
        settings = {**attributes, "unlisted": "pass", "charge_refused": True}
        return {**settings, **({"descriptors": below} if below else {})}

    def _below(self, parent: DomainFile | Rule, above: _Above) -> list[dict[str, Any]]:
        names = UniqueNames()
        return [self._node(rule, above, names) for rule in rules_below(parent)]

    def _node(self, rule: Rule, above: _Above, names: UniqueNames) -> dict[str, Any]:
        model = rule.model
        problems = list(problems_of(rule, self.quota_mode))
        self.findings += problems
        self._note(rule)
        here = _Above(
            f"{above.scope}/{names.name(_segment(model, self.stable))}",
            (*above.keys, model.key),
            (*above.varies, _varies(model)),
            ", ".join(filter(None, (above.title, _title(model)))),
            above.inherited,
        )
        node: dict[str, Any] = {"key": model.key}
        if model.value:
            node["value"] = model.value
        limit = model.rate_limit
        if limit is not None and not problems:
            node["scope"] = here.scope
            here.inherited = limit_name(limit.name)
            self._document(rule, here, above.inherited)
            if limit.name:
                node["name"] = limit.name
            replaces = list(dict.fromkeys(each.name for each in limit.replaces))
            if replaces:
                node["replaces"] = replaces
        below = self._below(rule, here)
        if below:
            node["descriptors"] = below
        return node

    def _document(self, rule: Rule, here: _Above, inherited: str | None) -> None:
        per = [
            name
            for name, varies in zip(
                attributes_on(here.keys, self.attributes), here.varies, strict=True
            )
            if varies
        ]
        if len(per) > _MOST_ATTRIBUTES:
            message = f"the limit counts by {len(per)} keys, and per has {_MOST_ATTRIBUTES}"
            self.findings.append(finding(rule.span(), message, "give some of them a value"))
        lines = [
            f"# {printable(rule.file)}:{rule.span('rate_limit').line}: {here.title}",
            f"apiVersion: {API_VERSION}",
            f"scope: {here.scope}",
        ]
        if inherited is not None:
            lines.append(f"unset: [{inherited}]")
        lines += ["limits:", *_limit_lines(here.inherited, self._fields(rule.model, per))]
        self.documents.append("".join(f"{line}\n" for line in lines))

    def _fields(self, model: DescriptorModel, per: Sequence[str]) -> dict[str, Any]:
        limit = model.rate_limit
        assert limit is not None
        rate = rate_of(limit)
        if limit.unlimited:
            return {"rate": rate}
        fields: dict[str, Any] = {"algorithm": "quota", "rate": rate}
        if per:
            fields["per"] = per[0] if len(per) == 1 else per
        if model.shadow_mode or (model.quota_mode and self.quota_mode == "shadow"):
            fields["mode"] = "shadow"
        if rate.endswith("/week"):
            fields["resets"] = WEEK
        if self.across is not None:
            fields["across"] = self.across
        return fields

    def note_unknown(self, rules: Sequence[Rule]) -> None:
        """Note limits that are to be replaced, and do not exist."""
        limits = [(rule, rule.model.rate_limit) for rule in rules]
        names = {limit.name for _, limit in limits if limit is not None}
        for rule, limit in limits:
            for other in () if limit is None else limit.replaces:
                if other.name not in names:
                    self._add(rule, f"replaces names {other.name}, and no limit has this name")

    def _note(self, rule: Rule) -> None:
        for message in _messages(rule.model):
            self._add(rule, message)

    def _add(self, rule: Rule, message: str) -> None:
        self.notes.setdefault(message, []).append(str(rule.span(message.partition(" ")[0])))


def _messages(model: DescriptorModel) -> Iterator[str]:
    """Yield what changes no decision, or not all of them; the first word is the field."""
    for name, why in _MARK.items():
        if getattr(model, name):
            yield f"{name} {why}"
    limit = model.rate_limit
    if limit is None:
        for name in ("shadow_mode", "quota_mode"):
            if getattr(model, name):
                yield f"{name} changes nothing, as there is no rate_limit beside it"
    elif (limit.unit or "").lower() == "month":
        yield (
            "unit is month: a calendar month in UTC; in envoyproxy/ratelimit 30 days since 1970, "
            "unless its setting for calendar months is on"
        )


def _limit_lines(name: str | None, fields: dict[str, Any]) -> list[str]:
    """Return a limit as `ratectl fmt` writes it."""
    head = f"  {flow_text(name)}:"
    line = f"{head} {flow_text(fields)}"
    if len(line) <= WIDTH:
        return [line]
    return [head, *(f"    {field}: {flow_text(value)}" for field, value in fields.items())]


def _note(message: str, places: Sequence[str]) -> str:
    more = f" (and {len(places) - 1} more)" if len(places) > 1 else ""
    return f"{places[0]}: {message}{more}"


def _varies(model: DescriptorModel) -> bool:
    return not model.value or (model.value.endswith("*") and not model.share_threshold)


def _segment(model: DescriptorModel, stable: bool) -> str:
    if model.value.endswith("*"):
        return segment(f"{model.key}_{model.value[:-1]}", stable=stable) + "-any"
    return segment("_".join(filter(None, (model.key, model.value))), stable=stable)


def _title(model: DescriptorModel) -> str:
    return printable(f"{model.key}={model.value}" if model.value else model.key)


def _check(files: dict[str, str]) -> None:
    """Read what was made: bounds of policies and mappings hold for it as well.

    :raises MovingError: it is not valid.
    """
    policies = {name: text.encode() for name, text in files.items() if name != MAPPING}
    try:
        parse_mapping(files[MAPPING].encode(), MAPPING)
    except MappingError as error:
        raise MovingError(error.diagnostics) from None
    if policies:
        loaded = check_loaded(load_sources(Sources.of(policies)))
        if not loaded.ok:
            raise MovingError(loaded.diagnostics)
