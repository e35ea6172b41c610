"""Ways to the peers that this member connects to."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ratectl.cluster.transport.connection import Connection
    from ratectl.runtime.address import Address

__all__ = ["Route", "Routes"]

_FIRST_DELAY: Final = 0.05
_LONGEST_DELAY: Final = 2.0
_REMEMBERED: Final = 60.0
"""Seconds after which an address without a connection is forgotten."""


class Route:
    """Connection to one address, or when to try again."""

    __slots__ = ("_delay", "connection", "problem", "retry_at")

    def __init__(self) -> None:
        self.connection: Connection | None = None
        self.retry_at = 0.0
        self.problem: str | None = None
        """Why the newest connection ended, or did not begin."""
        self._delay = _FIRST_DELAY

    def works(self) -> None:
        """Take note that the peer has said hello."""
        self._delay, self.problem = _FIRST_DELAY, None

    def failed(self, problem: str, now: float) -> None:
        """Wait before the next attempt, longer each time: members must not come back at once."""
        self.connection, self.problem = None, problem
        self.retry_at = now + self._delay * random.uniform(0.5, 1.0)  # noqa: S311 - spreads them
        self._delay = min(2 * self._delay, _LONGEST_DELAY)


class Routes:
    """Routes by address.

    :param most: most addresses.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._routes: dict[Address, Route] = {}

    def find(self, address: Address) -> Route | None:
        """Return the route to an address; None if nobody asked for it."""
        return self._routes.get(address)

    def make(self, address: Address) -> Route | None:
        """Return the route to an address; None if there are too many addresses."""
        route = self._routes.get(address)
        if route is None and len(self._routes) < self._most:
            route = self._routes[address] = Route()
        return route

    def forget_unused(self, now: float) -> None:
        """Drop addresses that were not used for a while."""
        for address, route in list(self._routes.items()):
            if route.connection is None and now - route.retry_at > _REMEMBERED:
                del self._routes[address]
