"""Mapping of Envoy's domains and descriptors to scopes, attributes and units."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ratectl.engine.cost import REQUESTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ratectl.sidecar.mapping_file import DomainModel, MappingModel, NodeModel

__all__ = ["Domain", "EnvoyMapping", "Found", "scope_of"]


class Found(NamedTuple):
    """Settings for a descriptor."""

    scope: str
    unit: str | None = None
    """Unit of its hits; None: requests."""
    late_cost: bool = False
    """True if hits are charged whatever is left."""
    name: str | None = None
    """Name of its node."""
    replaces: tuple[str, ...] = ()
    """Names of nodes whose descriptors pass in the same request."""


class EnvoyMapping:
    """Domains, each with its settings. A domain that is not listed has the scope of its name."""

    def __init__(self, model: MappingModel | None = None) -> None:
        listed = {} if model is None else model.domains
        self._domains = {name: Domain(name, domain) for name, domain in listed.items()}

    def domain(self, name: str) -> Domain:
        """Return the settings of a domain."""
        return self._domains.get(name) or Domain(name)


class Domain:
    """Settings of one domain."""

    __slots__ = (
        "attributes",
        "correlation",
        "is_plain",
        "override",
        "passes_unlisted",
        "root",
        "scope",
    )

    def __init__(self, name: str, model: DomainModel | None = None) -> None:
        self.scope = scope_of(name)
        self.attributes: Mapping[str, str] = {}
        """Attributes by keys of entries, where these differ."""
        self.correlation: str | None = None
        """Key of the entry that calls about one request have in common."""
        self.override: str | None = None
        """Attribute for the limit that Envoy brings along."""
        self.passes_unlisted = False
        self.root = _Node(Found(self.scope))
        self.is_plain = True
        """True if the scope is all that descriptors need."""
        if model is None:
            return
        self.scope = model.scope or self.scope
        self.attributes = model.attributes
        self.correlation = model.correlation
        self.override = model.override
        self.passes_unlisted = model.unlisted == "pass"
        self.root = _Node(_settings(Found(self.scope), model), model.descriptors or ())
        self.is_plain = model.model_fields_set <= {"scope"}

    def find(self, entries: Iterable[tuple[str, str]]) -> Found | None:
        """Return the settings for a descriptor with these entries; None: it passes.

        At each entry, the node with its key and value counts; else the first with its key and the
        beginning of its value; else the one with its key alone. Entries after the last node that
        fits change nothing.
        """
        node, is_listed = self.root, self.root.is_end
        for key, value in entries:
            below = node.below(key, value)
            if below is None:
                is_listed = False
                break
            node, is_listed = below, below.is_end
        return node.found if is_listed or not self.passes_unlisted else None


class _Node:
    """One entry, and the nodes of the entries that may come next."""

    __slots__ = ("_beginnings", "_by_key", "_exact", "found", "is_end")

    def __init__(
        self, found: Found, models: Sequence[NodeModel] = (), *, is_end: bool = False
    ) -> None:
        self.found = found
        self.is_end = is_end
        """True if the file gives this node a scope: then it lists a descriptor that ends here."""
        self._exact: dict[tuple[str, str], _Node] = {}
        self._beginnings: list[tuple[str, str, _Node]] = []
        self._by_key: dict[str, _Node] = {}
        for model in models:
            settings = _settings(found, model)
            settings = settings._replace(name=model.name, replaces=model.replaces or ())
            node = _Node(settings, model.descriptors or (), is_end=model.scope is not None)
            if model.value is None:
                self._by_key[model.key] = node
                continue
            self._exact[model.key, model.value] = node
            if model.value.endswith("*"):
                self._beginnings.append((model.key, model.value[:-1], node))

    def below(self, key: str, value: str) -> _Node | None:
        """Return the node of the next entry."""
        found = self._exact.get((key, value))
        if found is not None:
            return found
        for wanted, beginning, node in self._beginnings:
            if wanted == key and value.startswith(beginning):
                return node
        return self._by_key.get(key)


def _settings(above: Found, model: DomainModel | NodeModel) -> Found:
    """Return the settings of a node: those that it names, and else those above it."""
    unit = above.unit if model.unit is None else model.unit
    late = above.late_cost if model.late_cost is None else model.late_cost
    return Found(model.scope or above.scope, None if unit == REQUESTS else unit, late)


def scope_of(domain: str) -> str:
    """Return the scope of a domain that no mapping lists."""
    return "/" + domain.strip("/")
