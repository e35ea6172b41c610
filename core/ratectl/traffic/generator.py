"""Generator of web traffic, seeded, with the statistics of a real site.

The model is one public log: 10,000 lines of a personal technical site, 17 to 20 May 2015, 1,753
client addresses. Figures of that log, and of as many generated requests:

==================================  =========  =========
figure                              the log    generated
==================================  =========  =========
clients                             1753       1621
top 10 clients' share               0.2039     0.191
busiest client's share              0.0482     0.0573
zipf slope of clients 1-300         -0.8163    -0.7557
clients seen once                   0.3879     0.3048
within 60 s of the client's last    0.6948     0.6718
mean visit                          3.276      3.791
visits of one request               0.5265     0.4663
share in visits of 30 and more      0.1596     0.2148
top 10 paths' share                 0.4562     0.5227
zipf slope of paths 1-100           -1.046     -1.128
busiest agent's share               0.1044     0.1207
status 200                          0.9126     0.9102
status 304                          0.0445     0.0452
status 404                          0.0213     0.0224
steadiness of the 10 busiest        0.5774     0.6024
==================================  =========  =========

Not measured: the log has only minute :05 of every hour, 120 lines each time (less variation than
chance would give), with seconds in no order. It shows no daily rhythm and no gaps below a minute.
The ``rhythm`` here, and that a browser fetches the images of a page within two seconds, are
assumptions.

There are three kinds of visitors: *readers* come in visits (a page, its images, perhaps another
page), most of them only once; *crawlers* fetch page after page all day, each at its own pace; *feed
readers* fetch one page again and again, most of them once an hour.

The same seed gives the same requests on every machine and Python version. The generator uses only
``Random.random()``, whose sequence Python guarantees, and arithmetic that IEEE 754 rounds exactly
(such as ``fsum``: ``sum`` of floats changed with Python 3.12).
"""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from itertools import count
from math import fsum
from random import Random
from typing import TYPE_CHECKING, Final

