"""Exceptions that start and end under traffic keep buckets and mint no tokens."""

from __future__ import annotations

import random
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.engines import each_engine
from engine.promises import assert_token_promise, assert_window_promise
from policy.conditions import FROM, excepted, exception, ns
from ratectl.compiler.plans import compile_tree

if TYPE_CHECKING:
    from engine.engines import MakeEngine
    from ratectl.policy.language.model import PolicyTree

NS = 10**9
START = ns(FROM)
END = START + 10 * NS
ACME = {"tenant": "acme"}
TIMES = {"begins": FROM, "until": "2026-11-27T06:00:10Z"}
BURSTS = st.integers(1, 30)
PACES = st.sampled_from((1, 2, 5, 10, 50))


class Run:
    """An engine that applies a tree's exceptions by its own clock, as agents and replays do."""

    def __init__(self, make: MakeEngine, policies: PolicyTree, now: int = START - 5 * NS) -> None:
        self.policies = policies
        self.engine = make(lambda: 0)
        self.now = now
        self.until: int | None = None
        self._swap(now)

    def _swap(self, now: int) -> None:
        plans = compile_tree(self.policies, 1, now_ns=now)
        self.engine.swap(plans, now)
        self.until = plans.until_ns

    def at(self, now: int) -> Run:
        while self.until is not None and self.until <= now:
            self._swap(self.until)
        self.now = now
        return self

    def ask(self, cost: int = 1, scope: str = "/", **attributes: str) -> bool:
        return bool(self.engine.check(scope, attributes or ACME, cost, self.now))

    def left(self, scope: str = "/", **attributes: str) -> int | None:
        return self.engine.check(scope, attributes or ACME, 0, self.now).remaining


def run(
    make: MakeEngine, part: str, base: dict[str, Any], raised: dict[str, Any], match: Any
) -> Run:
    """Run one limit or budget, ``x`` per tenant, with an exception from START to END."""
    policies = {"/": {"limits": {}, part: {"x": {**base, "per": ["tenant"]}}}}
    return Run(make, excepted(policies, exception(match=match, **TIMES, **{part: {"x": raised}})))


parts = st.sampled_from(("limits", "budgets"))
matches = st.sampled_from((None, ACME, {"tenant": "a*"}))


