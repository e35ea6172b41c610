"""Sorter of requests by time, with bounded memory.

Servers log a request when it is answered, and several processes write to one file. So access logs
are only nearly in time order, and a replay in the order of the lines would let time run backwards.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ratectl.traffic.request import Request

__all__ = ["Ordered", "ordered"]

_MAX_HELD: Final = 1_000_000


class Ordered:
    """Requests in time order; requests of one instant keep their order of arrival.

    A request is held until the stream is ``window_ns`` past it. A request that comes later than
    that gets the time of the last request that was yielded, and is counted in ``late``. At most
    ``max_held`` requests are held: with more, the window shrinks.
    """

    def __init__(
        self, requests: Iterable[Request], window_ns: int, *, max_held: int = _MAX_HELD
    ) -> None:
        if window_ns < 0 or max_held < 1:
            raise ValueError("window_ns must not be negative, and max_held must be at least 1")
        self._requests = requests
        self._window_ns = window_ns
        self._max_held = max_held
        self.late = 0
        """Requests whose time was changed, up to now."""
        self.most_late_ns = 0
        """Largest change of a time, in nanoseconds."""

    def __iter__(self) -> Iterator[Request]:
        held: list[tuple[int, int, Request]] = []
        newest = yielded = None
        for number, request in enumerate(self._requests):
            at = request.at_ns
            if yielded is not None and at < yielded:
                self.late += 1
                self.most_late_ns = max(self.most_late_ns, yielded - at)
                at = yielded
                request = request._replace(at_ns=at)  # noqa: PLW2901  the same request
            newest = at if newest is None else max(newest, at)
            heappush(held, (at, number, request))
            while held and (held[0][0] <= newest - self._window_ns or len(held) > self._max_held):
                yielded, _, ready = heappop(held)
                yield ready
        while held:
            yield heappop(held)[2]


def ordered(requests: Iterable[Request], window_ns: int) -> Ordered:
    """Return ``requests`` in time order, with a look-ahead of ``window_ns``; see ``Ordered``."""
    return Ordered(requests, window_ns)
