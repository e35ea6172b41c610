"""Web traffic as a stream of requests: generated, or read from access logs.

Both give the same records, in time order, to replay against policies:

    >>> from itertools import islice
    >>> from ratectl.traffic import generate
    >>> [request.attributes["route"] for request in islice(generate(seed=7), 2)]
    ['/feed.xml', '/talks']

The only side effect is reading the log. This package does not depend on policies.
"""

from __future__ import annotations

from ratectl.traffic.accesslog import AccessLog, parse_line
from ratectl.traffic.generator import Shape, generate
from ratectl.traffic.ordering import Ordered, ordered
from ratectl.traffic.request import Request, format_line, route_of, write_log

__all__ = [
    "AccessLog",
    "Ordered",
    "Request",
    "Shape",
    "format_line",
    "generate",
    "ordered",
    "parse_line",
    "route_of",
    "write_log",
]
