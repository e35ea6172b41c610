"""Shared parts of the adapters to web frameworks: arguments, and answers to refused requests.

from ratectl.contrib.web import by_route, client_ip, header, path_parameter, query
"""

from ratectl.contrib.web.sources import (
    by_route,
    client_ip,
    header,
    path_parameter,
    query,
)

__all__ = ["by_route", "client_ip", "header", "path_parameter", "query"]
