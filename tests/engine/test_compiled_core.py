"""Tests of the compiled core only: memory, references, fingerprints, and its clock."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import time
import weakref
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from engine.model import Limit
from engine.plans import by_scope, plan_set, rate, verdict, window
from policy.trees import tree
from ratectl.compiler.plans import compile_tree
from ratectl.errors import UsageError
from soak import scaled

fast = pytest.importorskip("ratectl.engine.native.engine", exc_type=ImportError)

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.rules import Rule
    from ratectl.engine.native.engine import FastEngine

T = ("tenant",)
AGE = 10**9
"""Seconds in which refill is negligible."""

AHEAD = rate(1, AGE // 100, burst=10**9)


def engine(*limits: Limit, **bounds: Any) -> FastEngine:
    """A compiled engine that reads the real clock itself."""
    made: FastEngine = fast.FastEngine(time.monotonic_ns, **bounds)
    made.swap(plan_set(1, by_scope(*limits)))
    return made


# References and memory --------------------------------------------------------------------------


def _mixed(of: FastEngine, request: tuple[str, dict[str, str]]) -> Callable[[], int]:
    """Make 10,000 decisions of every outcome; return their number."""
    scope, attributes = request
    admits, refuses = of.gate(scope, "tenant"), of.gate("/never", "tenant")
    many = [request] * 1_000 + [("/never", attributes)] * 500 + [("/nobody's",)] * 10

    def round_() -> int:
        made = 0
        for _ in range(5):
            made += len(of.check_many(many))
        for _ in range(800):
            with of.check("/held", attributes) as decision:
                assert decision
            of.check(scope, attributes, 2)
            of.check("/never", attributes)
            admits("acme")
            refuses("acme")
        return made + 800 * 5

    return round_


DECISIONS: Final = scaled(5 * 10**5, 10**7)


def test_millions_of_decisions_leave_no_reference_behind() -> None:
    of = fast.FastEngine(time.monotonic_ns)
    policies = {
        "/": {"limits": {"l": {"rate": "1000000/s", "burst": 10**9, "per": "tenant"}}},
        "/never": {"limits": {"n": {"rate": "1/week", "burst": 1, "per": "tenant"}}},
        "/held": {"limits": {"h": {"algorithm": "concurrency", "max": 5, "per": "tenant"}}},
    }
    of.swap(compile_tree(tree(policies), 1))
    attributes = {"tenant": "".join(["ac", "me"])}
    round_ = _mixed(of, ("/api", attributes))
    watched = [attributes, attributes["tenant"], of, of._core, type(of.check("/", attributes))]
    for _ in range(3):
        round_()
    gc.collect()
    before = [*map(sys.getrefcount, watched), sys.getrefcount(None)]
    blocks, made = sys.getallocatedblocks(), 0
    while made < DECISIONS:
        made += round_()
    gc.collect()
    after = [*map(sys.getrefcount, watched), sys.getrefcount(None)]
    assert [b - a for a, b in zip(before, after, strict=True) if abs(b - a) > 1_000] == []
    assert abs(sys.getallocatedblocks() - blocks) < 5_000


def test_engine_is_collected_with_its_objects() -> None:
    of = engine(Limit("/", "l", AHEAD, T))
    decision, gate = of.check("/", {"tenant": "a"}), of.gate("/", "tenant")
    gone = weakref.ref(of)
    decision.settle(2)
    del of
    gc.collect()
    assert gone() is not None, "a decision can still be settled"
    assert gate("a")
    del decision, gate
    gc.collect()
    assert gone() is None


def test_a_decision_kept_in_its_own_attributes_is_collected() -> None:
    of = engine(Limit("/", "l", AHEAD, T))

    class Context(dict[str, Any]):
        pass

    context = Context(tenant="a")
    context["decision"] = of.check("/", context)
    gone = weakref.ref(context)
    del context
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("kind", ["pure", "c"])
@pytest.mark.parametrize("rule", [rate(3, AGE, burst=3), window(3, AGE)], ids=["tokens", "window"])
def test_flood_of_keys_stays_within_the_memory_limit_and_resets_no_bucket(
    kind: str, rule: Rule
) -> None:
    from ratectl.engine.pure import PureEngine

    budget = 2**20 if kind == "c" else 2**21
    of: Any = {"pure": PureEngine, "c": fast.FastEngine}[kind](time.monotonic_ns, max_bytes=budget)
    of.swap(plan_set(1, by_scope(Limit("/", "l", rule, T))))
    gate = of.gate("/", "tenant")
    assert [gate("victim") for _ in range(5)] == [True] * 3 + [False] * 2
    for number in range(100_000 if kind == "c" else 10_000):
        gate(str(number))
    usage = of.usage()
    assert not gate("victim")
    assert usage.overflowed > 0
    assert usage.buckets > budget / (100 if kind == "c" else 600), (
        "the engine keeps too few buckets"
    )
    if kind == "c":
        # Shared buckets for keys without room come on top, once for each limit.
        assert of.bytes <= budget
    # 256 shared buckets of three each, and one for each key that had room.
    assert usage.limits[0].allowed <= 3 + usage.buckets + 3 * 256


def test_refilled_buckets_free_their_memory() -> None:
    of: Any = fast.FastEngine(lambda: 0)
    of.swap(plan_set(1, by_scope(Limit("/", "l", rate(1, burst=1), T))))
    for number in range(50_000):
        of.check("/", {"tenant": str(number)}, now=0)
    full = of.bytes
    for number in range(100_000):
        of.check("/", {"tenant": f"{number % 100}"}, now=(number + 2) * 10**9)
    for number in range(100_000):
        of.check("/", {"tenant": f"late{number}"}, now=(number + 2) * 10**11)
    assert of.usage().buckets < 1_000
    assert of.bytes < full / 4


WIDE = 10**9
"""Count above the range of a packed sub-window."""


BLOCK: Final = 104
"""Bytes of the block of a window whose count and length need more than 48 bits."""


def test_window_takes_more_memory_only_for_keys_with_many_instants() -> None:
    clock = [0]
    made = [fast.FastEngine(lambda: clock[0], secret=bytes(16)) for _ in range(2)]
    for of, most in zip(made, (1_000, WIDE), strict=True):
        of.swap(plan_set(1, by_scope(Limit("/", "l", window(most, 60), T))))
        for number in range(10_000):
            assert of.check("/", {"tenant": str(number)})
    narrow, wide = (of.bytes for of in made)
    assert narrow == wide <= 80 * 10_000
    of = made[1]
    for number in range(9_000):
        left = [of.check("/", {"tenant": str(number)}, 40_000).remaining for _ in range(3)]
        assert left == [WIDE - 1 - 40_000 * n for n in (1, 2, 3)]
    assert of.bytes == wide
    for _ in range(6):
        clock[0] += 1
        for number in range(9_000):
            assert of.check("/", {"tenant": str(number)}, 10)
    assert of.bytes == wide + 9_000 * BLOCK
    clock[0] = 10**12
    for instant in range(6):  # each new key reads two older buckets, which are forgotten
        for number in range(10_000):
            of.check("/", {"tenant": f"late{number}"}, 70_000 + instant)
        clock[0] += 1
    assert of.usage().buckets <= 10_001
    assert of.bytes < 1.1 * (wide + 10_000 * BLOCK)
    of.swap(plan_set(2, by_scope(Limit("/", "l", window(WIDE, 3_600), T))))
    for number in range(10_000):
        assert of.check("/", {"tenant": f"late{number}"}, 0).remaining == WIDE - 420_015
    of.swap(plan_set(3, by_scope(Limit("/other", "l", window(WIDE, 60), T))))
    clock[0] += 12_000 * 10**9  # what the removed limit has counted does not count any more
    of.usage()
    assert of.bytes == 0


def test_core_itself_decides_shared_windows_of_many_instants_and_large_counts() -> None:
    clock = [0]
    of: Any = fast.FastEngine(lambda: clock[0], max_buckets=1)
    of.swap(plan_set(1, by_scope(Limit("/", "l", window(WIDE, 60), T))))
    assert of.check("/", {"tenant": "first"})
    of._made = None  # Python would call it
    for number in range(1, 100):
        clock[0] += number % 3
        assert of.check("/", {"tenant": "late"}, 40_000).remaining == WIDE - 40_000 * number
    assert of.check("/", {"tenant": "late"}, WIDE - 1).reason == "limited"
    assert of.check("/", {"tenant": "late"}, 0).remaining == WIDE - 99 * 40_000
    assert of.check("/", {"tenant": "first"}).remaining == WIDE - 2


# Fingerprints -----------------------------------------------------------------------------------


def test_keys_with_equal_fingerprints_share_a_bucket() -> None:
    of = engine(Limit("/", "l", rate(5, AGE, burst=5), T), key_bits=3)
    passed: Counter[str] = Counter()
    for _ in range(6):
        for number in range(100):
            passed[str(number)] += of.check("/", {"tenant": str(number)}).allowed
    assert of.usage().buckets <= 8
    assert sum(passed.values()) == 5 * of.usage().buckets
    assert max(passed.values()) <= 5


def test_a_hundred_thousand_keys_have_different_fingerprints() -> None:
    of = engine(Limit("/", "l", rate(1, AGE, burst=1), ("tenant", "route")))
    values = [f"{'é' * (n % 3)}{n}" for n in range(300)]
    assert all(
        of.check("/", {"tenant": tenant, "route": route}) for tenant in values for route in values
    )
    assert of.usage().buckets == len(values) ** 2


KEYS = """
import ratectl.engine.native.engine as fast
from engine.model import Limit
from engine.plans import by_scope, plan_set, rate
keys = []
for secret in (b"a" * 16, b"a" * 16, b"b" * 16):
    of = fast.FastEngine(lambda: 0, secret=secret)
    of.swap(plan_set(1, by_scope(Limit("/", "l", rate(1), ("tenant",)))))
    of.check("/", {})
    group = of._active["/"].selection.groups[0]
    texts = ("", "a", "é" * 9, "\\ud800", "x" * 999)
    keys.append([group.store.key({"tenant": text}) for text in texts])
