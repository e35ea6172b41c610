"""Questions to an agent about calls of functions: scope, attributes and cost.

The decorator ``limited`` and the adapters that are not for the web share these arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple, TypeAlias

from ratectl.agent.waiting import checked_wait
from ratectl.engine.cost import checked_cost
from ratectl.engine.decision import Decision
from ratectl.errors import UsageError

if TYPE_CHECKING:
    from ratectl.agent.agent import Agent
    from ratectl.engine.cost import Cost

__all__ = [
    "Attributes", "CallLimiter", "Question", "Source", "functions_in", "refuse_coroutines",
]  # fmt: skip

Source: TypeAlias = "str | Callable[..., object]"
"""Value of an attribute: a fixed text, or a function of the call. None: the call lacks it."""

Attributes: TypeAlias = "Mapping[str, Source] | Callable[..., Mapping[str, Any]] | None"

_EXEMPT: Final = Decision(True, "no_policy", 0)


class Question(NamedTuple):
    """Question to an agent about one call."""

    scope: str
    attributes: Mapping[str, Any]
    cost: Cost


class CallLimiter:
    """Asks an agent about calls, as the arguments of a decorator or an adapter say. Thread-safe."""

    _fixed: ClassVar[tuple[type, ...]] = (str,)
    """Types of sources of attributes that are no functions; an adapter may know more."""

    def __init__(
        self,
        agent: Agent,
        scope: str | Callable[..., str],
        attributes: Attributes = None,
        cost: Cost | Callable[..., Cost] = 1,
        exempt: Callable[..., bool] | None = None,
        wait: float | None = 0,
    ) -> None:
        """Functions are called with the arguments of each call.

        ``scope``: a text or a function. ``attributes``: a fixed text or a function for each, or one
        function that returns all; None is left out. ``cost``: that of each call, or a function.
        ``exempt``: a function; calls for which it is true are not limited. ``wait``: seconds to
        wait in line instead of being refused; None: without limit.

        :raises UsageError: an argument cannot be used.
        """
        _check_arguments(agent, scope, attributes, exempt, self._fixed)
        refuse_coroutines(functions_in(scope, attributes, cost, exempt))
        self.agent = agent
        self.wait = checked_wait(wait)
        self._scope = scope if callable(scope) else _always(scope)
        self._cost = cost if callable(cost) else _always(checked_cost(cost))
        self._exempt = exempt
        self._all: Callable[..., Mapping[str, Any]] | None = None
        self._each: list[tuple[str, Any]] = []
        if callable(attributes):
            self._all = attributes
        else:
            self._each = list((attributes or {}).items())

    def ask(self, *args: Any, **kwargs: Any) -> Decision:
        """Decide a call; it may wait in this thread. A failure is answered by ``on_error``."""
        question = self.question(*args, **kwargs)
        if isinstance(question, Decision):
            return question
        if self.wait == 0:
            check = self.agent.check_blocking if self.agent.asks_server else self.agent.check
            return check(*question)
        return self.agent.acquire_sync(*question, wait=self.wait)

    async def ask_in_task(self, *args: Any, **kwargs: Any) -> Decision:
        """Decide a call like ``ask``; it may wait in this task."""
        question = self.question(*args, **kwargs)
        if isinstance(question, Decision):
            return question
        if self.wait == 0:
            if self.agent.asks_server:
                return await self.agent.acheck(*question)
            return self.agent.check(*question)
        return await self.agent.acquire(*question, wait=self.wait)

    def question(self, *args: Any, **kwargs: Any) -> Question | Decision:
        """Return what to ask about a call; the answer, if it is exempt or a function fails."""
        scope = "/"
        try:
            if self._exempt is not None and self._exempt(*args, **kwargs):
                return _EXEMPT
            scope = self._scope(*args, **kwargs)
            attributes = self._attributes(scope, args, kwargs)
            return Question(scope, attributes, checked_cost(self._cost(*args, **kwargs)))
        except Exception as error:  # noqa: BLE001  a function of the user's may raise anything
            return self.agent.failed(scope, error)

    def _attributes(self, scope: str, args: Any, kwargs: Any) -> Mapping[str, Any]:
        if self._all is not None:
            values = dict(self._all(*args, **kwargs))
        else:
            values = {n: self._value(source, scope, args, kwargs) for n, source in self._each}
        return {name: value for name, value in values.items() if value is not None}

    def _value(self, source: Any, scope: str, args: Any, kwargs: Any) -> object:  # noqa: ARG002
        return source(*args, **kwargs) if callable(source) else source


def functions_in(
    scope: object, attributes: object, cost: object, exempt: object
) -> dict[str, object]:
    """Return what was given by name, with each source of the attributes."""
    given = {"scope": scope, "attributes": attributes, "cost": cost, "exempt": exempt}
    if isinstance(attributes, Mapping):
        given |= {f"attributes: {name!r}": source for name, source in attributes.items()}
    return given


def refuse_coroutines(given: Mapping[str, object]) -> None:
    """Refuse functions that would let everything pass: a coroutine is true, and no two are equal.

    :raises UsageError: one is a coroutine.
    """
    for name, function in given.items():
        call = getattr(function, "__call__", None)  # noqa: B004  of an object with an async call
        if iscoroutinefunction(function) or iscoroutinefunction(call):
            raise UsageError(f"{name} is a coroutine, which nobody awaits: write a plain function")


def _always(value: Any) -> Callable[..., Any]:
    return lambda *_, **__: value


def _check_arguments(
    agent: object, scope: object, attributes: object, exempt: object, fixed: tuple[type, ...]
) -> None:
    if not callable(getattr(agent, "check", None)):
        raise UsageError(f"agent is a ratectl.Agent, not {agent!r}")
    if not callable(scope) and not (isinstance(scope, str) and scope.startswith("/")):
        raise UsageError(f"scope is a text like /mail, or a function of the call, not {scope!r}")
    if attributes is not None and not callable(attributes):
        _check_mapping(attributes, fixed)
    if exempt is not None and not callable(exempt):
        raise UsageError(f"exempt is a function of the call, not {exempt!r}")


def _check_mapping(attributes: object, fixed: tuple[type, ...]) -> None:
    if not isinstance(attributes, Mapping):
        raise UsageError(
            "attributes is a mapping of names to texts or functions of the call, or one function "
            f"that returns all, not {attributes!r}"
        )
    for name, source in attributes.items():
        if not isinstance(name, str):
            raise UsageError(f"attributes: a name is a text, not {name!r}")
        if not isinstance(source, fixed) and not callable(source):
            raise UsageError(
                f"attributes: {name!r} is a text or a function of the call, not {source!r}"
            )
