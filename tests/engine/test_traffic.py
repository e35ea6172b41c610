"""Busiest keys of a limit: exact while few, within the stated bounds beyond, in both engines."""

from __future__ import annotations

import threading
from collections import Counter
from itertools import accumulate
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from engine.engines import each_engine
from ratectl.compiler.activation import activate_tree
from ratectl.engine.buckets.traffic import HALVED_NS, MOST_HELD, MOST_SAMPLED, KeyTraffic, Traffic
from ratectl.traffic.accesslog import AccessLog
from support import policies

if TYPE_CHECKING:
    from pathlib import Path

    from ratectl.engine.api import Engine

LIMIT = {"rate": "1000000/s", "burst": 10**9, "per": "client"}


def engine_of(make: Any, **limits: Any) -> Engine:
    engine: Engine = make(lambda: 0)
    tree = policies(**{"/a": {"limits": limits or {"l": LIMIT}}})
    engine.swap(activate_tree(tree, 1, now_ns=0))
    return engine


def busiest(engine: Engine) -> tuple[KeyTraffic, ...]:
    return engine.usage(fill=True).limits[0].busiest


def assert_within_bounds(engine: Engine, true: Counter[str]) -> set[str]:
    """Check all counts of busy keys. Return the keys."""
    (counts,) = engine.usage(fill=True).limits
    assert counts.traffic == true.total()
    for of in counts.busiest:
        assert of.requests <= true[of.key] <= of.requests + of.error, of
    return {of.key for of in counts.busiest}


@each_engine
def test_counts_are_exact_while_the_keys_are_few(make: Any) -> None:
    engine, chance, true = engine_of(make), Random(1), Counter[str]()
    for _ in range(20_000):
        key = f"k{int(chance.expovariate(0.02)) % MOST_HELD}"
        true[key] += 1
        engine.check("/a", {"client": key})
    found = busiest(engine)
    assert [of.requests for of in found] == [count for _, count in true.most_common(20)]
    assert all(of.requests == true[of.key] and of.error == 0 for of in found)


@each_engine
@pytest.mark.parametrize("skew", [0.8, 1.1])
def test_busiest_of_many_keys_are_found_within_the_bounds(make: Any, skew: float) -> None:
    """Also if every rare key comes first: none of the busy ones is held from its first request."""
    engine, chance, true = engine_of(make), Random(2), Counter[str]()
    weights = list(accumulate(1 / (rank + 1) ** skew for rank in range(5_000)))
    keys = [f"rare{number}" for number in range(2_000)]
    keys += [f"k{number}" for number in chance.choices(range(5_000), cum_weights=weights, k=60_000)]
    for key in keys:
        true[key] += 1
        engine.check("/a", {"client": key})
    found = assert_within_bounds(engine, true)
    assert {key for key, _ in true.most_common(10)} <= found


@each_engine
def test_refused_requests_are_traffic_too(make: Any) -> None:
    engine = engine_of(make, l={"rate": "1/day", "burst": 1, "per": "client"})
    for _ in range(7):
        engine.check("/a", {"client": "flood"})
    assert busiest(engine) == (KeyTraffic("flood", 7, 0, 1.0),)


@each_engine
def test_use_is_that_of_the_bucket_now(make: Any) -> None:
    engine = engine_of(make, l={"rate": "1/day", "burst": 10, "per": "client"})
    engine.check("/a", {"client": "half"}, 5)
    engine.check("/a", {"client": "peeks"}, 0)
    assert {of.key: of.use for of in busiest(engine)} == {"half": 0.5, "peeks": None}


@each_engine
def test_limits_without_keys_have_no_traffic(make: Any) -> None:
    engine = engine_of(make, l={"rate": "1/day", "burst": 10})
    engine.check("/a")
    assert busiest(engine) == ()


@each_engine
def test_keys_of_several_attributes_and_absent_ones(make: Any) -> None:
    engine = engine_of(make, l={**LIMIT, "per": ["client", "route"]})
    engine.check("/a", {"client": "c", "route": "r"})
    engine.check("/a", {"route": "r"})
    assert {of.key for of in busiest(engine)} == {"c, r", "(absent), r"}


@each_engine
def test_gates_and_batches_are_traffic(make: Any) -> None:
    engine = engine_of(make)
    gate = engine.gate("/a", "client")
    gate("one")
    engine.check_many([("/a", {"client": "one"}), ("/a", {"client": "two"})])
    assert {of.key: of.requests for of in busiest(engine)} == {"one": 2, "two": 1}


@each_engine
def test_shadow_limits_and_budgets_have_traffic(make: Any) -> None:
    engine: Engine = make(lambda: 0)
    shadow = {"rate": "1/day", "burst": 1, "per": "client", "mode": "shadow"}
    budget = {"rate": "10/s", "per": "client"}
    tree = policies(**{"/a": {"limits": {"l": shadow}, "budgets": {"b": budget}}})
    engine.swap(activate_tree(tree, 1, now_ns=0))
    for _ in range(3):
        engine.check("/a", {"client": "x"})
    found = engine.usage(fill=True).limits
    assert {of.limit: of.busiest[0].requests for of in found} == {"l": 3, "b": 3}


@each_engine
def test_requests_that_lack_the_unit_or_are_skipped_are_no_traffic(make: Any) -> None:
    engine = engine_of(make, l={**LIMIT, "unit": "tokens"})
    engine.check("/a", {"client": "x"})
    engine.check("/a", {"client": "y"}, {"tokens": 5})
    assert [of.key for of in busiest(engine)] == ["y"]
    skipping = engine_of(make, l={**LIMIT, "absent": "skip"})
    skipping.check("/a", {})
    assert skipping.usage(fill=True).limits[0].busiest == ()