assert len(set(keys[0])) == 5
print(*keys[0])
assert keys[0] == keys[1]
assert not set(keys[0]) & set(keys[2])
"""


def test_known_hash_seed_does_not_reveal_colliding_keys() -> None:
    """Python's string hash is known then, so the core hashes with its own secret."""

    def keys(seed: str) -> str:
        path = str(Path(__file__).parents[1])
        env = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": path}
        return subprocess.check_output([sys.executable, "-c", KEYS], env=env, text=True)

    hashes = [keys(seed) for seed in ("0", "1", "random")]
    assert hashes[0] == hashes[1], "hashed by the core: only the secret decides"
    assert hashes[0] != hashes[2], "hashed by Python, which has a secret too"


@pytest.mark.parametrize("value", ["a", 5, None, 1.5, b"bytes", True])
def test_values_that_are_not_strings_count_as_their_text(value: object) -> None:
    of = engine(Limit("/", "l", rate(2, AGE, burst=2), T))
    attributes: Any = {"tenant": value}
    assert of.check("/", attributes)
    again: Any = {} if value is None else {"tenant": str(value)}
    assert of.check("/", again).remaining == 0

    class Text(str):
        __slots__ = ()

        def __hash__(self) -> int:
            return 0

    if isinstance(value, str):
        assert not of.check("/", {"tenant": Text(value)})


