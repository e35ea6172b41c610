"""Putting a stream into time order with bounded memory.

Servers log a request when it is answered, and several processes write to one file, so access logs
are nearly in order but not quite: replaying one as written would let time run backwards.
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
    """Requests in time order; those of one instant keep their order of arrival.

    A request is held back until the stream is ``window_ns`` past it. One that comes later than
    that can no longer take its place: its time is moved up to the last one given out, and it is
    counted in ``late``. No more than ``max_held`` requests are held: beyond, the window shrinks.
    """

    def __init__(
        self, requests: Iterable[Request], window_ns: int, *, max_held: int = _MAX_HELD
    ) -> None:
        if window_ns < 0 or max_held < 1:
            raise ValueError("a window is not negative, and holds at least one request")
        self._requests = requests
        self._window_ns = window_ns
        self._max_held = max_held
        self.late = 0
        """Requests whose time was moved, so far."""
        self.most_late_ns = 0
        """By how much, at most."""

    def __iter__(self) -> Iterator[Request]:
        held: list[tuple[int, int, Request]] = []
        newest = given = None
        for number, request in enumerate(self._requests):
            at = request.at_ns
            if given is not None and at < given:
                self.late += 1
                self.most_late_ns = max(self.most_late_ns, given - at)
                at = given
                request = request._replace(at_ns=at)  # noqa: PLW2901  the same one, moved
            newest = at if newest is None else max(newest, at)
            heappush(held, (at, number, request))
            while held and (held[0][0] <= newest - self._window_ns or len(held) > self._max_held):
                given, _, ready = heappop(held)
                yield ready
        while held:
            yield heappop(held)[2]


def ordered(requests: Iterable[Request], window_ns: int) -> Ordered:
    """``requests`` in time order, looking ahead no further than ``window_ns``; see ``Ordered``."""
    return Ordered(requests, window_ns)
