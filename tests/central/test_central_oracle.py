"""The server's script decides as the engine does: random traffic, an exact comparison."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ratectl.central.address import ServerAddress
from ratectl.central.answer import Answer, admission, read_answer, refusal
from ratectl.central.charge import OnServer as Charged
from ratectl.central.charge import charge_on, charged, slots_of
from ratectl.central.question import Count, correction, counts_of, decision_call
from ratectl.central.server import ThreadServer
from ratectl.engine.algorithms.calendar import CalendarWindow
from ratectl.engine.algorithms.concurrency import Concurrency
from ratectl.engine.algorithms.quota import Quota, WallOffset
from ratectl.engine.algorithms.sliding_window import SlidingWindow
from ratectl.engine.algorithms.token_bucket import TokenBucket
from ratectl.engine.api import PlanSet, ScopePlan
from ratectl.engine.cost import checked_cost
from ratectl.engine.decision import Decision
from ratectl.engine.limit_plan import LimitPlan
from ratectl.engine.pure import PureEngine
from support import once

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ratectl.central.scripts import Call
    from valkey_server import ValkeyServer

pytestmark = [once, pytest.mark.valkey]

SECOND = 1_000_000
START = 1_799_000_000 * SECOND + 123_457
"""Microseconds since 1970."""
PREFIXES = itertools.count()
MANY = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


class OnServer:
    """Plans that the server decides, at instants that the test chooses."""

    def __init__(self, valkey: ValkeyServer, plans: Sequence[LimitPlan]) -> None:
        self.server = ThreadServer(ServerAddress.of(valkey.url), 5.0)
        self.plan = ScopePlan("/", tuple(plans), True)
        self.prefix = f"oracle{next(PREFIXES)}"
        self.requests = itertools.count()
        self.freed: list[Any] = []

    def check(
        self, attributes: Mapping[str, str], cost: Any, now: int
    ) -> tuple[Decision, Any, Answer | None]:
        """Return the decision, the question and the answer; the last two for a settlement."""
        question = counts_of(self.plan, attributes, checked_cost(cost), self.prefix)
        if question is None:
            return Decision(True, "ok", 1), None, None
        name = f"r{next(self.requests)}"
        names = {count.name for count in question.counts}
        freed = [slots for slots in self.freed if slots.key in names]
        raw = self.server.run(decision_call(question.counts, name, now, freed, now=now))
        answer = read_answer(question.counts, raw)
        assert isinstance(answer, Answer)
        self.freed = [slots for slots in self.freed if slots not in freed]
        if not answer.admitted:
            return refusal(answer, 1), None, None
        slots = list(slots_of(question.counts, name))
        return admission(Decision(True, "ok", 1), answer), (question, slots), answer

    def close(self) -> None:
        self.server.close()


def both_of(valkey: ValkeyServer, limits: list[LimitPlan]) -> tuple[PureEngine, OnServer]:
    """Return an engine and a server that count the same limits."""
    engine = PureEngine(lambda: 0)
    engine.swap(PlanSet(1, {"/": ScopePlan("/", tuple(limits), True)}), now=START * 1000)
    return engine, OnServer(valkey, limits)


def limit(name: str, algorithm: Any, *per: str, **fields: Any) -> LimitPlan:
    return LimitPlan(
        scope="/",
        name=name,
        algorithm=algorithm,
        per=per,
        shadow=fields.pop("shadow", False),
        **fields,
    )


def up(nanoseconds: int | None) -> int | None:
    """Return microseconds, rounded up."""
    return None if nanoseconds is None else -(-nanoseconds // 1000)


def facts(decision: Decision) -> tuple[Any, ...]:
    return (
        decision.allowed,
        decision.reason,
        up(decision.retry_after_ns),
        decision.limit,
        decision.remaining,
        decision.capacity,
        up(decision.reset_after_ns),
    )


TOKENS = st.builds(
    lambda count, span, burst: TokenBucket(count, span * 10**9, burst),
    st.sampled_from([0, 1, 3, 7, 100, 999_983]),
    st.sampled_from([1, 11, 60, 3600, 604_800]),
    st.sampled_from([0, 1, 2, 5, 40]),
)
WINDOWS = st.builds(
    lambda n, seconds: SlidingWindow(n, seconds * 10**9, cells=32),
    st.sampled_from([0, 1, 3, 20, 90]),
    st.sampled_from([1, 7, 60]),
)
QUOTAS = st.builds(
    lambda n, unit, zone: Quota(n, CalendarWindow(unit, ZoneInfo(zone)), WallOffset()),
    st.sampled_from([0, 2, 11]),
    st.sampled_from(["min", "h", "day", "week", "month"]),
    st.sampled_from(["UTC", "Europe/Berlin", "Australia/Lord_Howe"]),
)
SLOTS = st.builds(Concurrency, st.sampled_from([0, 1, 3]), st.sampled_from([10**9, 60 * 10**9]))
GAPS = st.one_of(
    st.integers(0, 3),
    st.integers(0, 2 * SECOND),
    st.integers(0, 70 * SECOND),
    st.sampled_from([SECOND, 60 * SECOND, 3600 * SECOND, 26 * 3600 * SECOND]),
)
REQUESTS = st.lists(
    st.tuples(
        GAPS,
        st.sampled_from(["a", "b", None]),
        st.sampled_from([0, 1, 1, 1, 2, 5, 41, {"tokens": 3}, {"requests": 0, "tokens": 9}]),
        st.booleans(),
    ),
    min_size=1,
    max_size=40,
)


@st.composite
def plans(draw: Any) -> list[LimitPlan]:
    chosen = draw(st.lists(st.one_of(TOKENS, WINDOWS, QUOTAS, SLOTS), min_size=1, max_size=4))
    return [
        limit(
            f"l{number}", algorithm, *draw(st.sampled_from([(), ("tenant",)])),
            shadow=draw(st.sampled_from([False, False, False, True])),
            skips=draw(st.booleans()), unit=draw(st.sampled_from(["requests", "tokens"])),
        )
        for number, algorithm in enumerate(chosen)
    ]  # fmt: skip


@MANY
@given(limits=plans(), requests=REQUESTS)
def test_server_decides_as_the_engine_does(
    shared_valkey: ValkeyServer, limits: list[LimitPlan], requests: list[Any]
) -> None:
    engine, central = both_of(shared_valkey, limits)
    held: list[tuple[Decision, Any]] = []
    now = START
    try:
        for gap, tenant, cost, releases in requests:
            now += gap
            if releases and held:
                decision, (_, slots) = held.pop(0)
                decision.release()
                central.freed += slots
            attributes = {} if tenant is None else {"tenant": tenant}
            here = engine.check("/", attributes, cost, now * 1000)
            there, charged, _ = central.check(attributes, cost, now)
            assert facts(there) == facts(here), (gap, tenant, cost)
            if charged is not None:
                held.append((here, charged))
    finally:
        central.close()


class AtOnce:
    """Corrections that the server makes at an instant of the test. Stands for a service."""

    def __init__(self, server: ThreadServer) -> None:
        self.keeper = self
        self.server = server
        self.now = 0

    def wall_us(self) -> int:
        return self.now

    def charge(self, count: Count) -> None:
        self.correct(correction([(count, count.cost or 0, 0)], self.now, self.now))

    def correct(self, call: Call) -> None:
        asked = {**json.loads(call.argument), "now": self.now}
        self.server.run(call._replace(argument=json.dumps(asked)))


ACTUAL = st.one_of(st.integers(0, 12), st.just(10**30))


@MANY
@given(
    algorithm=st.one_of(TOKENS, WINDOWS, QUOTAS),
    steps=st.lists(
        st.tuples(GAPS, st.integers(0, 6), st.lists(ACTUAL, max_size=3)), min_size=1, max_size=20
    ),
)
def test_server_settles_as_the_engine_does(
    shared_valkey: ValkeyServer, algorithm: Any, steps: list[Any]
) -> None:
    engine, central = both_of(shared_valkey, [limit("one", algorithm)])
    service: Any = AtOnce(central.server)
    now = START
    try:
        for gap, cost, actuals in steps:
            now += gap
            here = engine.check("/", {}, cost, now * 1000)
            there, asked, answer = central.check({}, cost, now)
            assert facts(there) == facts(here)
            if asked is None:
                continue
            charged(there, "/", cost, (), Charged(service, asked[0], answer, "r"))
            for actual in actuals:
                now += gap // 2
                service.now = now
                engine.settle(here, actual, now * 1000)
                there.settle(actual)
                peeked = engine.check("/", {}, 0, now * 1000)
                after = central.check({}, 0, now)[0]
                if actual > 10**9:  # no debt is that large on the server
                    assert (after.allowed, after.reason) == (peeked.allowed, peeked.reason)
                    return
                assert facts(after) == facts(peeked), (gap, cost, actual)
    finally:
        central.close()


def admitted(central: OnServer, traffic: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield instants and costs of the requests that the server admits."""
    for now, cost in traffic:
        if central.check({}, cost, now)[0].allowed:
            yield now, cost


