"""Export to envoyproxy/ratelimit: policies and a mapping of descriptors, as files of its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ratectl.diagnostics import Span
from ratectl.moving.block_text import block_text
from ratectl.moving.envoy_files import finding, is_wildcard, raise_findings
from ratectl.moving.limits_at import LimitsAt, Unsayable
from ratectl.moving.names import UniqueNames, attributes_on, segment
from ratectl.sidecar.mapping_file import read_mapping_with_places

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence

    from ratectl.diagnostics import Diagnostic
    from ratectl.moving.limits_at import Sayable
    from ratectl.policy.loading.loader import Loaded
    from ratectl.policy.yaml.nodes import Node
    from ratectl.sidecar.mapping_file import DomainModel, NodeModel

__all__ = ["Exported", "export_policies"]

_HITS = ("unit", "late_cost")
_REQUESTS = ("correlation", "override")


@dataclass
class Exported:
    """Files that were made, and what their reader should know."""

    files: dict[str, str] = field(default_factory=dict)
    """Text by path."""
    limits: int = 0
    notes: list[str] = field(default_factory=list)


def export_policies(loaded: Loaded, mapping: str | os.PathLike[str]) -> Exported:
    """Return files of envoyproxy/ratelimit that decide as policies and a mapping do.

    :raises UsageError: the mapping cannot be read.
    :raises MappingError: the mapping is not valid.
    :raises MovingError: something cannot be said; it has every finding.
    """
    model, root = read_mapping_with_places(mapping)
    file = str(mapping)
    exported, names = Exported(), UniqueNames()
    findings: list[Diagnostic] = []
    limits = LimitsAt(loaded.tree)
    for name, domain in model.domains.items():
        moved = _Domain(file, domain, limits, exported)
        descriptors = moved.descriptors(root.children["domains"].children[name])
        findings += moved.findings
        config = {"domain": name, "descriptors": descriptors}
        exported.files[f"{names.name(segment(name))}.yaml"] = block_text(config)
    raise_findings(findings, {**loaded.texts})
    if limits.has_months:
        exported.notes.append(
            "a month is 30 days since 1970 in envoyproxy/ratelimit, unless its setting for "
            "calendar months is on"
        )
    return exported


@dataclass
class _Step:
    """One entry on the way to a descriptor."""

    key: str
    value: str | None
    descriptor: dict[str, Any]
    """What is written for it."""
    shares: bool | None = None
    """True if all values of a wildcard are counted together; None if no limit has decided it."""


@dataclass
class _Domain:
    """Export of one domain."""

    file: str
    model: DomainModel
    limits: LimitsAt
    exported: Exported
    findings: list[Diagnostic] = field(default_factory=list)

    def descriptors(self, node: Node) -> list[dict[str, Any]]:
        """Return the descriptors of the file."""
        if self.model.unlisted != "pass":
            message = "descriptors that are not listed are decided, and envoyproxy/ratelimit admits"
            hint = "write unlisted: pass, and list those with a limit"
            self._find(node, "unlisted", f"{message} them", hint)
            return []
        for name in _REQUESTS:
            if getattr(self.model, name) is not None:
                self._find(node, name, f"envoyproxy/ratelimit has nothing like {name}", "delete it")
        self._check_hits(self.model, node)
        return self._below(self.model.descriptors or (), node, ())

    def _below(
        self, models: Sequence[NodeModel], parent: Node, path: tuple[_Step, ...]
    ) -> list[dict[str, Any]]:
        taken: set[str] = set()
        written = []
        for number, model in enumerate(models):
            node = parent.children["descriptors"].children[number]
            entry = "_".join(filter(None, (model.key, model.value)))
            if entry in taken:
                message = f"envoyproxy/ratelimit takes two entries here for one: {entry}"
                self._find(node, "key", message, "rename a key")
            taken.add(entry)
            written.append(self._descriptor(model, node, path))
        return written

    def _descriptor(self, model: NodeModel, node: Node, path: tuple[_Step, ...]) -> dict[str, Any]:
        if is_wildcard(model.key, "") and model.value is None:
            message = f"envoyproxy/ratelimit takes {model.key} for the beginning of keys"
            self._find(node, "key", message, "rename the key")
        self._check_hits(model, node)
        descriptor: dict[str, Any] = {"key": model.key}
        if model.value is not None:
            descriptor["value"] = model.value
        here = (*path, _Step(model.key, model.value, descriptor))
        if model.scope is not None:
            self._limit(model, node, here)
        below = self._below(model.descriptors or (), node, here)
        if here[-1].shares:
            descriptor["share_threshold"] = True
        if below:
            descriptor["descriptors"] = below
        return descriptor

    def _limit(self, model: NodeModel, node: Node, path: Sequence[_Step]) -> None:
        """Write the limit of a descriptor that is listed."""
        assert model.scope is not None
        place = self._place(node, "scope")
        try:
            limit = self.limits.at(model.scope, place)
        except Unsayable as error:
            self.findings.append(error.finding)
            return
        self.findings += self._counted(limit, path)
        written = dict(limit.written)
        if model.name is not None:
            written["name"] = model.name
        if model.replaces:
            written["replaces"] = [{"name": name} for name in model.replaces]
        path[-1].descriptor["rate_limit"] = written
        if limit.shadow:
            path[-1].descriptor["shadow_mode"] = True
        self.exported.limits += 1

    def _counted(self, limit: Sayable, path: Sequence[_Step]) -> Iterator[Diagnostic]:
        """Yield what is wrong with ``per``; decide which wildcards share."""
        if limit.per is None:
            return
        names = attributes_on([step.key for step in path], self.model.attributes)
        for name in limit.per:
            if name not in names:
                message = f"the limit counts per {name}, which is no entry of its descriptor"
                yield finding(limit.place, message, f"delete {name} from per, or list its key")
        for step, name in zip(path, names, strict=True):
            varies = name in limit.per
            if step.value is None and not varies:
                message = (
                    f"envoyproxy/ratelimit counts each {step.key} by itself, and this does not"
                )
                yield finding(limit.place, message, f"add {name} to per")
            if step.value is None or not step.value.endswith("*"):
                continue
            if step.shares is varies:
                message = f"limits below {step.key}={step.value} count its values in two ways"
                yield finding(limit.place, message, f"write {name} in per of all, or of none")
            step.shares = not varies

    def _check_hits(self, model: DomainModel | NodeModel, node: Node) -> None:
        for name in _HITS:
            if getattr(model, name):
                self._find(node, name, f"envoyproxy/ratelimit has nothing like {name}", "delete it")

    def _find(self, node: Node, name: str, message: str, hint: str) -> None:
        self.findings.append(finding(self._place(node, name), message, hint))

    def _place(self, node: Node, name: str) -> Span:
        place = node.place_of(name) if name in node.children else node.place
        return Span(self.file, *place)
