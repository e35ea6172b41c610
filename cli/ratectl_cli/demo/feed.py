"""The traffic of the demo: where it comes from, how fast, and which agent gets which request."""

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
"""Requests a second that each agent decides, when no speed is asked for."""

_SHAPE: Final = Shape(rate=4, rhythm=0)  # a day takes minutes here: a rhythm would only confuse
_MOST: Final = 200_000
"""Lines of a log that are replayed; then it begins again."""

_FEWEST: Final = 10
_WINDOW_NS: Final = 60 * NS
_PART = re.compile(r"/[A-Za-z0-9_-][A-Za-z0-9._-]*")


@dataclass(frozen=True, slots=True)
class Feed:
    """Everything an agent process must know to replay its share of the traffic.

    One stretch of traffic is repeated, so that what agents do before a change and after it can be
    compared.
    """

    seed: int
    log: str | None
    speed: float
    """Seconds of recorded time in a second."""
    stretch: float
    """Seconds, as replayed, after which the traffic begins again."""
    share: int = 0
    shares: int = 1

    def requests(self) -> Iterator[tuple[float, Request]]:
        """This agent's requests without end, each with the second at which it is due."""
        recorded = _read(self.log)[0] if self.log else generate(self.seed, _SHAPE, start_ns=0)
        first = next(iter(recorded)).at_ns if self.log else 0
        timed = (((each.at_ns - first) / NS / self.speed, each) for each in recorded)
        stretch = list(takewhile(lambda each: each[0] < self.stretch, timed))
        mine = stretch[self.share :: self.shares]
        if not mine:
            return
        for again in count():
            for due, request in mine:
                yield again * self.stretch + due, request


@dataclass(frozen=True, slots=True)
class FeedFigures:
    """What the demo says of its traffic."""

    source: str
    requests: int | None
    """In the log; None where traffic is generated."""
    malformed: int
    late: int


def plan_feed(
    seed: int, log: str | None, speed: float | None, *, agents: int, stretch: float
) -> tuple[Feed, FeedFigures]:
    """Look at the traffic and choose its speed, unless one is given.

    :raises UsageError: the log cannot be read, or holds nothing to replay.
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
    # A log that ends sooner begins again sooner.
    stretch = min(stretch, span / speed + 1 / rate)
    return Feed(seed, str(Path(log).absolute()), speed, stretch), figures


def _read(log: str) -> tuple[list[Request], FeedFigures]:
    lines = AccessLog(log)
    sorter = ordered(lines, _WINDOW_NS)
    requests = list(islice(sorter, _MOST))
    return requests, FeedFigures(log, len(requests), lines.report.malformed, sorter.late)


def scope_of(request: Request) -> str:
    """Each part of the site is a scope below ``/web``; what is no part is the site itself."""
    route = request.attributes.get("route", "")
    return f"/web{route}" if _PART.fullmatch(route) else "/web"