class Odd:
    """A value that is no text."""

    def __str__(self) -> str:
        return "odd"


@each_engine
def test_hostile_values_harm_nothing(make: Any) -> None:
    engine = engine_of(make)
    for value in ("x" * 100_000, "\udcff", "", Odd(), "a\x00b", "\x1b[31m"):
        for _ in range(3):
            engine.check("/a", {"client": value})  # type: ignore[dict-item]
    found = busiest(engine)
    assert all(len(of.key) < 300 for of in found)
    assert "\\udcff" in {of.key for of in found}


@each_engine
def test_sampling_goes_on_after_a_key_that_cannot_be_held(make: Any) -> None:
    """The compiled engine holds no long value. The first request without a place is a sample."""
    engine, true = engine_of(make), Counter[str]()
    crowd = [f"crowd{number}" for number in range(MOST_HELD)] * 3
    for key in [*crowd, "x" * 300, *(["late"] * 1_000)]:
        true[key] += 1
        engine.check("/a", {"client": key})
    assert "late" in {of.key for of in busiest(engine)}
    assert_within_bounds(engine, true)


@each_engine
def test_requests_of_keys_that_cannot_be_held_are_traffic(make: Any) -> None:
    engine = engine_of(make)
    for key in (*["x" * 300] * 9, "short", "x" * 300):
        engine.check("/a", {"client": key})
    assert engine.usage(fill=True).limits[0].traffic == 11


def test_compiled_engine_holds_keys_through_growth_and_replacement() -> None:
    """Every key is found again at its place, after many others were dropped around it."""
    fast = pytest.importorskip("ratectl.engine.native.engine", exc_type=ImportError)
    engine, chance = engine_of(fast.FastEngine), Random(3)
    true: Counter[str] = Counter()
    for _ in range(300_000):
        key = f"k{min(int(chance.paretovariate(0.5)), 20_000)}"
        true[key] += 1
        engine.check("/a", {"client": key})
    (group,) = engine._groups.in_force()  # type: ignore[attr-defined]
    held = group.counters.busiest
    assert len(held) == MOST_HELD == len({key for _, _, _, key in held})
    assert all(error < count for _, count, error, _ in held)
    assert {shown for shown, *_ in held} >= {key for key, _ in true.most_common(10)}


def test_traffic_that_repeats_does_not_evade_the_samples() -> None:
    """A busy key whose requests come at a fixed distance, behind a held crowd."""
    traffic = Traffic()
    for number in range(MOST_HELD):
        for _ in range(3):
            traffic.add(f"crowd{number}")
    for _ in range(400):
        traffic.add("late")
        for other in range(MOST_SAMPLED - 1):
            traffic.add(f"x{other}")
    assert traffic.held["late"][0] > 100


@each_engine
def test_counts_are_halved_every_five_minutes(make: Any) -> None:
    clock = [0]
    engine: Engine = make(lambda: clock[0])
    engine.swap(activate_tree(policies(**{"/a": {"limits": {"l": LIMIT}}}), 1, now_ns=0))
    for _ in range(41):
        engine.check("/a", {"client": "x"})
    seen = []
    for _ in range(4):
        seen.append(busiest(engine)[0].requests)
        seen.append(busiest(engine)[0].requests)
        clock[0] += HALVED_NS
    assert seen == [41, 41, 41, 20, 20, 10, 10, 5]


@each_engine
def test_busy_keys_are_read_in_small_pieces(make: Any) -> None:
    """Other threads may decide between any two pieces."""
    engine, named = engine_of(make), [0]
    for number in range(MOST_HELD):
        engine.check("/a", {"client": f"k{number}"})

    def show(key: object) -> str:
        named[-1] += 1
        return str(key)

    engine.show_key = show
    engine.usage(fill=True, pause=lambda: named.append(0))
    assert sum(named) == MOST_HELD
    assert max(named) <= 32


@each_engine
def test_keys_with_one_text_have_the_use_of_the_fullest_bucket(make: Any) -> None:
    engine = engine_of(make, l={"rate": "1/day", "burst": 10, "per": "client"})
    for key, cost in (("a1", 2), ("a2", 5), ("a3", 0), ("b1", 0)):
        engine.check("/a", {"client": key}, cost)
    engine.show_key = lambda key: str(key)[0]
    assert busiest(engine) == (KeyTraffic("a", 3, 0, 0.5), KeyTraffic("b", 1, 0, None))


@each_engine
def test_threads_count_every_request(make: Any) -> None:
    engine = engine_of(make)

    def check(name: str) -> None:
        for number in range(2_000):
            engine.check("/a", {"client": f"{name}{number % 5}"})

    threads = [threading.Thread(target=check, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counts = {of.requests for of in busiest(engine)}
    assert counts == {400}


@each_engine
@pytest.mark.reallog
def test_true_top_20_of_the_real_log(make: Any, real_log: Path) -> None:
    """1,753 clients: the 20 busiest are all found, and every count is within its bounds."""
    clients = [request.attributes["client"] for request in AccessLog(real_log)]
    true, engine = Counter(clients), engine_of(make)
    for client in clients:
        engine.check("/a", {"client": client})
    assert len(clients) == 9_999
    wanted = {f"{client}" for client, _ in true.most_common(20)}
    assert assert_within_bounds(engine, true) == wanted
