"""Rate limits for requests that httpx sends, below those of the other side.

httpx.Client(transport=RateLimitTransport(agent, httpx.HTTPTransport(), "/out/github"))
httpx.AsyncClient(transport=AsyncRateLimitTransport(agent, httpx.AsyncHTTPTransport(), "/out/x"))
"""

from __future__ import annotations

import asyncio
import math
import time
from typing import TYPE_CHECKING, Any, Self

import httpx

from ratectl.agent.call_limiter import CallLimiter
from ratectl.contrib.pauses import Pauses
from ratectl.engine.cost import nothing_of
from ratectl.engine.decision import Decision
from ratectl.errors import Limited, UsageError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from types import TracebackType

    from ratectl.agent import Agent
    from ratectl.agent.call_limiter import Attributes, Question
    from ratectl.engine.cost import Cost

__all__ = ["AsyncRateLimitTransport", "RateLimitTransport"]


class RateLimitTransport(httpx.BaseTransport):
    """Sends requests when limits admit them. Slots are held until the response is closed.

    If a response asks for a pause, later requests of its scope wait.
    """

    def __init__(
        self,
        agent: Agent,
        transport: httpx.BaseTransport,
        scope: str | Callable[[httpx.Request], str],
        attributes: Attributes = None,
        cost: Cost | Callable[[httpx.Request], Cost] = 1,
        exempt: Callable[[httpx.Request], bool] | None = None,
        wait: float | None = 60,
        max_pause: float = 60,
    ) -> None:
        """Functions take the request of httpx.

        ``transport``: the one that sends. ``attributes``: a fixed text or a function for each, or
        one function that returns all. ``exempt``: requests for which it is true are not limited.
        ``wait``: seconds that a request waits before ``Limited`` is raised; None: without limit.
        ``max_pause``: longest pause that the other side can ask for, in seconds.

        :raises UsageError: an argument cannot be used.
        """
        if not isinstance(transport, httpx.BaseTransport):
            raise UsageError(f"transport is like httpx.HTTPTransport(), not {transport!r}")
        self._transport = transport
        self._limits = _Limits(agent, scope, attributes, cost, exempt, wait, max_pause)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request when it may pass.

        :raises Limited: it would have to wait for longer than ``wait``, or can never pass.
        """
        question = self._limits.question(request)
        decision = question if isinstance(question, Decision) else self._pass(question)
        if not decision:
            raise Limited(decision)
        try:
            response = self._transport.handle_request(request)
            return self._limits.held(question, response, _Stream(response.stream, decision))
        except BaseException:
            decision.release()
            raise

    def _pass(self, question: Question) -> Decision:
        turn = _Turn(self._limits, question)
        while True:
            while pause := turn.pause():
                time.sleep(pause)
            decision = self._limits.agent.acquire_sync(*question, wait=turn.wait())
            if turn.may_go(decision):
                return decision

    def close(self) -> None:
        """Close the transport that sends."""
        self._transport.close()

    def __enter__(self) -> Self:
        self._transport.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        tb: TracebackType | None = None,
    ) -> None:
        self._transport.__exit__(kind, error, tb)


class AsyncRateLimitTransport(httpx.AsyncBaseTransport):
    """Sends requests when limits admit them, like ``RateLimitTransport``; for asyncio."""

    def __init__(
        self,
        agent: Agent,
        transport: httpx.AsyncBaseTransport,
        scope: str | Callable[[httpx.Request], str],
        attributes: Attributes = None,
        cost: Cost | Callable[[httpx.Request], Cost] = 1,
        exempt: Callable[[httpx.Request], bool] | None = None,
        wait: float | None = 60,
        max_pause: float = 60,
    ) -> None:
        """Take the arguments of ``RateLimitTransport``.

        :raises UsageError: an argument cannot be used.
        """
        if not isinstance(transport, httpx.AsyncBaseTransport):
            raise UsageError(f"transport is like httpx.AsyncHTTPTransport(), not {transport!r}")
        self._transport = transport
        self._limits = _Limits(agent, scope, attributes, cost, exempt, wait, max_pause)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request when it may pass.

        :raises Limited: it would have to wait for longer than ``wait``, or can never pass.
        """
        question = self._limits.question(request)
        decision = question if isinstance(question, Decision) else await self._pass(question)
        if not decision:
            raise Limited(decision)
        try:
            response = await self._transport.handle_async_request(request)
            return self._limits.held(question, response, _AsyncStream(response.stream, decision))
        except BaseException:
            decision.release()
            raise

    async def _pass(self, question: Question) -> Decision:
        turn = _Turn(self._limits, question)
        while True:
            while pause := turn.pause():
                await asyncio.sleep(pause)
            decision = await self._limits.agent.acquire(*question, wait=turn.wait())
            if turn.may_go(decision):
                return decision

    async def aclose(self) -> None:
        """Close the transport that sends."""
        await self._transport.aclose()

    async def __aenter__(self) -> Self:
        await self._transport.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        tb: TracebackType | None = None,
    ) -> None:
        await self._transport.__aexit__(kind, error, tb)