@MANY
@given(
    capacity=st.sampled_from([1, 10, 5000]),
    gaps=st.lists(
        st.tuples(st.integers(0, 150_000), st.integers(1, 400)), min_size=30, max_size=90
    ),
)
def test_no_window_of_the_default_precision_holds_more(
    shared_valkey: ValkeyServer, capacity: int, gaps: list[tuple[int, int]]
) -> None:
    central = OnServer(shared_valkey, [limit("one", SlidingWindow(capacity, 10**9))])
    instants = itertools.accumulate((gap for gap, _ in gaps), initial=START)
    traffic = [(now, cost) for now, (_, cost) in zip(instants, gaps, strict=False)]
    passed = list(admitted(central, traffic))
    central.close()
    for start, _ in passed:
        assert sum(cost for now, cost in passed if start <= now < start + SECOND) <= capacity


@MANY
@given(
    rate=st.tuples(st.integers(1, 10**12), st.integers(1, 10**6)),
    burst=st.sampled_from([1, 1000, 10**9]),
    requests=st.lists(st.tuples(st.integers(0, 10**9), st.integers(1, 10**9)), max_size=30),
)
def test_no_token_bucket_of_any_size_admits_more_than_the_engine(
    shared_valkey: ValkeyServer, rate: tuple[int, int], burst: int, requests: list[tuple[int, int]]
) -> None:
    bucket = TokenBucket(rate[0], rate[1] * 604_800 * 10**9, burst)
    central = OnServer(shared_valkey, [limit("one", bucket)])
    state, now = bucket.full(START * 1000), START
    for gap, cost in requests:
        now += gap
        if central.check({}, cost, now)[0].allowed:
            wait, state, _, _ = bucket.attempt(state, cost, now * 1000)
            assert wait == 0
    central.close()


