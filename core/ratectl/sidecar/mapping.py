"""Mapping of Envoy's domains and descriptors to scopes, attributes and units."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from ratectl.engine.cost import REQUESTS
from ratectl.sidecar.wire import encode_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ratectl.sidecar.mapping_file import DomainModel, MappingModel, NodeModel

__all__ = ["Domain", "EnvoyMapping", "Found", "Plan"]


NodePlan = tuple[str, str | None, "dict[bytes, Any] | None", bool]
"""A node for the compiled core (``csrc/rls.h``): scope, unit, the places of the keys that may come
next, and True if the file lists a descriptor that ends here. A place has the nodes of values, and
that of all others: None for no node, False if Python has to look for the beginning of a value."""

Plan = tuple[NodePlan, dict[bytes, str], bool, bool]
"""A domain for the compiled core: its root, names of attributes by keys (those that requests have
had), True if descriptors that are not listed pass, and True if some replace others."""


class Found(NamedTuple):
    """Settings for a descriptor."""

    scope: str
    unit: str | None = None
    """Unit of its hits; None: requests."""
    late_cost: bool = False
    """True if hits are charged whatever is left."""
    charge_refused: bool = False
    """True if a descriptor with hits of its own is charged also where it is refused."""
    name: str | None = None
    """Name of its node."""
    replaces: tuple[str, ...] = ()
    """Names of nodes whose descriptors pass in the same request."""


class EnvoyMapping:
    """Domains, each with its settings. A domain that is not listed has the scope of its name."""

    def __init__(self, model: MappingModel | None = None) -> None:
        listed = {} if model is None else model.domains
        self._domains = {name: Domain(name, domain) for name, domain in listed.items()}
        self.charges_refused = any(each.root.charges_refused for each in self._domains.values())
        """True if some refusals are charged."""

    def domain(self, name: str) -> Domain:
        """Return the settings of a domain."""
        return self._domains.get(name) or Domain(name)


class Domain:
    """Settings of one domain."""

    __slots__ = ("attributes", "core", "correlation", "override", "passes_unlisted", "root")

    def __init__(self, name: str, model: DomainModel | None = None) -> None:
        self.attributes: Mapping[str, str] = {}
        """Attributes by keys of entries, where these differ."""
        self.correlation: str | None = None
        """Key of the entry that calls about one request have in common."""
        self.override: str | None = None
        """Attribute for the limit that Envoy brings along."""
        self.passes_unlisted = False
        found = Found("/" + name.strip("/"))
        if model is None:
            self.root = _Node(found)
        else:
            self.attributes = model.attributes
            self.correlation = model.correlation
            self.override = model.override
            self.passes_unlisted = model.unlisted == "pass"
            self.root = _Node(_settings(found, model), model.descriptors or ())
        self.core = self._plan()
        """What the compiled core needs to decide for this domain; None: it cannot."""

    def _plan(self) -> Plan | None:
        if self.correlation is not None or self.override is not None:
            return None
        root = self.root.plan()
        return None if root is None else (root, {}, self.passes_unlisted, self.root.replaces)

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

    __slots__ = (
        "_beginnings", "_by_key", "_exact", "charges_refused", "found", "is_end", "replaces",
    )  # fmt: skip

    def __init__(
        self, found: Found, models: Sequence[NodeModel] = (), *, is_end: bool = False
    ) -> None:
        self.found = found
        self.is_end = is_end
        """True if the file gives this node a scope: then it lists a descriptor that ends here."""
        self._exact: dict[tuple[str, str], _Node] = {}
        self._beginnings: list[tuple[str, str, _Node]] = []
        self._by_key: dict[str, _Node] = {}
        self.charges_refused = found.charge_refused
        """True if some refusals here or below are charged."""
        self.replaces = bool(found.replaces)
        """True if some nodes here or below replace others."""
        for model in models:
            settings = _settings(found, model)
            settings = settings._replace(name=model.name, replaces=model.replaces or ())
            node = _Node(settings, model.descriptors or (), is_end=model.scope is not None)
            self.charges_refused |= node.charges_refused
            self.replaces |= node.replaces
            if model.value is None:
                self._by_key[model.key] = node
                continue
            self._exact[model.key, model.value] = node
            if model.value.endswith("*"):
                self._beginnings.append((model.key, model.value[:-1], node))

    def plan(self) -> NodePlan | None:
        """Return the node and those below for the compiled core; None: it cannot use them."""
        found = self.found
        if found.late_cost or found.name in found.replaces:
            return None
        places: dict[bytes, tuple[dict[bytes, NodePlan], NodePlan | bool | None]] = {}
        nodes: list[tuple[str, str | None, _Node]]
        nodes = [(key, value, node) for (key, value), node in self._exact.items()]
        nodes += [(key, None, node) for key, node in self._by_key.items()]
        for key, value, node in nodes:
            plan = node.plan()
            if plan is None:
                return None
            place = encode_text(key)
            values, default = places.get(place, ({}, None))
            if value is None:
                default = plan
            else:
                values[encode_text(value)] = plan
            places[place] = values, default
        for key, _, _ in self._beginnings:
            values, _ = places[encode_text(key)]  # it is a value of its own, too
            places[encode_text(key)] = values, False
        return found.scope, found.unit, places or None, self.is_end

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
    refused = above.charge_refused if model.charge_refused is None else model.charge_refused
    return Found(model.scope or above.scope, None if unit == REQUESTS else unit, late, refused)
