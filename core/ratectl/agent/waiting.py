"""Waiting of one request until it may pass: in a task of an event loop, or in a thread."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Final

from ratectl.agent.line import FOREVER, Line, Request
from ratectl.engine.cost import checked_cost, nothing_of
from ratectl.errors import UsageError
from ratectl.runtime.wakeup import Wakeup

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ratectl.engine.cost import Cost
    from ratectl.engine.decision import Decision

__all__ = ["checked_wait", "pass_in_task", "pass_in_thread"]

_SECOND: Final = 1_000_000_000


async def pass_in_task(
    line: Line, scope: str, attributes: Mapping[str, str], cost: Cost, wait: float | None
) -> Decision:
    """Wait for at most ``wait`` seconds (None: without limit). See ``Agent.acquire``."""
    sleeper = _Task()
    request = _request(line, scope, attributes, cost, wait, sleeper)
    try:
        if _passes_at_once(line, request):
            return request.got[0]
        line.join(request)
        return await _answer_in_task(line, request, sleeper)
    except BaseException:
        _give_back(request)
        raise
    finally:
        try:  # here, as a signal handler may raise when a function is called
            line.leave(request)
        except BaseException:
            line.leave(request)
            _give_back(request)
            raise


def pass_in_thread(
    line: Line, scope: str, attributes: Mapping[str, str], cost: Cost, wait: float | None
) -> Decision:
    """Wait for at most ``wait`` seconds (None: without limit). See ``Agent.acquire_sync``."""
    sleeper = _Thread()
    request = _request(line, scope, attributes, cost, wait, sleeper)
    try:
        if _passes_at_once(line, request):
            return request.got[0]
        line.join(request)
        return _answer_in_thread(line, request, sleeper)
    except BaseException:
        _give_back(request)
        raise
    finally:
        try:  # here, as a signal handler may raise when a function is called
            line.leave(request)
        except BaseException:
            line.leave(request)
            _give_back(request)
            raise


# Loops of their own: Python 3.13 leaves the jump of a loop out of the `try` around it, so that an
# exception of a signal handler could leave a request in the line.


async def _answer_in_task(line: Line, request: Request, sleeper: _Task) -> Decision:
    while isinstance(answer := line.ask(request), int):
        await sleeper.sleep(answer)
    return answer


def _answer_in_thread(line: Line, request: Request, sleeper: _Thread) -> Decision:
    while isinstance(answer := line.ask(request), int):
        sleeper.sleep(answer)
    return answer


def _request(
    line: Line, scope: str, attributes: Mapping[str, str], cost: Cost, wait: float | None,
    sleeper: _Task | _Thread,
) -> Request:  # fmt: skip
    # The caller may go on to use its dictionary for another request.
    attributes = dict(attributes) if type(attributes) is dict else attributes
    return Request(scope, attributes, checked_cost(cost), _deadline(line, wait), sleeper)


def _deadline(line: Line, wait: float | None) -> int:
    """Return the instant at which a request gives up.

    :raises UsageError: ``wait`` is no number of seconds, or negative.
    """
    wait = checked_wait(wait)
    if wait is None or math.isinf(wait):
        return FOREVER
    return min(FOREVER, line.clock() + math.ceil(wait * _SECOND))


def checked_wait(wait: float | None) -> float | None:
    """Return the longest wait in seconds; None: without limit.

    :raises UsageError: it is no number of seconds, or negative.
    """
    if wait is None:
        return None
    if not isinstance(wait, int | float) or isinstance(wait, bool) or not wait >= 0:
        raise UsageError(f"wait is a number of seconds, 0 or more, not {wait!r}")
    return wait


def _passes_at_once(line: Line, request: Request) -> bool:
    """Check a request if nobody waits. Return False if it has to join the line."""
    if len(line):
        return False
    decision = line.attempt(request)
    return decision.allowed or decision.reason != "limited"


def _give_back(request: Request) -> None:
    """Give back the slots and tokens of a decision that the caller never gets."""
    for decision in request.got:
        decision.release()
        decision.settle(nothing_of(request.cost))


class _Thread:
    """The current thread, which can sleep and be woken."""

    def __init__(self) -> None:
        self._wakeup = Wakeup()

    def wake(self) -> bool:
        self._wakeup.set()
        return True

    def sleep(self, span: int) -> None:
        self._wakeup.wait(span / _SECOND)


class _Task:
    """The current task of an event loop, which can sleep and be woken."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._woken = False
        self._asleep: asyncio.Future[None] | None = None

    def wake(self) -> bool:
        try:
            self._loop.call_soon_threadsafe(self._ring)
        except RuntimeError:  # the loop is closed
            return False
        return True

    def _ring(self) -> None:
        self._woken = True
        if self._asleep is not None and not self._asleep.done():
            self._asleep.set_result(None)

    async def sleep(self, span: int) -> None:
        if not self._woken:
            self._asleep = self._loop.create_future()
            timer = (
                None if span >= FOREVER // 2 else self._loop.call_later(span / _SECOND, self._ring)
            )
            try:
                await self._asleep
            finally:
                self._asleep = None
                if timer is not None:
                    timer.cancel()
        self._woken = False