# Threads, and its own clock ---------------------------------------------------------------------


@pytest.mark.parametrize("rule", [rate(1, AGE, burst=20_000), window(20_000, AGE)], ids=str)
def test_threads_without_a_lock_admit_exactly_the_burst(rule: Rule) -> None:
    of = engine(Limit("/", "l", rule), Limit("/", "m", AHEAD, T))
    gate = of.gate("/", "tenant")
    start = threading.Barrier(5)

    def work(number: int) -> int:
        start.wait(10)
        mine, passed = {"tenant": str(number)}, 0
        for _ in range(2_000):
            passed += of.check("/", mine).allowed + gate(str(number))
            passed += sum(each.allowed for each in of.check_many([("/", mine)] * 4))
        return passed

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(5) as pool:
            assert sum(pool.map(work, range(5), timeout=60)) == 20_000
    finally:
        sys.setswitchinterval(before)
    told = {each.limit: each for each in of.usage().limits}
    assert (told["l"].allowed, told["l"].refused) == (20_000, 5 * 2_000 * 6 - 20_000)
    assert told["m"].allowed == 20_000


def test_own_clock_is_the_monotonic_clock() -> None:
    before = time.monotonic_ns()
    assert before <= fast._fast.now() <= time.monotonic_ns()


def test_gate_stays_valid_across_swaps() -> None:
    of = engine(Limit("/", "l", rate(1, AGE, burst=2), T))
    gate = of.gate("/", "tenant")
    assert gate("a")
    of.swap(plan_set(2, by_scope(Limit("/", "l", rate(1, AGE, burst=1), T))))
    assert gate("a")
    assert not gate("a")
    of.swap(plan_set(3, by_scope(Limit("/elsewhere", "l", AHEAD))))
    assert gate("a"), "no policy"
    of.swap(plan_set(4, by_scope(Limit("/", "m", rate(1, AGE, burst=1), ("other",)))))
    assert gate(None)
    assert not gate("another"), "an attribute that the gate does not name is absent"


