"""Calls of an engine, made from the fields of log lines."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar

from ratectl.engine.cost import REQUESTS
from ratectl.policy.language.scopes import scope_problem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ratectl.engine.cost import Cost
    from ratectl.simulate.model import Attribute, CostMap, ScopeMap, TrafficMap

__all__ = ["UNMAPPED", "Call", "Fields", "Mapper", "Unusable", "remember"]

Call: TypeAlias = "tuple[int, str, dict[str, str], Cost]"
"""Time (nanoseconds since 1970), scope, attributes and cost of one request."""

Fields: TypeAlias = "Mapping[str, str]"
"""Fields of one line. A missing value is absent, never empty."""

_T = TypeVar("_T")

_REMEMBERED: Final = 50_000
_MAX_COST: Final = 10**12


UNMAPPED: Final = "no scope for it"
"""Reason to skip a line for which the map has no scope; this is no error in the log."""


class Unusable(Exception):
    """Raised for a line that cannot be replayed; the message is the reason."""


def remember(known: dict[str, _T], key: str, value: _T) -> None:
    """Keep a computed value in a cache of bounded size."""
    if len(known) >= _REMEMBERED:
        known.clear()
    known[key] = value


class Mapper:
    """Traffic map, prepared to be applied to many lines."""

    def __init__(self, traffic_map: TrafficMap) -> None:
        self.map = traffic_map
        self._rules = [
            (re.compile(".*".join(map(re.escape, rule.match.split("*"))), re.DOTALL), rule.scope)
            for rule in traffic_map.scope.rules or ()
        ]
        self._scopes: dict[str, str | None] = {}
        fixed = {unit: cost.const or 0 for unit, cost in traffic_map.cost.items()}
        self.fixed_cost = None if traffic_map.cost_fields else _simplest(fixed)
        """Cost of every request; None if it depends on the request."""

    def scope(self, fields: Fields) -> str | None:
        """Return the scope; None if no rule matches or the field is absent."""
        scope_map: ScopeMap = self.map.scope
        if scope_map.const is not None:
            return scope_map.const
        value = fields.get(scope_map.field or "")
        if value is None:
            return None
        try:
            scope = self._scopes[value]
        except KeyError:
            scope = self._match(value)
            remember(self._scopes, value, scope)
        return scope

    def _match(self, value: str) -> str | None:
        if self.map.scope.rules is None:
            return None if scope_problem(value) else value
        return next((scope for rule, scope in self._rules if rule.fullmatch(value)), None)

    def attributes(self, fields: Fields) -> dict[str, str]:
        """Return the attributes that the line has values for."""
        attributes = {}
        for name, attribute in self.map.attributes.items():
            value = attribute.const or self._value(attribute, fields)
            if value is not None:
                attributes[name] = value
        return attributes

    def _value(self, attribute: Attribute, fields: Fields) -> str | None:
        value = fields.get(attribute.field or "")
        if value is None or attribute.segments is None:
            return value
        return _head(value, attribute.segments)

    def cost(self, fields: Fields) -> Cost:
        """Return the cost.

        :raises Unusable: a field is not a whole number.
        """
        if self.fixed_cost is not None:
            return self.fixed_cost
        return _simplest({unit: _amount(cost, fields) for unit, cost in self.map.cost.items()})


def _amount(cost: CostMap, fields: Fields) -> int:
    if cost.field is None:
        return cost.const or 0
    text = fields.get(cost.field, "0")
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise Unusable(f"{cost.field} is not a whole number")
    return min(-(-int(text) // cost.per), _MAX_COST)


def _simplest(costs: dict[str, int]) -> Cost:
    """Return a cost of requests alone as a number."""
    return costs[REQUESTS] if costs.keys() == {REQUESTS} else costs


def _head(path: str, segments: int) -> str:
    """Return the first segments of a path, without its query."""
    parts = path.partition("?")[0].split("/", segments + 1)
    return "/".join(parts[: segments + 1]) or "/"
