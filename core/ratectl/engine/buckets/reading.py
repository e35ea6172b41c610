"""Reading of a group of buckets: its counts, its keys by their use, its busiest keys."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from operator import add
from typing import TYPE_CHECKING, Final, NamedTuple

from ratectl.engine.api import FILL_BOUNDS, LimitCounts
from ratectl.engine.buckets.counters import TOP
from ratectl.engine.buckets.traffic import KeyTraffic, missed

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

    from ratectl.engine.algorithms.protocol import State
    from ratectl.engine.buckets.bucket_set import Group
    from ratectl.engine.buckets.counters import Key, Show

__all__ = ["NO_KEYS", "KeyCounts", "busiest", "counts_of", "filled", "read_limits"]

_TENTHS: Final = tuple(round(10 * bound) for bound in FILL_BOUNDS)
"""Bounds of use, in tenths of the capacity: integers, so that the comparison is exact."""

_EXAMINED: Final = 10_000
"""Most keys of a limit that are examined for their use."""

_PIECE: Final = 64
"""Keys that are counted by their use in one piece."""

_NAMED: Final = 4
"""Busy keys in one piece: to make the text of a key takes some microseconds."""

_SHOWN: Final = 20
"""Most keys that are shown, of the busiest and of the most refused."""


class KeyCounts(NamedTuple):
    """Counts of one limit that are about keys; see ``LimitCounts``."""

    fill: tuple[int, ...] = ()
    busiest: tuple[KeyTraffic, ...] = ()
    traffic: int = 0


NO_KEYS: Final = KeyCounts()


def read_limits(
    groups: Iterable[Group], limits: list[LimitCounts], show: Show, now: Callable[[], int] | None
) -> Iterator[None]:
    """Append the counts of every group, in small pieces under the lock.

    ``now``: the engine's time, if keys are to be counted by their use; None otherwise.
    """
    for group in groups:
        keys = NO_KEYS
        if now is not None:
            counted = (0,) * (len(FILL_BOUNDS) + 1)
            for part in group.filled(now):
                counted = tuple(map(add, counted, part))
                yield
            keys = KeyCounts(counted, *(yield from busiest(group, now, show)))
        limits.append(group.usage(show, keys))
        yield


def counts_of(group: Group, show: Show, keys: KeyCounts) -> LimitCounts:
    """Return the counts of a group so far, and reset ``lowest``. ``show``: texts for keys."""
    counters = group.counters
    lowest, counters.lowest = counters.lowest, None
    refused = counters.refused_keys
    top = Counter[str]()
    for key, count in list(refused.items()):  # decisions may add to it meanwhile
        top[show(key)] += count
    top.pop("", None)
    return LimitCounts(
        scope=group.scope,
        limit=group.name,
        overrides=group.overrides,
        budget=group.budget,
        shadow=group.shadow,
        per=group.per,
        skips=group.skips,
        unit=group.unit,
        allowed=counters.allowed,
        refused=counters.refused,
        never=counters.never,
        shadow_refused=counters.shadow_refused,
        waited=counters.waited,
        absent=counters.absent,
        most=group.algorithm.capacity,
        lowest=lowest,
        keys=len(group.buckets),
        top_refused=tuple(top.most_common(_SHOWN)),
        fill=keys.fill,
        busiest=keys.busiest,
        traffic=keys.traffic,
        refused_error=min(refused.values()) if len(refused) >= TOP else 0,
    )


def filled(group: Group, now: Callable[[], int]) -> Iterator[tuple[int, ...]]:
    """Count keys by their use (see ``LimitCounts.fill``), in small pieces under the lock."""
    keys = list(islice(group.buckets, _EXAMINED))
    for start in range(0, len(keys), _PIECE):
        at = now()
        counts = [0] * (len(FILL_BOUNDS) + 1)
        for key in keys[start : start + _PIECE]:
            bucket = group.tracked(key)
            if bucket is not None:
                counts[_fill_of(group, bucket[0], at)] += 1
        yield tuple(counts)


def _fill_of(group: Group, state: State, now: int) -> int:
    """Return the number of bounds that the use of a bucket has reached."""
    used, capacity = 10 * group.algorithm.used(state, now), group.algorithm.capacity
    return sum(used >= bound * capacity for bound in _TENTHS)


def busiest(
    group: Group, now: Callable[[], int], show: Show
) -> Generator[None, None, tuple[tuple[KeyTraffic, ...], int]]:
    """Return the busiest keys, with their use of the bucket; and the requests of all keys.

    Of keys with one text, such as addresses of one network, the requests are added, and the use is
    that of the fullest bucket. The work is done in small pieces under the lock.
    """
    found: dict[str, KeyTraffic] = {}
    stored: dict[str, list[Key]] = {}
    unseen, traffic = missed(group.counters.sampled), group.counters.skipped
    for number, (key, count, error, of_bucket) in enumerate(group.counters.busiest, 1):
        traffic += count
        more = error + unseen if error else 0
        busy = KeyTraffic(show(key), count - error, more)
        known = found.get(busy.key)
        found[busy.key] = busy if known is None else known.joined(busy)
        stored.setdefault(busy.key, []).append(of_bucket)
        if not number % _NAMED:
            yield
    found.pop("", None)
    most = sorted(found.values(), key=lambda busy: -busy.requests)[:_SHOWN]
    uses: dict[str, float] = {}
    buckets = [(busy.key, key) for busy in most for key in stored[busy.key]]
    for number, (text, key) in enumerate(buckets, 1):
        use = _use(group, key, now())
        if use is not None:
            uses[text] = max(use, uses.get(text, 0.0))
        if not number % _NAMED:
            yield
    return tuple([busy._replace(use=uses.get(busy.key)) for busy in most]), traffic


def _use(group: Group, key: Key, now: int) -> float | None:
    bucket = group.tracked(key)
    if bucket is None:
        return None
    capacity = group.algorithm.capacity
    return min(1.0, group.algorithm.used(bucket[0], now) / capacity) if capacity else 1.0
