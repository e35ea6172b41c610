"""From the fields of a line to what an engine is asked."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar

from ratectl.policy.language.scopes import scope_problem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ratectl.simulate.model import Attribute, ScopeMap, TrafficMap

__all__ = ["UNMAPPED", "Call", "Fields", "Mapper", "Unusable", "remember"]

Call: TypeAlias = "tuple[int, str, dict[str, str], int]"
"""When (nanoseconds since 1970), scope, attributes and cost of one request."""

Fields: TypeAlias = "Mapping[str, str]"
"""What one line says. What it does not say is absent, never empty."""

_T = TypeVar("_T")

_REMEMBERED: Final = 50_000
_MAX_COST: Final = 10**12


UNMAPPED: Final = "no scope for it"
"""Why a line is not replayed that the map does not speak of; no mistake of the log's."""


class Unusable(Exception):
    """A line that cannot be replayed; the message says why, in a few words."""


def remember(known: dict[str, _T], key: str, value: _T) -> None:
    """Keep what was worked out, within a bound."""
    if len(known) >= _REMEMBERED:
        known.clear()
    known[key] = value


class Mapper:
    """A map made ready to be applied to many lines."""

    def __init__(self, made: TrafficMap) -> None:
        self.map = made
        self._rules = [
            (re.compile(".*".join(map(re.escape, rule.match.split("*"))), re.DOTALL), rule.scope)
            for rule in made.scope.rules or ()
        ]
        self._scopes: dict[str, str | None] = {}

    def scope(self, fields: Fields) -> str | None:
        """The scope; None where no rule matches, or the field is not there."""
        said: ScopeMap = self.map.scope
        if said.const is not None:
            return said.const
        value = fields.get(said.field or "")
        if value is None:
            return None
        try:
            found = self._scopes[value]
        except KeyError:
            found = self._match(value)
            remember(self._scopes, value, found)
        return found

    def _match(self, value: str) -> str | None:
        if self.map.scope.rules is None:
            return None if scope_problem(value) else value
        return next((scope for rule, scope in self._rules if rule.fullmatch(value)), None)

    def attributes(self, fields: Fields) -> dict[str, str]:
        """The attributes that the line has values for."""
        found = {}
        for name, said in self.map.attributes.items():
            value = said.const or self._value(said, fields)
            if value is not None:
                found[name] = value
        return found

    def _value(self, said: Attribute, fields: Fields) -> str | None:
        value = fields.get(said.field or "")
        if value is None or said.segments is None:
            return value
        return _head(value, said.segments)

    def cost(self, fields: Fields) -> int:
        """The cost.

        :raises Unusable: the field is no whole number.
        """
        said = self.map.cost
        if said.field is None:
            return said.const or 0
        text = fields.get(said.field, "0")
        if not (text.isascii() and text.isdigit() and len(text) <= 18):
            raise Unusable(f"{said.field} is not a whole number")
        return min(-(-int(text) // said.per), _MAX_COST)


def _head(path: str, segments: int) -> str:
    """The first segments of a path, without its query."""
    parts = path.partition("?")[0].split("/", segments + 1)
    return "/".join(parts[: segments + 1]) or "/"
