"""A fake model gateway: concurrent streams of tokens, in virtual time, and books of all they used.

Estimates are upper bounds. Streams end normally, by exceptions, by cancellation, or never: their
tasks end and nobody closes the reservation (as after a crash of the code that held it). Some hang
for longer than their reservation lasts; they notice that it has expired, and stop.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from ratectl import Agent, FakeClock

if TYPE_CHECKING:
    from ratectl import Reservation

__all__ = ["BURST", "DAILY", "RATE", "SLOTS", "TENANTS", "WINDOW", "Broken", "Gateway", "Stream"]

SECOND: Final = 10**9
TENANTS: Final = ("acme", "globex", "initech")
RATE, BURST = 400, 4_000
"""Of the token bucket of each tenant: tokens a second, and tokens at once."""
WINDOW: Final = 9_000
"""Tokens of each tenant in any 20 seconds."""
DAILY: Final = 10_000_000
"""Tokens of all tenants in a day."""
SLOTS: Final = 50

POLICIES: Final[list[dict[str, Any]]] = [
    {"apiVersion": "ratectl/v1", "scope": "/llm/books", "unset": ["tokens", "window", "slots"]},
    {
    "apiVersion": "ratectl/v1",
    "scope": "/llm",
    "limits": {
        "tokens": {"rate": f"{RATE}/s", "burst": BURST, "per": "tenant", "unit": "tokens"},
        "window": {
            "algorithm": "sliding-window", "rate": f"{WINDOW}/20s", "per": "tenant",
            "unit": "tokens",
        },
        "slots": {"algorithm": "concurrency", "max": SLOTS, "hold": "1week"},
    },
    "budgets": {"daily": {"algorithm": "quota", "rate": f"{DAILY}/day", "unit": "tokens"}},
    },
]  # fmt: skip
"""Only the budget decides requests of the scope ``/llm/books``."""


class Broken(Exception):
    """Failure of a model in the middle of a stream."""


@dataclass
class Stream:
    """An admitted stream. Instants are in nanoseconds."""

    reservation: Reservation
    tenant: str
    estimate: int
    refunds: bool
    admitted: int = 0
    chunks: list[tuple[int, int]] = field(default_factory=list)
    """Instant and tokens of each chunk."""
    ended: bool = False

    @property
    def used(self) -> int:
        return sum(tokens for _, tokens in self.chunks)

    @property
    def charged(self) -> int:
        """Cost that is charged at last, as the documents say."""
        expired = self.reservation.expired
        if not self.chunks:
            return 0 if expired and self.refunds else self.estimate
        if self.ended or (expired and self.refunds):
            return self.used
        return max(self.used, self.estimate)


class VirtualClock:
    """The clock of an event loop in virtual time; it moves the agent's."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock

    @property
    def now(self) -> int:
        return self._clock.monotonic_ns()

    @now.setter
    def now(self, instant: int) -> None:
        self._clock.advance((instant - self.now) / SECOND)


class Gateway:
    """Streams tokens of a model to many clients."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.agent = Agent.from_policies(POLICIES, clock=FakeClock("2030-01-01T00:00Z"))
        self.clock = VirtualClock(self.agent.clock)
        self.streams: list[Stream] = []
        self.running = self.refused = self.cancelled = self.broken = self.stopped = 0

    async def serve(self, requests: int, seconds: float) -> None:
        """Serve requests that come in a span of time, and cancel some of them at any moment."""
        loop, draw = asyncio.get_running_loop(), self.draw
        arrivals = [seconds * draw.random() for _ in range(requests)]
        tasks = [asyncio.create_task(self._request(arrival)) for arrival in arrivals]
        for task in draw.sample(tasks, requests // 4):
            loop.call_later(seconds * 1.2 * draw.random(), task.cancel)
        for error in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(error, asyncio.CancelledError):
                self.cancelled += 1
            elif isinstance(error, Broken):
                self.broken += 1
            elif error is not None:
                raise error

    async def _request(self, arrival: float) -> None:
        draw = self.draw
        await asyncio.sleep(arrival)
        tenant, estimate = draw.choice(TENANTS), draw.randint(1, 2_000)
        on_expiry = draw.choice(("keep", "refund"))
        reservation = self.agent.reserve(
            "/llm/chat",
            {"tenant": tenant},
            {"tokens": estimate},
            wait=draw.choice((0, 0, 1, 5)),
            expires=draw.choice((2, 5, 30)),
            on_expiry=on_expiry,
        )
        stream = Stream(reservation, tenant, estimate, on_expiry == "refund")
        if draw.random() < 0.1:
            await AsyncExitStack().enter_async_context(reservation)  # nobody will close it
            await self._run(stream)
        else:
            async with reservation:
                try:
                    await self._run(stream)
                finally:
                    stream.ended = True
                    self.running -= bool(reservation)

    async def _run(self, stream: Stream) -> None:
        reservation, draw = stream.reservation, self.draw
        if not reservation:
            self.refused += 1
            return
        stream.admitted = self.clock.now
        self.streams.append(stream)
        self.running += 1
        assert self.running <= SLOTS, "more streams than slots"
        actual = draw.choice((stream.estimate, draw.randint(0, stream.estimate)))
        while stream.used < actual:
            await asyncio.sleep(draw.choice((0, 0.1, 0.1, 0.5, 0.5, draw.random() * 8)))
            if reservation.expired:  # the rest may be given back: this stream hung for too long
                self.stopped += 1
                return
            tokens = min(draw.randint(1, 200), actual - stream.used)
            stream.chunks.append((self.clock.now, tokens))
            reservation.used(tokens=stream.used)
            if draw.random() < 0.01:
                raise Broken