class _Limits(CallLimiter):
    """Limits of requests, and the pauses that the other side asks for."""

    def __init__(
        self,
        agent: Agent,
        scope: Any,
        attributes: Any,
        cost: Any,
        exempt: Any,
        wait: float | None,
        max_pause: float,
    ) -> None:
        super().__init__(agent, scope, attributes, cost, exempt, wait)
        if isinstance(max_pause, bool) or not isinstance(max_pause, int | float):
            raise UsageError(f"max_pause is a number of seconds, not {max_pause!r}")
        if not 0 <= max_pause < math.inf:
            raise UsageError(f"max_pause is a number of seconds, 0 or more, not {max_pause!r}")
        self.pauses = Pauses(max_pause)

    def held(
        self,
        question: Question | Decision,
        response: httpx.Response,
        stream: _Stream | _AsyncStream,
    ) -> httpx.Response:
        """Return a response that holds slots until its body is closed, and obey it."""
        if not isinstance(question, Decision):
            self.pauses.obey(question.scope, response.status_code, response.headers)
        if response.is_closed:  # it was read before
            stream.decision.release()
        else:
            response.stream = stream
        return response


class _Turn:
    """Waiting of one request: for the end of a pause, then in line."""

    def __init__(self, limits: _Limits, question: Question) -> None:
        self._limits = limits
        self._question = question
        self._ends = math.inf if limits.wait is None else time.monotonic() + limits.wait

    def pause(self) -> float:
        """Return the rest of the pause in seconds; 0 if there is none.

        :raises Limited: the pause ends too late.
        """
        pause = self._limits.pauses.left(self._question.scope)
        if pause and time.monotonic() + pause > self._ends:
            generation = self._limits.agent.generation
            wait = math.ceil(pause * 1e9)
            raise Limited(Decision(False, "limited", generation, retry_after_ns=wait))
        return pause

    def wait(self) -> float:
        """Return how long the request may still wait in line."""
        return max(0, self._ends - time.monotonic())

    def may_go(self, decision: Decision) -> bool:
        """Tell whether no pause has begun meanwhile. If one has, take nothing.

        :raises Limited: the request is refused.
        """
        if not decision:
            raise Limited(decision)
        if not self._limits.pauses.left(self._question.scope):
            return True
        decision.release()
        decision.settle(nothing_of(self._question.cost))
        return False


class _Stream(httpx.SyncByteStream):
    """Body of a response, which holds slots until it is closed."""

    def __init__(self, stream: Any, decision: Decision) -> None:
        self._stream = stream
        self.decision = decision

    def __iter__(self) -> Iterator[bytes]:
        yield from self._stream

    def close(self) -> None:
        with self.decision:
            self._stream.close()


class _AsyncStream(httpx.AsyncByteStream):
    """Body of a response, which holds slots until it is closed."""

    def __init__(self, stream: Any, decision: Decision) -> None:
        self._stream = stream
        self.decision = decision

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._stream:
            yield part

    async def aclose(self) -> None:
        with self.decision:
            await self._stream.aclose()
