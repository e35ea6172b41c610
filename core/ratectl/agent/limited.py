"""The decorator ``agent.limited``: each call of a function asks the agent."""

from __future__ import annotations

import functools
import inspect
from contextlib import aclosing, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar

from ratectl.errors import Limited, UsageError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator

    from ratectl.agent.call_limiter import CallLimiter

__all__ = ["limited"]

F = TypeVar("F", bound="Callable[..., Any]")


def limited(calls: CallLimiter, function: F) -> F:
    """Return a function that asks before each call, and holds slots until the call has ended.

    A generator asks when its first value is wanted, and holds its slots until it ends.

    :raises UsageError: it is no function.
    """
    if not callable(function) or isinstance(function, type | staticmethod):
        raise UsageError(
            f"limited decorates a function, not {function!r}: write @agent.limited('/scope'), and "
            "put it below @classmethod, @staticmethod and @property"
        )
    if getattr(function, "__code__", None) in _MANAGERS:
        raise UsageError(
            f"{function!r} makes context managers, and returns before their block runs: put "
            "limited below @contextmanager"
        )
    return functools.wraps(function)(_wrapper_of(function)(calls, function))  # type: ignore[return-value]


def _code_of(decorator: Any) -> object:
    """Return the code of the functions that a decorator returns."""
    return decorator(_code_of).__code__


_MANAGERS: Final = frozenset({_code_of(contextmanager), _code_of(asynccontextmanager)})


def _wrapper_of(function: Callable[..., Any]) -> Callable[..., Any]:
    for kind in (function, getattr(function, "__call__", None)):  # noqa: B004  its own kind
        if inspect.iscoroutinefunction(kind):
            return _coroutine
        if inspect.isasyncgenfunction(kind):
            return _async_generator
        if inspect.isgeneratorfunction(kind):
            return _generator
    return _plain


def _plain(calls: CallLimiter, function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        with calls.ask(*args, **kwargs) as decision:
            if not decision:
                raise Limited(decision)
            return function(*args, **kwargs)

    return call


def _coroutine(calls: CallLimiter, function: Callable[..., Any]) -> Callable[..., Any]:
    async def call(*args: Any, **kwargs: Any) -> Any:
        with await calls.ask_in_task(*args, **kwargs) as decision:
            if not decision:
                raise Limited(decision)
            return await function(*args, **kwargs)

    return call


def _generator(calls: CallLimiter, function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        with calls.ask(*args, **kwargs) as decision:
            if not decision:
                raise Limited(decision)
            return (yield from function(*args, **kwargs))

    return call


def _async_generator(calls: CallLimiter, function: Callable[..., Any]) -> Callable[..., Any]:
    async def call(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        with await calls.ask_in_task(*args, **kwargs) as decision:
            if not decision:
                raise Limited(decision)
            async with aclosing(function(*args, **kwargs)) as values:
                step = anext(values)
                while True:  # `yield from`, which async generators lack
                    try:
                        value = await step
                    except StopAsyncIteration:
                        return
                    try:
                        step = values.asend((yield value))
                    except GeneratorExit:
                        raise
                    except BaseException as error:  # noqa: BLE001  it is for the inner generator
                        step = values.athrow(error)

    return call
