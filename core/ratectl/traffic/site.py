"""Invented site for generated traffic: pages, their popularity, and the agents of visitors.

All weights are integers or square roots: IEEE arithmetic gives the same bits for these on every
machine, which ``pow`` and ``log`` of a library do not.
"""

from __future__ import annotations

from bisect import bisect
from itertools import accumulate
from math import fsum, sqrt
from typing import TYPE_CHECKING, Final, Generic, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["AGENTS", "CRAWLER_PATHS", "FEEDS", "PAGES", "SHARED", "Page", "Weighted", "zipf"]

T = TypeVar("T")


class Weighted(Generic[T]):
    """Items to draw with probabilities in proportion to their weights."""

    def __init__(self, items: Sequence[T], weights: Sequence[float]) -> None:
        self._items = items
        self._upto = list(accumulate(weights))

    def draw(self, chance: float) -> T:
        """Return the item at ``chance`` (0 ≤ chance < 1) of the whole weight."""
        return self._items[bisect(self._upto, chance * self._upto[-1], hi=len(self._items) - 1)]


def zipf(count: int, quarters: int = 4) -> list[float]:
    """Return weights that fall as rank^-(quarters/4)."""
    return [1 / sqrt(sqrt(rank**quarters)) for rank in range(1, count + 1)]


class Page(NamedTuple):
    """Page with the files that a browser fetches with it in addition to ``SHARED``."""

    path: str
    assets: tuple[str, ...] = ()
    shared: bool = True
    """True if the page uses the common files of the site, ``SHARED``."""


FEEDS: Final = ("/feed.xml", "/articles/feed.xml", "/projects/feed.xml")

SHARED: Final = (
    "/favicon.ico",
    "/style.css",
    "/reset.css",
    "/images/portrait.png",
    "/images/banner.png",
)
"""Common files of the pages; browsers keep them after the first visit."""

_TOPICS: Final = (
    "buckets", "clocks", "queues", "caches", "leases", "shards", "sockets", "signals", "threads",
    "tries", "graphs", "hashes", "locks", "logs", "ledgers", "parsers", "probes", "proxies",
    "rings", "schedulers", "seeds", "streams", "tables", "timers", "tokens", "traces", "trees",
    "watches",
)  # fmt: skip


def _pages() -> Weighted[Page]:
    talks = [
        Page(
            f"/talks/{topic}/",
            (
                f"/talks/{topic}/slides.js",
                *(f"/talks/{topic}/slide-{number:02d}.png" for number in range(1, 32)),
            ),
            shared=False,
        )
        for topic in _TOPICS[::4]
    ]
    projects = [Page(f"/projects/{topic}/") for topic in _TOPICS[::2]]
    files = [Page(f"/files/{topic}.tar.gz", shared=False) for topic in _TOPICS]
    search = [Page("/search", shared=False)]
    articles = [
        Page(f"/articles/{one}-and-{other}") for one in _TOPICS for other in _TOPICS if one < other
    ]
    kinds: list[tuple[Sequence[Page], int]] = [
        ([Page("/")], 150), (articles, 560), (projects, 120), (files, 110), (talks, 8),
        (search, 52),
    ]  # fmt: skip
    pages: list[Page] = []
    weights: list[float] = []
    for group, share in kinds:
        falling = zipf(len(group), 4)
        whole = fsum(falling)
        pages += group
        weights += [share * weight / whole for weight in falling]
    return Weighted(pages, weights)


def _agents() -> Weighted[str]:
    systems = (
        "Windows NT 10.0; Win64; x64", "Macintosh; Intel Mac OS X 10_15", "X11; Linux x86_64",
        "iPhone; CPU iPhone OS 17_0 like Mac OS X", "Linux; Android 14",
    )  # fmt: skip
    browsers = [f"Hare/{version}.0" for version in range(120, 132)]
    browsers += [f"Tortoise/{version}.1" for version in range(14, 20)]
    names = [f"Mozilla/5.0 ({system}) {browser}" for browser in browsers for system in systems]
    return Weighted(names, zipf(len(names)))


PAGES: Final = _pages()
AGENTS: Final = _agents()
CRAWLER_PATHS: Final = tuple(f"/articles/tags/{topic}" for topic in _TOPICS)
"""Pages that crawlers open often and readers seldom."""
