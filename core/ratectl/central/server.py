"""Calls of scripts on the server, from threads and from tasks, each with a deadline."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections import deque
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from ratectl.central.clients import client_of, task_client_of
from ratectl.central.failure import ServerFailed

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from ratectl.central.address import ServerAddress
    from ratectl.central.scripts import Call

__all__ = ["TaskServer", "ThreadServer"]

_PIPELINES: Final = 4
"""Pipelines under way for one event loop."""

_BATCH: Final = 128
"""Most calls in one pipeline."""

_LATE: Final = 0.005
"""Seconds after the deadline from which on the event loop has stood still."""

_SENTINEL: Final = re.compile(r"<redis\..*?\)> - ")
"""Description of a sentinel's client, of 500 characters and more, in an error of redis-py."""


class _Waiting:
    """A call of a task, and the future of its answer."""

    __slots__ = ("answer", "call", "sent")

    def __init__(self, call: Call, answer: asyncio.Future[Any]) -> None:
        self.call = call
        self.answer = answer
        self.sent = False
        """True once the server may run the script."""


class ThreadServer:
    """The server, for threads. Thread-safe."""

    def __init__(self, address: ServerAddress, deadline: float) -> None:
        """``deadline``: seconds for each step of the network: to connect, and to be answered."""
        self._address = address
        self._deadline = deadline
        self._client: Any = None
        self._opening = threading.Lock()

    def run(self, call: Call) -> Any:
        """Return the script's answer.

        :raises ServerFailed: there is none in time.
        """
        began = time.monotonic()
        try:
            client = self._client or self._opened()
            try:
                return client.evalsha(call.script.sha, len(call.keys), *call.keys, call.argument)
            except _no_script():
                if time.monotonic() - began > self._deadline:
                    raise TimeoutError("the server did not have the script") from None
                return client.eval(call.script.text, len(call.keys), *call.keys, call.argument)
        except Exception as error:  # noqa: BLE001  whatever fails, this process decides
            if _is_answer(error):
                self.drop()  # a replica, or a server that loads: the next one may be another
            raise _failed(self._address, error) from None

    def _opened(self) -> Any:
        if not self._opening.acquire(timeout=self._deadline):
            raise TimeoutError("another thread is connecting")
        try:
            if self._client is None:
                self._client = client_of(self._address, self._deadline)
            return self._client
        finally:
            self._opening.release()

    def drop(self) -> None:
        """Forget all connections; the next call connects again. They close when unused."""
        self._client = None

    def close(self) -> None:
        """Close all connections. Never raises."""
        client, self._client = self._client, None
        if client is not None:
            with suppress(Exception):  # the connections are gone
                client.close()