def test_a_clock_that_steps_back_reopens_no_window(valkey: ValkeyServer) -> None:
    quota = Quota(2, CalendarWindow("min"), WallOffset())
    central = OnServer(valkey, [limit("one", quota)])
    minute = START - START % (60 * SECOND) + 60 * SECOND
    assert [central.check({}, 1, minute)[0].allowed for _ in range(3)] == [True, True, False]
    assert not central.check({}, 1, minute - SECOND)[0].allowed
    assert central.check({}, 1, minute + 60 * SECOND)[0].allowed
    central.close()


def test_a_quota_of_each_second(valkey: ValkeyServer) -> None:
    central = OnServer(valkey, [limit("one", Quota(2, CalendarWindow("s"), WallOffset()))])
    second = START - START % SECOND
    tenths = (0, 3, 9, 10, 11, 19, 20, 45)
    allowed = [central.check({}, 1, second + at * SECOND // 10)[0].allowed for at in tenths]
    assert allowed == [True, True, False, True, True, False, True, True]
    central.close()


def test_tokens_do_not_come_back_when_the_clock_steps_back(valkey: ValkeyServer) -> None:
    central = OnServer(valkey, [limit("one", TokenBucket(1, 10**9, 1))])
    assert central.check({}, 1, START)[0].allowed
    refused, _, _ = central.check({}, 1, START - 5 * SECOND)
    assert (refused.allowed, refused.retry_after) == (False, 6.0)
    assert central.check({}, 1, START + SECOND)[0].allowed
    central.close()


def test_a_changed_rate_keeps_the_tokens_that_there_are(valkey: ValkeyServer) -> None:
    slow, fast = TokenBucket(3, 11 * 10**9, 10), TokenBucket(7, 10**9, 20)
    central = OnServer(valkey, [limit("one", slow)])
    assert central.check({}, 8, START)[0].remaining == 2
    central.plan = ScopePlan("/", (limit("one", fast),), True)
    assert central.check({}, 0, START)[0].remaining == 2
    for step in range(50):  # two generations side by side: neither starves the other
        central.plan = ScopePlan("/", (limit("one", (slow, fast)[step % 2]),), True)
        central.check({}, 0, START + step * 20_000)
    assert central.check({}, 0, START + SECOND)[0].remaining >= 5
    central.close()


@MANY
@given(
    algorithm=st.one_of(TOKENS, WINDOWS, QUOTAS),
    steps=st.lists(st.tuples(GAPS, st.integers(0, 6), st.booleans()), min_size=1, max_size=20),
)
def test_server_charges_as_the_engine_does(
    shared_valkey: ValkeyServer, algorithm: Any, steps: list[Any]
) -> None:
    engine, central = both_of(shared_valkey, [limit("one", algorithm)])
    service: Any = AtOnce(central.server)
    now = START
    try:
        for gap, cost, is_over in steps:
            now += gap
            service.now = now
            if is_over:
                engine.charge("/", {}, cost, now * 1000)
                asked = counts_of(central.plan, {}, cost, central.prefix)
                if asked is not None:
                    charge_on(service, asked)
            else:
                here = engine.check("/", {}, cost, now * 1000)
                assert facts(central.check({}, cost, now)[0]) == facts(here)
            peeked = engine.check("/", {}, 0, now * 1000)
            assert facts(central.check({}, 0, now)[0]) == facts(peeked), (gap, cost, is_over)
    finally:
        central.close()
