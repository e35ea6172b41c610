"""The decorator ``agent.limited``: generators and async generators."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from typing import TYPE_CHECKING, Any

import pytest

from agent.limited_support import POLICIES, is_free
from ratectl import Agent, FakeClock, Limited

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


@pytest.fixture
def agent() -> Iterator[Agent]:
    with Agent.from_policies(POLICIES, clock=FakeClock()) as agent:
        yield agent


def test_generators_ask_at_their_first_value_and_hold_slots_until_their_end(agent: Agent) -> None:
    @agent.limited("/slots", {"tenant": "acme"})
    def lines() -> Iterator[Any]:
        got = yield 1
        try:
            yield got
        except KeyError as error:
            yield error.args[0]
        return "end"

    assert inspect.isgeneratorfunction(lines)
    values: Any = lines()
    assert is_free(agent)
    assert next(values) == 1
    assert not is_free(agent)
    with pytest.raises(Limited):
        next(lines())
    assert values.send("sent") == "sent"
    assert values.throw(KeyError("thrown")) == "thrown"
    with pytest.raises(StopIteration) as end:
        next(values)
    assert end.value.value == "end"
    assert is_free(agent)
    values = lines()
    next(values)
    values.close()
    assert is_free(agent)
    next(lines())  # dropped
    assert is_free(agent)


def test_async_generators_take_values_and_exceptions_and_close(agent: Agent) -> None:
    closed = []

    @agent.limited("/slots", {"tenant": "acme"})
    async def lines() -> AsyncIterator[Any]:
        try:
            got = yield 1
            try:
                yield got
            except KeyError as error:
                yield error.args[0]
        finally:
            closed.append(is_free(agent))

    async def run() -> None:
        values: Any = lines()
        assert is_free(agent)
        assert await anext(values) == 1
        with pytest.raises(Limited):
            await anext(lines())
        assert await values.asend("sent") == "sent"
        assert await values.athrow(KeyError("thrown")) == "thrown"
        with pytest.raises(StopAsyncIteration):
            await anext(values)
        assert is_free(agent)
        values = lines()
        await anext(values)
        await values.aclose()
        assert is_free(agent)
        values = lines()
        await anext(values)
        with pytest.raises(ZeroDivisionError):
            await values.athrow(ZeroDivisionError)
        assert is_free(agent)

    assert inspect.isasyncgenfunction(lines)
    asyncio.run(run())
    assert closed == [False, False, False]


def test_context_manager_of_a_limited_async_generator_sees_exceptions(agent: Agent) -> None:
    seen = []

    @contextlib.asynccontextmanager
    @agent.limited("/slots", {"tenant": "acme"})
    async def session() -> AsyncIterator[int]:
        try:
            yield 1
        except KeyError:
            seen.append(is_free(agent))

    async def run() -> None:
        async with session():
            raise KeyError

    asyncio.run(run())
    assert seen == [False]
    assert is_free(agent)