def asked(chance: random.Random, subject: Run, most: int) -> list[tuple[int, int]]:
    """Return the cost granted to random traffic before, during and after the exception."""
    log = []
    now = subject.now
    while now < END + 5 * NS:
        now += chance.choice([1, NS // 10, NS // 3, NS])
        cost = chance.randint(1, most)
        if subject.at(now).ask(cost):
            log.append((now, cost))
    return log


@each_engine
@settings(max_examples=150)
@given(parts, matches, PACES, BURSTS, PACES, BURSTS, st.integers(0, 2**32))
def test_no_span_admits_more_than_the_larger_parameters_promise(
    make: MakeEngine, part: str, match: Any, pace: int, burst: int, other: int, peak: int, seed: int
) -> None:
    base, raised = ({"rate": f"{p}/s", "burst": b} for p, b in ((pace, burst), (other, peak)))
    subject = run(make, part, base, raised, match)
    log = asked(random.Random(seed), subject, max(1, min(burst, peak) // 2))
    assert_token_promise(log, Fraction(max(pace, other), NS), max(burst, peak))


@each_engine
@settings(max_examples=80)
@given(parts, matches, BURSTS, BURSTS, st.integers(0, 2**32))
def test_no_window_admits_more_than_the_larger_count(
    make: MakeEngine, part: str, match: Any, count: int, other: int, seed: int
) -> None:
    base = {"algorithm": "sliding-window", "rate": f"{count}/2s"}
    subject = run(make, part, base, {"rate": f"{other}/2s"}, match)
    log = asked(random.Random(seed), subject, 2)
    assert_window_promise(log, max(count, other), 2 * NS)


@each_engine
@settings(max_examples=150)
@given(parts, matches, BURSTS, BURSTS, st.integers(0, 30), st.integers(0, 30))
def test_buckets_keep_their_level(
    make: MakeEngine, part: str, match: Any, burst: int, other: int, before: int, during: int
) -> None:
    """Tokens = min(tokens, burst) at the start and at the end, also for keys never seen.

    Requests that matched come back to a bucket in use: there only what is missing counts. The rate
    is so slow that no token is added meanwhile.
    """
    subject = run(make, part, {"rate": "1/h", "burst": burst}, {"burst": other}, match)
    subject.at(START - 1).ask(min(before, burst))
    level = burst - min(before, burst)
    assert subject.left() == level
    level = min(level, other)
    assert subject.at(START).left() == level
    cost = min(during, level)
    assert subject.ask(cost)
    level -= cost
    assert subject.at(END - 1).left() == level
    missing = min(before, burst) + cost
    level = min(level, burst) if match is None else min(burst, max(level, burst - missing))
    assert subject.at(END).left() == level
    unseen = min(burst, other) if match is None else burst
    assert [subject.left(tenant=tenant) for tenant in ("another", "zeta")] == [unseen] * 2


@pytest.mark.parametrize("part", ["limits", "budgets"])
@pytest.mark.parametrize("match", [None, ACME])
@pytest.mark.parametrize(
    ("base", "raised"),
    [
        ({"algorithm": "sliding-window", "rate": "10/h"}, {"rate": "20/h"}),
        ({"algorithm": "quota", "rate": "10/day"}, {"rate": "20/day"}),
    ],
)
@each_engine
def test_counts_survive_start_and_end(
    make: MakeEngine, part: str, match: Any, base: dict[str, Any], raised: dict[str, Any]
) -> None:
    subject = run(make, part, base, raised, match)
    assert subject.ask(4)
    assert (subject.left(), subject.at(START).left()) == (6, 16)
    assert subject.ask(3)
    assert (subject.left(), subject.at(END).left()) == (13, 3)
    assert not subject.ask(4)
    assert subject.ask(3)


@pytest.mark.parametrize("match", [None, ACME])
@each_engine
def test_slots_held_across_start_and_end_are_given_back_once(make: MakeEngine, match: Any) -> None:
    base = {"algorithm": "concurrency", "max": 3}
    subject = run(make, "limits", base, {"max": 5}, match)
    first = subject.engine.check("/", ACME, 2, subject.now)
    during = subject.at(START).engine.check("/", ACME, 2, START)
    assert (first.allowed, during.allowed, subject.left()) == (True, True, 1)
    assert subject.at(END).left() == 0
    during.release()
    assert subject.left() == 1
    first.release()
    first.release()
    assert subject.left() == 3


@each_engine
def test_key_outside_the_match_is_not_affected(make: MakeEngine) -> None:
    subject = run(make, "limits", {"rate": "1/h", "burst": 10}, {"burst": 3}, ACME)
    subject.ask(4, tenant="other")
    for now in (START, END):
        assert subject.at(now).left(tenant="other") == 6


@each_engine
def test_exception_is_counted_under_its_limits_name(make: MakeEngine) -> None:
    """Usage before, during and after adds up; with a match, under the exception's own name."""
    subject = run(make, "limits", {"rate": "1/h", "burst": 10}, {"burst": 9}, None)
    for now in (START - 1, START, END):
        subject.at(now).ask()
    (row,) = subject.engine.usage().limits
    assert (row.allowed, row.overrides) == (3, ())


@each_engine
def test_bucket_keeps_its_state_through_many_successive_exceptions(make: MakeEngine) -> None:
    """A bucket migrates through ten of them, each a nanosecond after its last request."""
    policies = {"/": {"limits": {"x": {"rate": "1/h", "burst": 10, "per": ["tenant"]}}}}
    chain = [
        exception(
            match=ACME,
            begins=f"2026-11-27T06:00:{at:02}Z",
            until=f"2026-11-27T06:00:{at + 1:02}Z",
            limits={"x": {"burst": 10 + at % 3}},
        )
        for at in range(10)
    ]
    subject = Run(make, excepted(policies, *chain))
    for at in range(10):
        assert subject.at(START + (at + 1) * NS - 1).ask()
    assert subject.at(END).left() == 0