class TaskServer:
    """The server, for the tasks of one event loop: what they ask together goes in one pipeline."""

    def __init__(self, address: ServerAddress, deadline: float) -> None:
        """``deadline``: seconds for one call, from the first step on."""
        self._address = address
        self._deadline = deadline
        self._queue: deque[_Waiting] = deque()
        self._flushes: set[asyncio.Task[None]] = set()
        self._client: Any = None
        self._life: AsyncGenerator[Any] | None = None

    async def run(self, call: Call, late: Callable[[], object]) -> Any:
        """Return the script's answer.

        ``late`` is called after a call that nobody waited for: it may have been answered.

        :raises ServerFailed: there is none in time.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()
        waiting = _Waiting(call, answer)
        self._queue.append(waiting)
        if len(self._flushes) < _PIPELINES:
            task = loop.create_task(self._flush())
            self._flushes.add(task)
            task.add_done_callback(self._flushes.discard)
        due = loop.time() + self._deadline
        try:
            await asyncio.wait((answer,), timeout=self._deadline)
            if not answer.done() and loop.time() - due > _LATE:
                # The loop itself stood still: the answer may be there, unread.
                await asyncio.wait((answer,), timeout=self._deadline)
        finally:
            if not waiting.sent:
                answer.cancel()  # the script never runs
            elif not answer.done():
                answer.add_done_callback(
                    lambda done: (done.cancelled() or done.exception(), late())
                )
        if not answer.done() or answer.cancelled():
            raise ServerFailed(f"no answer within {self._deadline * 1e3:g} ms")
        return answer.result()

    async def _flush(self) -> None:
        """Send what waits, until nothing does."""
        while self._queue:
            batch = [self._queue.popleft() for _ in range(min(_BATCH, len(self._queue)))]
            try:
                client = self._client or await self._opened()
                batch = [waiting for waiting in batch if not waiting.answer.done()]
                for waiting in batch:
                    waiting.sent = True
                answers = await self._sent(client, [waiting.call for waiting in batch])
            except BaseException as error:
                self._tell(batch, [error] * len(batch))
                if not isinstance(error, Exception):
                    raise
            else:
                self._tell(batch, answers)

    def _tell(self, batch: Sequence[_Waiting], answers: Sequence[Any]) -> None:
        for waiting, answer in zip(batch, answers, strict=True):
            if waiting.answer.done():
                continue
            if isinstance(answer, BaseException):
                waiting.answer.set_exception(_failed(self._address, answer))
            else:
                waiting.answer.set_result(answer)

    async def _sent(self, client: Any, calls: list[Call]) -> list[Any]:
        answers = await self._round(client, [_by_sha(call) for call in calls])
        unknown = [at for at, answer in enumerate(answers) if isinstance(answer, _no_script())]
        if unknown:
            again = await self._round(client, [_by_text(calls[at]) for at in unknown])
            for at, answer in zip(unknown, again, strict=True):
                answers[at] = answer
        if any(_is_answer(answer) for answer in answers):
            await self.close()
        return answers

    async def _round(self, client: Any, commands: list[tuple[Any, ...]]) -> list[Any]:
        if self._address.kind == "cluster":  # its pipelines run no scripts
            sent = [client.execute_command(*command) for command in commands]
            return await asyncio.gather(*sent, return_exceptions=True)
        pipeline = client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        answers: list[Any] = await pipeline.execute(raise_on_error=False)
        return answers

    async def _opened(self) -> Any:
        """Return the client. The loop closes it at its own end, as it does all generators."""
        if self._client is None:
            self._client = task_client_of(self._address, self._deadline)
            self._life = self._living(self._client)
            await anext(self._life)
        return self._client

    async def _living(self, client: Any) -> AsyncGenerator[None]:
        """Yield once, and close the client at the end."""
        try:
            yield
        finally:
            if self._client is client:
                self._client = self._life = None  # they refer to the loop, which would stay
            await client.aclose()
            manager = getattr(getattr(client, "connection_pool", None), "sentinel_manager", None)
            for sentinel in () if manager is None else manager.sentinels:
                await sentinel.aclose()

    async def close(self) -> None:
        """Close the connections; a later call opens new ones."""
        life = self._life
        self._client = self._life = None
        if life is not None:
            await life.aclose()


def _by_sha(call: Call) -> tuple[Any, ...]:
    return "EVALSHA", call.script.sha, len(call.keys), *call.keys, call.argument


def _by_text(call: Call) -> tuple[Any, ...]:
    return "EVAL", call.script.text, len(call.keys), *call.keys, call.argument


def _no_script() -> type[Exception]:
    kind: type[Exception] = import_module("redis.exceptions").NoScriptError
    return kind


def _is_answer(error: object) -> bool:
    """Return True for an error that the server answered with."""
    return isinstance(error, import_module("redis.exceptions").ResponseError)


def _failed(address: ServerAddress, error: BaseException) -> ServerFailed:
    if isinstance(error, ServerFailed):
        return error
    told = _SENTINEL.sub("", str(error))
    text = f"{type(error).__name__}: {told}" if told else type(error).__name__
    return ServerFailed(address.hidden(f"{address.text}: {text}"[:500]))