# Arguments --------------------------------------------------------------------------------------


def test_compiled_arguments_are_those_of_check() -> None:
    of = engine(Limit("/", "l", rate(1, AGE, burst=9), T))
    assert of.check(scope="/", attributes={"tenant": "a"}, cost=2).remaining == 7
    assert of.check("/", cost=3).remaining == 6
    check: Any = of.check
    for wrong in ({"scope": "/"}, {"tenant": "a"}):
        with pytest.raises(TypeError):
            check("/", **wrong)
    for few_or_many in ((), ("/", {}, 1, None, None)):
        with pytest.raises(TypeError):
            check(*few_or_many)
    for cost in (-1, 1.0, True, "1", None):
        with pytest.raises(UsageError, match="cost is a whole number"):
            check("/", {}, cost)
    with pytest.raises(UsageError, match="request 1 is not"):
        of.check_many([("/",), "/"])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="takes 1 values, not 2"):
        of.gate("/", "tenant")("a", "b")


def test_a_failure_while_keys_are_found_charges_nothing() -> None:
    of = engine(Limit("/", "a", rate(1, AGE, burst=1)), Limit("/", "l", AHEAD, T))

    class Broken(dict[str, str]):
        def get(self, *_: object) -> Any:
            raise ConnectionError("gone")

    with pytest.raises(ConnectionError):
        of.check("/", Broken())
    assert of.check("/", {"tenant": "a"})


def test_more_limits_than_the_core_supports_are_decided() -> None:
    of = engine(*[Limit("/", f"l{n}", rate(1, AGE, burst=100 + n), T) for n in range(70)])
    decision = of.check("/", {"tenant": "a"})
    assert (decision.limit, decision.remaining) == ("l0", 99)
    assert of.usage().limits[69].allowed == 1


def test_numbers_beyond_61_bits_are_decided() -> None:
    of: Any = fast.FastEngine(lambda: 0)
    of.swap(plan_set(1, by_scope(Limit("/", "l", rate(1, 1, burst=5)))))
    huge = 10**30
    assert of.check("/", {}, 5, now=huge)
    decision = verdict(of.check("/", {}, 5, now=huge + 10**9))
    assert (decision.allowed, decision.remaining, decision.retry_after_ns) == (False, 1, 4 * 10**9)
    assert of.check("/", {}, 10**40, now=huge).reason == "never"
    assert of.check("/", {}, 1, now=huge + 10**9)
