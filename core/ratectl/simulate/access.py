"""Fast reader of access logs, with a cache of the parts that ``ratectl.traffic`` has parsed.

An ordinary line is only split. Its minute and its request line are parsed by ``parse_line`` the
first time that they occur, and then looked up; ``parse_line`` parses every unusual line.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from ratectl.simulate.calls import UNMAPPED, Mapper, Unusable, remember
from ratectl.simulate.lines import MAX_LINE
from ratectl.simulate.times import LATEST_NS, instant
from ratectl.traffic import parse_line
from ratectl.traffic.request import NS

if TYPE_CHECKING:
    from collections.abc import Callable

    from ratectl.simulate.calls import Call
    from ratectl.simulate.model import TrafficMap
    from ratectl.traffic import Request

__all__ = ["AccessReader"]

# The pattern of parse_line for a line without a backslash; _GROUPS has the numbers of its groups.
_LINE = re.compile(
    r"(\S+) \S+ [^\[]*\[([^\]]{17}):([0-5]\d) ([^\]]{5})\] "
    r'"([^"]*)" (\d{3}) (\d{1,18}|-)'
    r'(?: "[^"]*" "([^"]*)"(?: .*)?|(?: [^"].*)?)\r?',
    re.ASCII | re.DOTALL,
)
_GROUPS: Final = {"client": 0, "status": 5, "bytes": 6, "agent": 7}
_REQUEST_FIELDS: Final = frozenset({"method", "path"})
"""Fields of the request line."""

_SECONDS: Final = {f"{second:02d}": second * NS for second in range(60)}


class AccessReader:
    """Reader of the *common* and *combined* formats."""

    def __init__(self, traffic_map: TrafficMap) -> None:
        self._mapper = Mapper(traffic_map)
        self._minutes: dict[str, int] = {}
        self._known: dict[str, tuple[str, dict[str, str]]] = {}
        direct = {
            name: attribute.field
            for name, attribute in traffic_map.attributes.items()
            if attribute.field in _GROUPS and attribute.segments is None
        }
        self._varying = tuple((name, _GROUPS[field]) for name, field in direct.items())
        fixed = traffic_map.model_copy(
            update={
                "attributes": {
                    name: attribute
                    for name, attribute in traffic_map.attributes.items()
                    if name not in direct
                }
            }
        )
        self._fixed = Mapper(fixed)
        used = [attribute.field for attribute in fixed.attributes.values()] + [
            traffic_map.scope.field
        ]
        self._quick = all(field is None or field in _REQUEST_FIELDS for field in used) and (
            self._mapper.fixed_cost is not None
        )

    def read(
        self,
        lines: list[str],
        first: int,
        calls: list[Call],
        reject: Callable[[int, str, str], None],
    ) -> int:
        """Append the calls of ``lines``; return the number of blank lines."""
        blank = 0
        take = _LINE.fullmatch
        minutes, known, varying = self._minutes, self._known, self._varying
        cost = self._mapper.fixed_cost or 0
        quick, append = self._quick, calls.append
        for number, line in enumerate(lines, first):
            match = take(line) if quick and "\\" not in line and len(line) <= MAX_LINE else None
            if match is not None:
                groups = match.groups()
                start = minutes.get(groups[1] + groups[3])
                same = known.get(groups[4])
                if start is not None and same is not None:
                    scope, fixed = same
                    attributes = fixed.copy()
                    for name, at in varying:
                        value = groups[at]
                        if value and value != "-":
                            attributes[name] = value
                    append((start + _SECONDS[groups[2]], scope, attributes, cost))
                    continue
            if not line or line.isspace():
                blank += 1
                continue
            try:
                append(self._slowly(line, match))
            except Unusable as error:
                reject(number, str(error), line)
        return blank

    def _slowly(self, line: str, match: re.Match[str] | None) -> Call:
        """Return the call of a line with parts that are not in the cache.

        :raises Unusable: the line cannot be replayed.
        """
        request = parse_line(line)
        if request is None:
            raise Unusable("not a line of an access log")
        at = instant(request.at_ns)
        fields = _fields(request)
        scope = self._mapper.scope(fields)
        if match is not None and at < LATEST_NS - 60 * NS:
            minute = match[2] + match[4]
            remember(self._minutes, minute, at - _SECONDS[match[3]])
            if scope is not None:
                remember(self._known, match[5], (scope, self._fixed.attributes(fields)))
        if scope is None:
            raise Unusable(UNMAPPED)
        return at, scope, self._mapper.attributes(fields), self._mapper.cost(fields)


def _fields(request: Request) -> dict[str, str]:
    fields = {name: value for name, value in request.attributes.items() if value not in ("", "-")}
    fields["bytes"] = str(request.size)
    return fields