from ratectl.traffic.request import NS, Request, route_of
from ratectl.traffic.site import (
    AGENTS,
    CRAWLER_PATHS,
    FEEDS,
    PAGES,
    SHARED,
    Page,
    Weighted,
    zipf,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Shape", "generate"]

_DAY: Final = 86_400.0
_START_NS: Final = 1_767_571_200 * NS  # Monday, 5 January 2026, 00:00 UTC
_PER_VISIT: Final = 4.05
"""Average number of requests in a visit of a reader; the test of the overall rate checks it."""

_CRAWL_GAP: Final = 8.0
_CRAWL_ON: Final = 0.7
_CRAWL_REST: Final = 0.3
"""Seconds between pages of a crawler, and the chances of another page and of a rest."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Parameters of the traffic; the defaults are those of the log."""

    rate: float = 1 / 30
    """Average requests per second over a day."""
    readers: float = 0.76
    """Share of requests from readers."""
    feeds: float = 0.09
    """Share of requests from feed readers; the rest is from crawlers."""
    audience: int = 25_000
    """Number of readers; few of them come often."""
    robots: int = 200
    """Number of crawlers; there are a third as many feed readers."""
    rhythm: float = 0.3
    """Daily variation of the visits of readers: 0 is none, 1 means no visits at midnight."""

    def __post_init__(self) -> None:
        if not 0 < self.rate <= 1e6:
            raise ValueError("rate must be above 0 and at most a million requests a second")
        if self.readers < 0 or self.feeds < 0 or self.readers + self.feeds > 1:
            raise ValueError("readers and feeds must not be negative, and at most 1 together")
        if self.audience < 1 or self.robots < 1 or not 0 <= self.rhythm <= 1:
            raise ValueError("audience and robots must be at least 1, and rhythm between 0 and 1")


@dataclass(frozen=True, slots=True)
class _Robot:
    """Crawler or feed reader; ``pace``: seconds between its requests."""

    client: str
    agent: str
    pace: float
    crawls: bool
    feed: str


def generate(
    seed: int, shape: Shape | None = None, *, start_ns: int = _START_NS
) -> Iterator[Request]:
    """Yield requests without end, in time order from ``start_ns`` on."""
    return _Traffic(seed, shape or Shape(), start_ns).requests()


class _Traffic:
    """Queue of future requests and visits, by time."""

    def __init__(self, seed: int, shape: Shape, start_ns: int) -> None:
        self._random = Random(seed).random  # noqa: S311  repeatable on purpose
        self._shape = shape
        self._start_ns = start_ns
        self._readers = Weighted(range(shape.audience), zipf(shape.audience, 3))
        self._visits = shape.rate * shape.readers / _PER_VISIT
        self._number = count()
        self._due: list[tuple[float, int, Request | _Robot | None]] = []
        self._start()

    def requests(self) -> Iterator[Request]:
        """Yield requests in time order; each event plans the events after it."""
        while True:
            at, _, event = heappop(self._due)
            if event is None:
                self._visit(at)
            elif isinstance(event, _Robot):
                yield self._fetch(event, at)
                self._plan(at + self._pause(event), event)
            else:
                yield event

    def _plan(self, at: float, event: Request | _Robot | None) -> None:
        heappush(self._due, (at, next(self._number), event))

    def _start(self) -> None:
        shape = self._shape
        crawls = max(0.0, 1 - shape.readers - shape.feeds)
        for kind, share, robots in (
            ("crawler", crawls, shape.robots),
            ("feed", shape.feeds, max(1, shape.robots // 3)),
        ):
            falling = zipf(robots, 6)
            whole = fsum(falling)
            for rank, weight in enumerate(falling):
                rate = shape.rate * share * weight / whole
                if rate:
                    robot = _robot(kind, rank, 1 / rate)
                    self._due.append((self._random() / rate, next(self._number), robot))
        if self._visits:
            self._due.append((self._exponential() / self._visits, next(self._number), None))
        heapify(self._due)

    # Readers ------------------------------------------------------------------------------------

    def _visit(self, at: float) -> None:
        """Plan the next visit; begin one unless the daily rhythm skips it."""
        peak = 1 + self._shape.rhythm
        self._plan(at + self._exponential() / (self._visits * peak), None)
        if self._random() * peak >= 1 + self._shape.rhythm * _swing(at):
            return
        reader = self._readers.draw(self._random())
        client, agent = _address(reader), _agent_of(reader)
        fresh = self._random() < 0.42
        while True:
            at = self._open(at, PAGES.draw(self._random()), client, agent, fresh=fresh)
            if self._random() < 0.62:
                return
            at += 4 + 20 * self._exponential()
            fresh = False

    def _open(self, at: float, page: Page, client: str, agent: str, *, fresh: bool) -> float:
        """Request a page and the files that go with it; return the time of the last."""
        self._ask(at, page.path, client, agent)
        wanted: tuple[str, ...] = page.assets
        if page.shared and fresh:
            wanted = SHARED + wanted
        elif page.shared and self._random() < 0.2:
            wanted = (*SHARED[:1], *wanted)
        for asset in wanted:
            at += 0.12 * self._random()
            self._ask(at, asset, client, agent)
        return at

    def _ask(self, at: float, path: str, client: str, agent: str) -> None:
        self._plan(at, self._request(at, path, client, agent))

    # Robots -------------------------------------------------------------------------------------

    def _pause(self, robot: _Robot) -> float:
        """Return the seconds to the next request of a robot, with a tenth of jitter.

        Feed readers are steady. Crawlers fetch a few pages in a row and then rest, so that their
        pace is right over a day.
        """
        gap = robot.pace
        if robot.crawls:
            close = min(gap, _CRAWL_GAP)
            gap = close if self._random() < _CRAWL_ON else (gap - _CRAWL_ON * close) / _CRAWL_REST
        return gap * (0.9 + 0.2 * self._random())

    def _fetch(self, robot: _Robot, at: float) -> Request:
        path = robot.feed
        if robot.crawls:
            kind = self._random()
            if kind < 0.08:
                path = "/robots.txt"
            elif kind < 0.45:
                path = CRAWLER_PATHS[int(self._random() * len(CRAWLER_PATHS))]
            else:
                path = PAGES.draw(self._random()).path
        return self._request(at, path, robot.client, robot.agent)

    # Both ---------------------------------------------------------------------------------------

    def _request(self, at: float, path: str, client: str, agent: str) -> Request:
        status = _STATUS.draw(self._random())
        attributes = {
            "client": client,
            "status": status,
            "method": "GET" if self._random() < 0.995 else "HEAD",
            "path": path,
            "route": route_of(path),
        }
        if agent:
            attributes["agent"] = agent
        size = 0 if status in ("301", "304") else _size(self._random())
        return Request(self._start_ns + int(at * NS), attributes, size)

    def _exponential(self) -> float:
        """Return an exponential draw of mean 1, by von Neumann's method without a logarithm."""
        random = self._random
        whole = 0
        while True:
            first = last = random()
            falling = 1
            while (following := random()) < last:
                last = following
                falling += 1
            if falling % 2:
                return whole + first
            whole += 1


_STATUS: Final = Weighted(
    ("200", "304", "404", "301", "206", "500", "403"), (9125, 445, 213, 164, 45, 3, 2)
)

_SIZES: Final = (357, 3_638, 12_292, 37_269, 171_717)
"""Sizes of answers in the log, in bytes: percentiles 5, 25, 50, 75 and 95."""


def _size(chance: float) -> int:
    return int(_SIZES[int(chance * len(_SIZES))] * (0.5 + chance))


def _swing(at: float) -> float:
    """Return the daily rhythm, from -1 at midnight to 1 at noon: two parabolas, like a sine."""
    from_noon = abs(at % _DAY / _DAY * 2 - 1)  # 1 … 0 … 1
    return 1 - 4 * from_noon**2 if from_noon < 0.5 else 4 * (1 - from_noon) ** 2 - 1


def _robot(kind: str, rank: int, pace: float) -> _Robot:
    if kind == "crawler":
        agent = f"Mozilla/5.0 (compatible; Beetle-{rank % 17}/2.1; +https://example.org/beetle)"
        return _Robot(f"198.19.{rank // 250}.{rank % 250 + 1}", agent, pace, True, "")
    agent = f"FeedSnail/{rank % 9}.4 (+https://example.org/snail)"
    return _Robot(
        f"198.19.{100 + rank // 250}.{rank % 250 + 1}", agent, pace, False, FEEDS[rank % 3]
    )


def _address(reader: int) -> str:
    """Return an address from the ranges that are reserved for benchmarks and documentation."""
    if reader % 10 == 9:
        return f"2001:db8:{reader // 0xFFFF:x}:{reader % 0xFFFF:x}::1"
    return f"198.18.{reader // 250 % 256}.{reader % 250 + 1}"


def _agent_of(reader: int) -> str:
    """Return the browser of a reader, always the same one; empty for one reader in 50."""
    scrambled = reader * 2_654_435_761 % 2**32
    return "" if scrambled % 50 == 0 else AGENTS.draw(scrambled / 2**32)
