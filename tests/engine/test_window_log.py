"""Sliding windows beside an exact log of every admitted request, on both engines.

With at most 16 distinct instants in a window, every field of every decision is that of the log.
With more, a window refuses early by a bounded share, and never admits one too many.
"""

from __future__ import annotations

import random
from collections import deque
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.engines import ENGINES, MakeEngine, each_engine
from engine.model import Limit
from engine.plans import by_scope, plan_set
from engine.promises import assert_window_promise
from engine.rules import SECOND, Window
from ratectl.engine.algorithms.sliding_window import CELLS, SlidingWindow, WindowState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ratectl.engine.api import Engine

EXACT = 16
"""Cells of a log of ``CELLS`` that is exact."""

PRECISIONS = st.sampled_from((CELLS, CELLS, 33, 128))
LENGTHS = st.sampled_from((7, 1_000, SECOND, 60 * SECOND, 3_600 * SECOND, 86_400 * SECOND))
MANY = 300
"""Examples of each property."""


class Log:
    """Exact sliding window: every admitted cost with its instant."""

    def __init__(self, most: int, length: int) -> None:
        self.most = most
        self.length = length
        self.entries: deque[tuple[int, int]] = deque()

    def at(self, now: int) -> deque[tuple[int, int]]:
        while self.entries and self.entries[0][0] + self.length <= now:
            self.entries.popleft()
        return self.entries

    def used(self, now: int) -> int:
        return sum(cost for _, cost in self.at(now))

    def wait(self, cost: int, now: int) -> int:
        excess = self.used(now) + cost - self.most
        for instant, count in self.at(now):
            if excess <= 0:
                break
            excess -= count
            if excess <= 0:
                return instant + self.length - now
        return 0

    def add(self, cost: int, now: int) -> None:
        self.entries.append((now, cost))

    def instants(self, now: int) -> int:
        return len({instant for instant, _ in self.at(now)})


def _engine(make: MakeEngine, most: int, length: int, cells: int = CELLS) -> Engine:
    engine = make(lambda: 0)
    rule = Window(most, length, cells=cells)
    engine.swap(plan_set(1, by_scope(Limit("/", "l", rule, ("key",)))))
    return engine


