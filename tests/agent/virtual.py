"""Virtual time: a clock, and event loops that advance it instead of sleeping."""

from __future__ import annotations

import asyncio
import selectors
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Coroutine

__all__ = ["SECOND", "Clock", "run"]

SECOND = 10**9


class Clock:
    """Nanoseconds that pass only when a test or a loop advances them."""

    def __init__(self) -> None:
        self.now = SECOND

    def __call__(self) -> int:
        return self.now


class _Selector(selectors.DefaultSelector):  # type: ignore[valid-type,misc]
    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if not ready:
            if timeout is None or self._clock.now > 10**7 * SECOND:
                raise AssertionError("every task waits, and nothing will ever wake one")
            self._clock.now += max(0, round(timeout * SECOND))
        return ready


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self, clock: Clock) -> None:
        self._clock_ns = clock
        super().__init__(_Selector(clock))

    def time(self) -> float:
        return self._clock_ns.now / SECOND


def run(clock: Clock, main: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine to its end, in virtual time; an error if it would wait for ever."""
    with asyncio.Runner(loop_factory=lambda: _Loop(clock)) as runner:
        return runner.run(main)
