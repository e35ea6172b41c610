"""Messages of Envoy's Rate Limit Service."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Code", "Descriptor", "Limit", "Override", "Request", "Response", "Status", "Unit"]


class Unit(IntEnum):
    """Unit of time."""

    UNKNOWN = 0
    SECOND = 1
    MINUTE = 2
    HOUR = 3
    DAY = 4
    MONTH = 5
    YEAR = 6
    WEEK = 7


class Code(IntEnum):
    """Answer to a request, or to one of its descriptors."""

    UNKNOWN = 0
    OK = 1
    OVER_LIMIT = 2


class Override(NamedTuple):
    """A limit that the request brings along."""

    requests: int
    unit: int
    """See ``Unit``; a newer Envoy may know more units."""
    multiplier: int | None = None
    """Number of units; None: one."""


class Descriptor(NamedTuple):
    """Keys and values that one of Envoy's rate limits has made of a request."""

    entries: tuple[tuple[str, str], ...]
    """Keys and values, in Envoy's order. Keys may repeat."""
    hits: int | None = None
    """Cost; None: that of the request."""
    is_negative: bool = False
    """True if the cost is given back."""
    override: Override | None = None


class Request(NamedTuple):
    """A request for an answer to all descriptors."""

    domain: str
    descriptors: tuple[Descriptor, ...]
    hits: int = 0
    """Cost of descriptors without one; 0: one."""


class Limit(NamedTuple):
    """A limit, as it is told to Envoy."""

    requests: int
    unit: int
    name: str = ""
    multiplier: int | None = None
    """Number of units; None: one."""


class Status(NamedTuple):
    """Answer to one descriptor."""

    code: Code
    limit: Limit | None = None
    remaining: int = 0
    until_reset: int | None = None
    """Nanoseconds; None: not known."""


class Response(NamedTuple):
    """Answer to a request."""

    code: Code
    statuses: tuple[Status, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    """For the answer to Envoy's client."""
    metadata: Mapping[str, str | int] | None = None
    """For Envoy's log: dynamic metadata of the filter."""