@st.composite
def requests(draw: Any, most: int, length: int) -> list[tuple[int, int]]:
    """Draw instants in order, some exactly a window after another, with costs."""
    chance = random.Random(draw(st.integers(0, 2**32)))
    large = draw(st.sampled_from((1, 1, max(1, most // 40), max(1, most // 10), most)))
    spread = draw(st.sampled_from((1, length // 1_000, length // 40, length // 12, length)))
    now, made = 1_700_000_000 * SECOND, []
    for _ in range(draw(st.integers(1, 120))):
        now += chance.choice((0, 1, chance.randint(0, spread), chance.randint(0, spread)))
        if made and chance.random() < 0.2:
            now = max(now, chance.choice(made[-30:])[0] + length - chance.randint(0, 1))
        made.append((now, chance.randint(0, large)))
    return made


@each_engine
@settings(max_examples=MANY, deadline=None)
@given(st.data())
def test_window_of_few_instants_decides_as_an_exact_log(make: MakeEngine, data: Any) -> None:
    most = data.draw(st.sampled_from((1, 2, 5, 15, 16, 100, 5_000, 10**6, 10**9)))
    length = data.draw(LENGTHS)
    engine, log = _engine(make, most, length), Log(most, length)
    for now, cost in data.draw(requests(most, length)):
        wait = log.wait(cost, now)
        if not wait and cost and log.instants(now) == EXACT and log.at(now)[-1][0] < now:
            continue
        got = engine.check("/", {"key": "k"}, cost, now=now)
        if not wait and cost:
            log.add(cost, now)
        newest = log.at(now)[-1][0] + length - now if log.at(now) else 0
        assert (got.allowed, got.retry_after_ns) == (not wait, wait)
        assert (got.remaining, got.reset_after_ns) == (most - log.used(now), newest)


@settings(max_examples=MANY, deadline=None)
@given(st.data())
def test_no_window_admits_too_much_and_engines_agree(data: Any) -> None:
    most = data.draw(st.sampled_from((3, 17, 24, 40, 90, 1_000, 4_001, 70_000, 10**9)))
    length, cells = data.draw(LENGTHS), data.draw(PRECISIONS)
    engines = [_engine(make, most, length, cells) for make in ENGINES.values()]
    admitted: list[tuple[int, int]] = []
    last = 0
    for when, cost in data.draw(requests(most, length)):
        last = now = max(when, last)  # an engine's time does not step back
        of = [engine.check("/", {"key": "k"}, cost, now=now) for engine in engines]
        fields = [(d.allowed, d.retry_after_ns, d.remaining, d.reset_after_ns) for d in of]
        assert fields[1:] == fields[:-1]
        if of[0]:
            admitted.append((now, cost))
        elif data.draw(st.booleans()):
            last = at = now + (of[0].retry_after_ns or 0)
            peeks = [engine.check("/", {"key": "k"}, 0, now=at) for engine in engines]
            assert all(peek.remaining >= cost for peek in peeks)
    assert_window_promise(admitted, most, length)


@settings(max_examples=MANY, deadline=None)
@given(st.data())
def test_engines_agree_when_a_busy_window_changes(data: Any) -> None:
    most, length = data.draw(st.sampled_from((20, 90, 1_000, 4_001))), 60 * SECOND
    engines = [_engine(make, most, length) for make in ENGINES.values()]
    chance = random.Random(data.draw(st.integers(0, 2**32)))
    kept: list[Any] = []
    for number, (now, cost) in enumerate(data.draw(requests(most, length))):
        if chance.random() < 0.1:
            rule = Window(
                chance.choice((9, 30, 90, 70_000)),
                chance.choice((1, 60, 61)) * SECOND,
                cells=chance.choice((CELLS, CELLS, 33, 128)),
            )
            for engine in engines:
                limit = Limit("/", "l", rule, ("key",))
                engine.swap(plan_set(2 + number, by_scope(limit)), now=now)
        key = {"key": chance.choice("ab")}
        of = [engine.check("/", key, cost, now=now) for engine in engines]
        kept.append(of)
        if chance.random() < 0.2:
            for decision in chance.choice(kept[-20:]):
                decision.settle(cost // 2)
        fields = [(d.allowed, d.retry_after_ns, d.remaining, d.reset_after_ns) for d in of]
        assert fields[1:] == fields[:-1]


# States -------------------------------------------------------------------------------------------


def _used(window: SlidingWindow, state: WindowState, log: list[tuple[int, int]]) -> list[int]:
    return [window.used(state, at) for at in _instants(window, log)]


def _instants(window: SlidingWindow, log: list[tuple[int, int]]) -> list[int]:
    """Return the instants at which a count may change, from the end of a log on."""
    ends = {at + window.window_ns + step for at, _ in log for step in (-1, 0)}
    return sorted({log[-1][0], *(end for end in ends if end >= log[-1][0])})


def _charged(window: SlidingWindow, log: list[tuple[int, int]]) -> WindowState:
    state = window.full(0)
    for now, cost in log:
        _, state, _, _ = window.attempt(state, cost, now)
    return state


@settings(max_examples=MANY, deadline=None)
@given(st.data())
def test_stricter_counts_the_larger_of_two_at_every_later_instant(data: Any) -> None:
    most, length = data.draw(st.sampled_from((8, 60, 9_000))), data.draw(LENGTHS)
    window = SlidingWindow(most, length, cells=data.draw(PRECISIONS))
    logs = [data.draw(requests(most, length)) for _ in range(2)]
    states = [_charged(window, log) for log in logs]
    now = max(log[-1][0] for log in logs)
    both = window.stricter(*states, now)
    assert window.stricter(both, states[1], now) == both, "to carry over twice changes nothing"
    exact = sum(len(cells) for cells, *_ in states) < EXACT
    for at in _instants(window, [*logs[0], *logs[1], (now, 0)]):
        larger = max(window.used(state, at) for state in states)
        assert window.used(both, at) == larger if exact else window.used(both, at) >= larger
    assert len(both[0]) <= window.cells


@settings(max_examples=MANY, deadline=None)
@given(st.data())
def test_refunds_never_leave_less_than_the_log_without_them(data: Any) -> None:
    most, length = data.draw(st.sampled_from((8, 60, 9_000))), data.draw(LENGTHS)
    window, state = SlidingWindow(most, length, cells=data.draw(PRECISIONS)), ((), 0, 0)
    log: list[tuple[int, int]] = []
    chance = random.Random(data.draw(st.integers(0, 2**32)))
    for now, cost in data.draw(requests(most, length)):
        wait, state, _, _ = window.attempt(state, cost, now)
        if wait:
            continue
        log.append((now, cost))
        i = chance.randrange(len(log))
        since, charged = log[i]
        more = chance.randint(-charged, 3)
        state = window.settle(state, more, now, since, charged)
        log[i] = (since, charged + min(more, 0))
        log += [(now, more)] if more > 0 else []
        assert len(state[0]) <= window.cells
        for at in (now, now + length // 2, now + length - 1):
            exact = sum(count for instant, count in log if instant + length > at)
            assert window.used(state, at) >= exact


@settings(max_examples=MANY, deadline=None)
@given(st.data())
def test_changed_window_counts_what_it_still_knows(data: Any) -> None:
    most, length = data.draw(st.sampled_from((8, 60, 9_000))), data.draw(LENGTHS)
    old = SlidingWindow(most, length)
    new = SlidingWindow(
        data.draw(st.sampled_from((5, 60, 10**5))),
        data.draw(LENGTHS),
        cells=data.draw(PRECISIONS),
    )
    log = data.draw(requests(most, length))
    state, now = _charged(old, log), log[-1][0]
    moved = new.continued(old, state, now)
    assert new.used(moved, now) >= min(old.used(state, now), new.used(state, now))
    shorter = min((old, new), key=lambda of: of.window_ns)
    for step in range(0, 101, 10):
        at = now + shorter.window_ns * step // 100
        assert new.used(moved, at) >= shorter.used(state, at)
    if new.window_ns > old.window_ns:
        assert new.settle(moved, -1, now, now - old.window_ns, 1) == moved


def test_request_is_not_refunded_from_a_later_cell() -> None:
    short, long = SlidingWindow(9, SECOND), SlidingWindow(9, 60 * SECOND)
    _, state, _, _ = short.attempt(short.full(0), 5, 0)
    state = long.continued(short, state, 2 * SECOND)
    _, state, _, _ = long.attempt(state, 5, 3 * SECOND)
    state = long.settle(state, -5, 4 * SECOND, 0, 5)
    assert long.used(state, 4 * SECOND) == 5


# Shares -------------------------------------------------------------------------------------------


def _poisson(load: float, most: int, length: int) -> Iterator[int]:
    chance, now = random.Random(7), 0.0
    while now < 12 * length:
        now += chance.expovariate(most * load / length)
        yield int(now)


def _periodic(load: float, most: int, length: int) -> Iterator[int]:
    return (int(i * length / (most * load)) for i in range(int(12 * most * load)))


def _bursts(gap: int, most: int, length: int) -> Iterator[int]:
    return (k * length + i * gap for k in range(12) for i in range(most))


SHAPES: dict[str, tuple[Callable[[int, int], Iterator[int]], float]] = {
    "poisson 1x": (lambda n, w: _poisson(1, n, w), 0.04),
    "poisson 1.25x": (lambda n, w: _poisson(1.25, n, w), 0.04),
    "poisson 1.5x": (lambda n, w: _poisson(1.5, n, w), 0.04),
    "periodic 1x": (lambda n, w: _periodic(1, n, w), 0.06),
    "periodic 1.5x": (lambda n, w: _periodic(1.5, n, w), 0.06),
    "burst at one instant": (lambda n, w: _bursts(0, n, w), 0.0),
    "burst of 1 ms gaps": (lambda n, w: _bursts(10**6, n, w), 0.06),
    "burst of half a window": (lambda n, w: _bursts(w // 2 // n, n, w), 0.06),
}


@each_engine
@pytest.mark.parametrize("cells", [24, 128])
@pytest.mark.parametrize("most", [16, 100, 1_000])
@pytest.mark.parametrize("shape", SHAPES)
def test_share_refused_early_is_bounded(
    make: MakeEngine, shape: str, most: int, cells: int
) -> None:
    instants, bound = SHAPES[shape]
    bound = bound if cells == CELLS else min(bound, 0.015)
    length = 60 * SECOND
    gate, log = _engine(make, most, length, cells), Log(most, length)
    exact = admitted = 0
    for now in instants(most, length):
        admitted += gate.check("/", {"key": "k"}, now=now).allowed
        if len(log.at(now)) < most:
            log.add(1, now)
            exact += 1
    assert exact - admitted <= bound * exact
    always_exact = EXACT if cells == CELLS else cells  # finer windows round nothing
    assert most > always_exact or admitted == exact


@pytest.mark.parametrize(("cells", "busy"), [(24, 160), (128, 840)])
def test_buckets_stay_within_their_bytes(cells: int, busy: int) -> None:
    fast = pytest.importorskip("ratectl.engine.native.engine", exc_type=ImportError)
    engine: Any = _engine(fast.FastEngine, 1_500, 60 * SECOND, cells)
    keys = [{"key": str(number)} for number in range(20_000)]
    now = 0

    def charge(times: int) -> float:
        nonlocal now
        for _ in range(times):
            now += SECOND // 10
            for key in keys:
                engine.check("/", key, 40, now=now)
        used: float = engine.bytes / len(keys)
        return used

    assert charge(1) <= 80
    assert charge(4) <= 80
    assert charge(1) <= busy
    assert charge(30) <= busy
