"""Traffic of the demo: its source, its speed, and its division among agents."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import count, islice, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ratectl.errors import UsageError
from ratectl.traffic import AccessLog, Shape, generate, ordered
from ratectl.traffic.request import NS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ratectl.traffic import Request

__all__ = ["Feed", "FeedFigures", "plan_feed", "scope_of"]

_PER_SECOND: Final = 150
"""Requests a second that each agent decides, unless a speed is given."""

_SHAPE: Final = Shape(rate=4, rhythm=0)  # a day takes minutes here: no daily rhythm
_MOST: Final = 200_000
"""Most lines of a log that are replayed before it starts again."""

_FEWEST: Final = 10
_WINDOW_NS: Final = 60 * NS
_PART = re.compile(r"/[A-Za-z0-9_-][A-Za-z0-9._-]*")


@dataclass(frozen=True, slots=True)
class Feed:
    """Parameters of the traffic that an agent process replays.

    One stretch of traffic is repeated, so that decisions before and after a change can be compared.
    """

    seed: int
    log: str | None
    speed: float
    """Seconds of recorded time in a second."""
    stretch: float
    """Seconds of the replay after which the traffic starts again."""
    share: int = 0
    shares: int = 1

    def requests(self) -> Iterator[tuple[float, Request]]:
        """Yield this agent's requests without end, each with the second at which it is due."""
        recorded = _read(self.log)[0] if self.log else generate(self.seed, _SHAPE, start_ns=0)
        first = next(iter(recorded)).at_ns if self.log else 0
        timed = (((request.at_ns - first) / NS / self.speed, request) for request in recorded)
        stretch = list(takewhile(lambda pair: pair[0] < self.stretch, timed))
        mine = stretch[self.share :: self.shares]
        if not mine:
            return
        for again in count():
            for due, request in mine:
                yield again * self.stretch + due, request


@dataclass(frozen=True, slots=True)
class FeedFigures:
    """Figures of the traffic that the demo prints."""

    source: str
    requests: int | None
    """Requests in the log; None for generated traffic."""
    malformed: int
    late: int


def plan_feed(
    seed: int, log: str | None, speed: float | None, *, agents: int, stretch: float
) -> tuple[Feed, FeedFigures]:
    """Read the log, if any, and choose the speed, unless one is given.

    :raises UsageError: the log cannot be read, or contains too few requests.
    """
    rate = _PER_SECOND * agents
    if log is None:
        feed = Feed(seed, None, speed or rate / _SHAPE.rate, stretch)
        return feed, FeedFigures(f"generated traffic, seed {seed}", None, 0, 0)
    try:
        requests, figures = _read(log)
    except OSError as error:
        raise UsageError(f"cannot read the log {log}: {error.strerror or error}") from None
    if len(requests) < _FEWEST:
        raise UsageError(
            f"{log} holds {len(requests)} readable requests: an access log in the common or "
            f"combined format with at least {_FEWEST} is needed"
        )
    span = max(1.0, (requests[-1].at_ns - requests[0].at_ns) / NS)
    speed = speed or max(1.0, rate * span / len(requests))
    # A shorter log starts again sooner.
    stretch = min(stretch, span / speed + 1 / rate)
    return Feed(seed, str(Path(log).absolute()), speed, stretch), figures


def _read(log: str) -> tuple[list[Request], FeedFigures]:
    lines = AccessLog(log)
    sorter = ordered(lines, _WINDOW_NS)
    requests = list(islice(sorter, _MOST))
    return requests, FeedFigures(log, len(requests), lines.report.malformed, sorter.late)


def scope_of(request: Request) -> str:
    """Return the scope of a request: a part of the site below ``/web``, or the site itself."""
    route = request.attributes.get("route", "")
    return f"/web{route}" if _PART.fullmatch(route) else "/web"
