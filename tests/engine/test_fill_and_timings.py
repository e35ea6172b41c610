"""Keys by their use of a limit, and times of sampled decisions: equal in both engines."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from engine.engines import each_engine
from ratectl.compiler.activation import activate_tree
from ratectl.engine.pure import PureEngine
from ratectl.engine.timings import BOUNDS_NS, NO_TIMINGS, TIMED, Stopwatch, Timings
from support import policies

if TYPE_CHECKING:
    from ratectl.engine.api import Engine

SECOND = 10**9

LIMITS: dict[str, dict[str, Any]] = {
    "bucket": {"rate": "1/s", "burst": 10, "per": "t"},
    "window": {"algorithm": "sliding-window", "rate": "10/min", "per": "t"},
    "quota": {"algorithm": "quota", "rate": "10/day", "per": "t"},
    "slots": {"algorithm": "concurrency", "max": 10, "hold": "5s", "per": "t"},
}


def engine_of(make: Any, tree: Any, clock: list[int], **options: Any) -> Engine:
    engine: Engine = make(lambda: clock[0], **options)
    engine.swap(activate_tree(tree, 1, now_ns=clock[0]))
    return engine


@each_engine
@pytest.mark.parametrize("limit", LIMITS)
def test_keys_are_counted_by_the_share_that_they_use(make: Any, limit: str) -> None:
    clock = [0]
    engine = engine_of(make, policies(**{"/a": {"limits": {"l": LIMITS[limit]}}}), clock)
    held = [engine.check("/a", {"t": str(used)}, used) for used in (1, 4, 5, 7, 8, 9, 10) if used]
    (counts,) = engine.usage(fill=True).limits
    assert counts.fill == (2, 2, 1, 1, 1)
    assert all(held)


@each_engine
def test_use_is_as_of_now(make: Any) -> None:
    clock = [0]
    engine = engine_of(make, policies(**{"/a": {"limits": {"l": LIMITS["bucket"]}}}), clock)
    engine.check("/a", {"t": "x"}, 10)
    clock[0] = 3 * SECOND
    assert engine.usage(fill=True).limits[0].fill == (0, 1, 0, 0, 0)
    clock[0] = 9 * SECOND
    assert engine.usage(fill=True).limits[0].fill == (1, 0, 0, 0, 0)


@each_engine
def test_use_follows_a_publication(make: Any) -> None:
    """A bucket of the old parameters is judged by the new ones."""
    clock = [0]
    engine = engine_of(make, policies(**{"/a": {"limits": {"l": LIMITS["bucket"]}}}), clock)
    engine.check("/a", {"t": "x"}, 5)
    larger = policies(**{"/a": {"limits": {"l": {**LIMITS["bucket"], "burst": 100}}}})
    engine.swap(activate_tree(larger, 2, now_ns=0))
    assert engine.usage(fill=True).limits[0].fill == (0, 0, 0, 1, 0)  # growth adds no tokens


@each_engine
def test_counting_keys_is_opt_in(make: Any) -> None:
    engine = engine_of(make, policies(**{"/a": {"limits": {"l": LIMITS["bucket"]}}}), [0])
    engine.check("/a", {"t": "x"})
    assert engine.usage().limits[0].fill == ()


def test_engines_agree_about_the_use_of_random_traffic() -> None:
    fast = pytest.importorskip("ratectl.engine.native.engine", exc_type=ImportError)
    chance = Random(7)
    clock = [0]
    tree = policies(**{"/a": {"limits": LIMITS}})
    engines = [engine_of(make, tree, clock) for make in (fast.FastEngine, PureEngine)]
    for _ in range(40):
        for _ in range(50):
            key, cost = str(chance.randrange(40)), chance.choice((1, 1, 2, 5))
            assert len({bool(each.check("/a", {"t": key}, cost)) for each in engines}) == 1
        clock[0] += chance.choice((0, 10**8, SECOND, 20 * SECOND))
        found = [
            {of.limit: (of.fill, of.keys) for of in each.usage(fill=True).limits}
            for each in engines
        ]
        used = [{name: fill[1:] for name, (fill, _) in each.items()} for each in found]
        assert used[0] == used[1]  # engines evict full buckets at different times
        for name, (fill, keys) in found[0].items():
            assert sum(fill) == keys, name


def test_pure_engine_examines_a_bounded_number_of_keys() -> None:
    engine = engine_of(PureEngine, policies(**{"/a": {"limits": {"l": LIMITS["quota"]}}}), [0])
    for key in range(10_050):
        engine.check("/a", {"t": str(key)})
    (counts,) = engine.usage(fill=True).limits
    assert (sum(counts.fill), counts.keys) == (10_000, 10_050)


def test_compiled_engine_examines_every_key() -> None:
    fast = pytest.importorskip("ratectl.engine.native.engine", exc_type=ImportError)
    engine = engine_of(fast.FastEngine, policies(**{"/a": {"limits": {"l": LIMITS["quota"]}}}), [0])
    for key in range(10_050):
        engine.check("/a", {"t": str(key)})
    (counts,) = engine.usage(fill=True).limits
    assert (counts.fill, counts.keys) == ((10_050, 0, 0, 0, 0), 10_050)


@each_engine
def test_evictions_are_counted(make: Any) -> None:
    clock = [0]
    tree = policies(**{"/a": {"limits": {"l": {"rate": "10/s", "per": "t"}}}})
    engine = engine_of(make, tree, clock)
    for key in range(500):
        engine.check("/a", {"t": str(key)})
        clock[0] += SECOND
    usage = engine.usage()
    assert usage.evicted > 400
    assert usage.evicted + usage.buckets == 500
    assert 0 < usage.bytes < usage.max_bytes


# Times ------------------------------------------------------------------------------------------


@each_engine
def test_one_decision_in_1024_is_timed(make: Any) -> None:
    engine = engine_of(make, policies(**{"/a": {"limits": {"l": LIMITS["quota"]}}}), [0])
    for _ in range(10 * TIMED):
        engine.check("/a", {"t": "x"})
    counts, total = engine.usage().timings
    assert 9 <= sum(counts) <= 11
    assert total > 0
    assert len(counts) == len(BOUNDS_NS) + 1


@pytest.mark.parametrize("taken", [1, 100, 101, 2_500, 99_999, 10**8, 10**8 + 1])
def test_times_are_counted_at_the_first_bound_that_holds(taken: int) -> None:
    watch = Stopwatch()
    watch.add(taken)
    counts, total = watch.read()
    place = counts.index(1)
    assert (sum(counts), total) == (1, taken)
    assert place == len(BOUNDS_NS) or taken <= BOUNDS_NS[place]
    assert not place or taken > BOUNDS_NS[place - 1]


def test_times_since_an_earlier_reading() -> None:
    before = Timings((1,) * 13, 5)
    assert Timings((3,) * 13, 50).since(before) == ((2,) * 13, 45)
    assert before.since(NO_TIMINGS) == before
