"""A fake model gateway with hundreds of streams: the tokens never leave the budget.

An estimate is charged when its stream is admitted, and its tokens come later. So what is exact is
this: tokens of the streams that were admitted in any span t are at most burst + rate·t. Tokens that
came in any span t belong to streams that were admitted in it, or up to D before it, where D is the
longest time from an admission to a token: they are at most burst + rate·(t + D).
"""

from __future__ import annotations

import contextlib
import random
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from gateway import BURST, DAILY, RATE, SECOND, SLOTS, TENANTS, WINDOW, Broken, Gateway
from reserving import agent_of, left
from virtual import run

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gateway import Stream


@pytest.fixture(scope="module", params=range(4))
def gateway(request: pytest.FixtureRequest) -> Gateway:
    """Return a gateway after 400 requests in 90 seconds."""
    gateway = Gateway(request.param)
    run(gateway.clock, gateway.serve(400, 90))  # type: ignore[arg-type]
    gateway.clock.now += 30 * SECOND  # all that nobody closed has expired
    return gateway


def excess(events: Iterable[tuple[int, int]], later: int = 0) -> int:
    """Return by how much tokens exceed burst + rate·(t + later) in some span, in 10⁻⁹ tokens.

    It is negative if they never do. ``events``: instants and tokens. A span that exceeds it the
    most begins and ends with an event.
    """
    before = most = -(10**30)
    total = 0
    for instant, tokens in sorted(events):
        before = max(before, RATE * instant - total * SECOND)
        total += tokens
        most = max(most, total * SECOND - RATE * instant + before)
    return most - BURST * SECOND - RATE * later


def of(tenant: str, streams: Iterable[Stream]) -> list[Stream]:
    return [stream for stream in streams if stream.tenant == tenant]


def test_every_way_to_end_was_tried(gateway: Gateway) -> None:
    streams = gateway.streams
    assert len(streams) > 120
    assert min(gateway.refused, gateway.cancelled, gateway.broken, gateway.stopped) > 3
    for refunds in (False, True):
        abandoned = [s for s in streams if not s.ended and s.refunds == refunds]
        assert len([s for s in abandoned if s.reservation.expired]) > 3
    most = max(excess((s.admitted, s.charged) for s in of(each, streams)) for each in TENANTS)
    assert most > -BURST * SECOND // 2, "the limit was nearly reached"


def test_tokens_of_streams_admitted_in_any_span_stay_within_burst_and_rate(
    gateway: Gateway,
) -> None:
    for tenant in TENANTS:
        streams = of(tenant, gateway.streams)
        assert excess((stream.admitted, stream.charged) for stream in streams) <= 0
        assert all(stream.used <= stream.charged for stream in streams)


def test_tokens_that_came_in_any_span_stay_within_burst_and_rate(gateway: Gateway) -> None:
    for tenant in TENANTS:
        streams = of(tenant, gateway.streams)
        chunks = [chunk for stream in streams for chunk in stream.chunks]
        longest = max(s.chunks[-1][0] - s.admitted for s in streams if s.chunks)
        assert excess(chunks, longest) <= 0


def test_tokens_of_streams_admitted_in_any_window_stay_within_its_count(gateway: Gateway) -> None:
    for tenant in TENANTS:
        admitted = [(stream.admitted, stream.charged) for stream in of(tenant, gateway.streams)]
        for start, _ in admitted:
            inside = [n for at, n in admitted if start <= at < start + 20 * SECOND]
            assert sum(inside) <= WINDOW


def test_buckets_hold_what_was_used_when_all_has_ended(gateway: Gateway) -> None:
    agent, streams = gateway.agent, gateway.streams
    budget = agent.check("/llm/books", {}, {"tokens": 0, "requests": 0})
    assert (budget.limit, budget.capacity) == ("daily", DAILY)
    assert budget.remaining == DAILY - sum(stream.charged for stream in streams)
    abandoned = len([stream for stream in streams if not stream.ended])
    assert sum(bool(agent.check("/llm")) for _ in range(SLOTS + 1)) == SLOTS - abandoned
    assert (len(agent._expiries), len(agent._line)) == (0, 0)
    agent.clock.advance(86_400)
    for tenant in TENANTS:
        full = agent.check("/llm", {"tenant": tenant}, {"tokens": BURST, "requests": 0})
        assert (full.allowed, full.remaining) == (True, 0)


class ThreadedGateway:
    """Streams in threads, which all report to one quota."""

    def __init__(self, quota: int) -> None:
        self.quota = quota
        self.agent = agent_of(tokens={"algorithm": "quota", "rate": f"{quota}/day"})
        self.kept: list[int] = []
        """What the documents say that each admitted stream is charged with at last."""
        self.used: list[int] = []

    def serve(self, seed: int) -> None:
        draw = random.Random(seed)
        for _ in range(150):
            with contextlib.suppress(Broken):
                self._stream(draw)

    def _stream(self, draw: random.Random) -> None:
        estimate, total, abandoned = draw.randint(1, 100), 0, draw.random() < 0.1
        refunds = draw.random() < 0.5
        reservation = self.agent.reserve(
            "/", {}, {"tokens": estimate}, on_expiry="refund" if refunds else "keep"
        )
        with contextlib.ExitStack() as stack:
            if not stack.enter_context(reservation):
                return
            if abandoned:
                stack.pop_all()  # nobody will close it
            actual = draw.randint(0, estimate)
            reservation.used(tokens=0)
            try:
                while total < actual:
                    total = min(actual, total + draw.randint(1, 30))
                    reservation.used(tokens=total)
                    if draw.random() < 0.02:
                        raise Broken
            finally:
                self.used.append(total)
                self.kept.append(estimate if abandoned and not refunds else total)


@pytest.mark.parametrize("quota", [2_000, 1_000_000])
def test_threads_stream_from_one_budget(quota: int) -> None:
    gateway = ThreadedGateway(quota)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(6) as pool:
            for done in [pool.submit(gateway.serve, seed) for seed in range(6)]:
                done.result()
    finally:
        sys.setswitchinterval(interval)
    agent = gateway.agent
    assert sum(gateway.used) <= sum(gateway.kept) <= quota
    assert len(gateway.used) == 900 or sum(gateway.used) > quota // 2
    agent.clock.advance(60)
    assert left(agent) == quota - sum(gateway.kept)
