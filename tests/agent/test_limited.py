"""The decorator ``agent.limited``: functions and coroutines."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import functools
import inspect
import pickle
import threading
from typing import TYPE_CHECKING, Any

import pytest

from agent.limited_support import POLICIES, is_free
from ratectl import Agent, Decision, FakeClock, Limited, UsageError
from ratectl.contrib.web import client_ip

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


@pytest.fixture
def agent() -> Iterator[Agent]:
    with Agent.from_policies(POLICIES, clock=FakeClock()) as agent:
        yield agent


# Functions ------------------------------------------------------------------------------------


def test_refused_call_raises_with_the_decision_and_does_not_run(agent: Agent) -> None:
    sent = []

    @agent.limited("/mail", {"tenant": lambda to: to.partition("@")[2]})
    def send(to: str) -> str:
        """Send."""
        sent.append(to)
        return f"sent to {to}"

    assert send("ada@acme") == "sent to ada@acme"
    send("bob@acme")
    with pytest.raises(Limited, match=r"refused by spike@/mail: retry after 1 s") as refused:
        send("eve@acme")
    assert refused.value.decision.retry_after == 1
    assert refused.value.transient
    send("ada@globex")
    agent.clock.advance(1)
    send("eve@acme")
    assert sent == ["ada@acme", "bob@acme", "ada@globex", "eve@acme"]
    assert (send.__name__, send.__doc__) == ("send", "Send.")
    assert list(inspect.signature(send).parameters) == ["to"]


def test_scope_attributes_cost_and_exempt_are_functions_of_the_arguments(agent: Agent) -> None:
    @agent.limited(
        scope=lambda kind, **_: f"/{kind}",
        attributes=lambda kind, **more: {"tenant": more["tenant"], "other": None},
        cost=lambda kind, **more: more["size"],
        exempt=lambda kind, **more: more["tenant"] == "root",
    )
    def send(kind: str, **more: Any) -> None: ...

    send("mail", tenant="acme", size=2)
    with pytest.raises(Limited):
        send("mail", tenant="acme", size=1)
    for _ in range(5):
        send("mail", tenant="root", size=1)


def test_fixed_texts_and_methods(agent: Agent) -> None:
    class Mailer:
        def __init__(self, tenant: str) -> None:
            self.tenant = tenant

        @agent.limited("/mail", {"tenant": lambda self: self.tenant}, cost=2)
        def send(self) -> str:
            return self.tenant

        @classmethod
        @agent.limited("/mail", {"tenant": "fixed"}, cost=2)
        def make(cls) -> str:
            return cls.__name__

    assert Mailer("acme").send() == "acme"
    assert Mailer("globex").send() == "globex"
    with pytest.raises(Limited):
        Mailer("acme").send()
    assert Mailer.make() == "Mailer"
    with pytest.raises(Limited):
        Mailer.make()


def test_slots_are_held_during_the_call_also_if_it_fails(agent: Agent) -> None:
    @agent.limited("/slots", {"tenant": "acme"})
    def work(fail: bool) -> bool:
        held = not is_free(agent)
        if fail:
            raise KeyError(held)
        return held

    assert work(False)
    assert is_free(agent)
    with pytest.raises(KeyError, match="True"):
        work(True)
    assert is_free(agent)


def test_refusals_tell_whether_waiting_helps(agent: Agent) -> None:
    @agent.limited("/mail", cost=3)
    def too_much() -> None: ...

    @agent.limited("/slots")
    def nested(depth: int) -> None:
        if depth:
            nested(depth - 1)

    with pytest.raises(Limited, match="spike@/mail: waiting does not help") as never:
        too_much()
    assert not never.value.transient
    with pytest.raises(Limited, match="slots@/slots: retry later"):
        nested(1)


def test_exception_can_be_pickled_and_copied(agent: Agent) -> None:
    error = Limited(agent.check("/mail", {}, cost=9))
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert str(twin) == str(error)
        assert isinstance(twin.decision, Decision)
        assert (twin.decision.reason, twin.transient) == ("never", False)


@pytest.mark.parametrize("cost", [1, 3])
def test_exception_of_a_text_is_that_refusal(agent: Agent, cost: int) -> None:
    agent.check("/mail", cost=2)
    error = Limited(agent.check("/mail", cost=cost))
    told = Limited(str(error))
    for twin in (told, pickle.loads(pickle.dumps(told)), copy.copy(told)):
        assert (str(twin), twin.transient) == (str(error), error.transient)
        assert twin.decision.reason == error.decision.reason
        assert (twin.decision.allowed, bool(twin.decision)) == (False, False)
        assert (twin.decision.limit, twin.decision.retry_after) == (None, None)


def test_threads_wait_in_line(agent: Agent) -> None:
    passed = []

    @agent.limited("/mail", wait=5)
    def send(number: int) -> None:
        passed.append(number)

    send(1)
    send(2)
    thread = threading.Thread(target=send, args=(3,))
    thread.start()
    while not len(agent._line):
        pass
    assert passed == [1, 2]
    agent.clock.advance(1)
    thread.join(5)
    assert passed == [1, 2, 3]


def test_wait_that_is_too_short_is_a_refusal(agent: Agent) -> None:
    @agent.limited("/mail", cost=2, wait=1.5)
    def send() -> None: ...

    send()
    with pytest.raises(Limited):
        send()


# Coroutines -----------------------------------------------------------------------------------


def test_coroutines_hold_slots_until_they_end_or_are_cancelled(agent: Agent) -> None:
    started = asyncio.Event()

    @agent.limited("/slots", {"tenant": lambda tenant: tenant})
    async def work(tenant: str) -> str:
        started.set()
        await asyncio.sleep(60 if tenant == "slow" else 0)
        if tenant == "bad":
            raise KeyError(tenant)
        return tenant

    async def run() -> None:
        assert await work("acme") == "acme"
        with pytest.raises(KeyError):
            await work("bad")
        assert is_free(agent, "bad")
        started.clear()
        task = asyncio.create_task(work("slow"))
        await started.wait()
        with pytest.raises(Limited):
            await work("slow")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert is_free(agent, "slow")

    assert inspect.iscoroutinefunction(work)
    asyncio.run(run())


def test_coroutines_wait_in_line_and_cancelled_ones_take_nothing(agent: Agent) -> None:
    @agent.limited("/mail", wait=None)
    async def send() -> int:
        return 1

    async def run() -> None:
        await send()
        await send()
        tasks = [asyncio.create_task(send()) for _ in range(3)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        await asyncio.sleep(0)
        for _ in range(2):
            agent.clock.advance(1)
            await asyncio.sleep(0.01)
        assert [await task for task in tasks[1:]] == [1, 1]

    asyncio.run(run())


def test_callable_objects_and_partials(agent: Agent) -> None:
    class Work:
        async def __call__(self) -> bool:
            return is_free(agent)

    async def work(number: int) -> bool:
        return is_free(agent)

    async def run(function: Any) -> bool:
        result: bool = await function()
        return result

    limited = agent.limited("/slots", {"tenant": "acme"})
    assert not asyncio.run(run(limited(Work())))
    assert not asyncio.run(run(limited(functools.partial(work, 1))))
    assert is_free(agent)


# Failures and wrong arguments -----------------------------------------------------------------


async def later(*_: Any) -> Any:
    """A coroutine in place of a function: as ``exempt`` it would be true for every call."""


@pytest.mark.parametrize("scope", ["/mail", "/closed"])
@pytest.mark.parametrize("wrong", ["attributes", "attribute", "cost", "value"])
def test_functions_that_fail_are_answered_by_on_error(
    agent: Agent, scope: str, wrong: str, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> Any:
        raise LookupError("no such user")

    arguments: dict[str, Any] = {
        "attributes": {"attributes": fail},
        "attribute": {"attributes": {"tenant": fail}},
        "cost": {"cost": fail},
        "value": {"cost": lambda: "many"},
    }[wrong]

    @agent.limited(scope, **arguments)
    def send() -> str:
        return "sent"

    if scope == "/mail":
        assert send() == "sent"
    else:
        with pytest.raises(Limited, match="the limiter failed and on_error is deny") as refused:
            send()
        assert refused.value.decision.reason == "error"
    assert "failed, on_error answers" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scope": "mail"}, "scope is a text like /mail"),
        ({"scope": "/", "attributes": "tenant"}, "attributes is a mapping"),
        ({"scope": "/", "attributes": {"tenant": 7}}, "'tenant' is a text or a function"),
        ({"scope": "/", "attributes": {"ip": client_ip()}}, "'ip' is a text or a function"),
        ({"scope": "/", "attributes": {7: "tenant"}}, "a name is a text, not 7"),
        ({"scope": "/", "cost": -1}, "cost"),
        ({"scope": "/", "exempt": ["ada"]}, "exempt is a function of the call"),
        ({"scope": later}, "scope is a coroutine"),
        ({"scope": "/", "exempt": later}, "exempt is a coroutine"),
        ({"scope": "/", "attributes": {"to": later}}, "attributes: 'to' is a coroutine"),
        ({"scope": "/", "cost": later}, "cost is a coroutine"),
        ({"scope": "/", "wait": -1}, "wait is a number of seconds"),
        ({"scope": "/", "wait": "5"}, "wait is a number of seconds"),
    ],
)
def test_wrong_arguments(agent: Agent, arguments: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        agent.limited(**arguments)


def test_it_decorates_functions_only(agent: Agent) -> None:
    def send(to: str) -> None: ...

    with pytest.raises(UsageError, match=r"write @agent\.limited\('/scope'\)"):
        agent.limited(send)("ada")  # type: ignore[arg-type, type-var]
    for wrong in (int, classmethod(send), staticmethod(send), property(send)):
        with pytest.raises(UsageError, match="below @classmethod, @staticmethod and @property"):
            agent.limited("/mail")(wrong)  # type: ignore[type-var]


def test_it_does_not_decorate_what_makes_context_managers(agent: Agent) -> None:
    def lines() -> Iterator[int]:
        yield 1

    async def async_lines() -> AsyncIterator[int]:
        yield 1

    for wrong in (contextlib.contextmanager(lines), contextlib.asynccontextmanager(async_lines)):
        with pytest.raises(UsageError, match="limited below @contextmanager"):
            agent.limited("/slots")(wrong)
    with contextlib.contextmanager(agent.limited("/slots", {"tenant": "acme"})(lines))():
        assert not is_free(agent)
    assert is_free(agent)


def test_functions_around_a_generator_or_a_context_manager_are_functions(agent: Agent) -> None:
    def listed(function: Any) -> Any:
        return functools.wraps(function)(lambda: list(function()))

    @agent.limited("/slots", {"tenant": "acme"})
    @listed
    def lines() -> Iterator[bool]:
        yield is_free(agent)

    @agent.limited("/slots", {"tenant": "acme"})
    @contextlib.contextmanager(lambda: iter([1]))()
    def work() -> bool:
        return is_free(agent)

    assert lines() == [False]
    assert not work()
