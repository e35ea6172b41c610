"""Tasks of Celery with limits: in a real worker on a broker in memory, eagerly, and directly."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import contextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import pytest
from celery import Celery, chain, signals
from celery.contrib.testing.worker import start_worker
from celery.exceptions import Reject
from celery.signals import task_retry

from ratectl import Agent, Decision, FakeClock, Limited, UsageError
from ratectl.contrib import celery as adapter
from ratectl.contrib.celery import Limited as LimitedTask

if TYPE_CHECKING:
    from collections.abc import Iterator

POLICIES = """\
apiVersion: ratectl/v1
scope: /mail
limits: {spike: {rate: 5/s, burst: 1, per: tenant}}
---
apiVersion: ratectl/v1
scope: /slots
limits: {slots: {algorithm: concurrency, max: 1}}
---
apiVersion: ratectl/v1
scope: /closed
on_error: deny
---
apiVersion: ratectl/v1
scope: /never
limits: {none: {rate: 0/s}}
"""
MAIL = {"scope": "/mail", "attributes": {"tenant": lambda to: to.partition("@")[2]}}


@pytest.fixture
def agent() -> Iterator[Agent]:
    """Yield an agent in real time, as Celery's delays are real."""
    with Agent.from_policies(POLICIES) as agent:
        yield agent


@pytest.fixture
def still_agent() -> Iterator[Agent]:
    with Agent.from_policies(POLICIES, clock=FakeClock()) as agent:
        yield agent


def new_app(**settings: Any) -> Celery:
    app = Celery("tests", broker="memory://", backend="cache+memory://", set_as_current=False)
    app.conf.update(
        broker_connection_retry_on_startup=False,
        broker_transport_options={"polling_interval": 0.01},
        **settings,
    )
    return app


@contextmanager
def working(app: Celery) -> Iterator[None]:
    """Run a worker with three threads."""
    try:
        with start_worker(
            app, pool="threads", concurrency=3, perform_ping_check=False, shutdown_timeout=20
        ):
            yield
    finally:
        logging.captureWarnings(False)  # Celery turns it on


@signals.setup_logging.connect
def leave_logging_alone(**_: Any) -> None:
    """Keep Celery from replacing the handlers of the tests after these ones."""


def is_free(agent: Agent) -> bool:
    deadline = time.monotonic() + 10
    while agent.check("/slots", cost=0).remaining == 0:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


# In a worker ----------------------------------------------------------------------------------


def test_refused_tasks_run_later_and_others_go_on(agent: Agent) -> None:
    app, begin = new_app(), time.monotonic()
    reasons: list[Any] = []

    @app.task(shared=False, base=LimitedTask, agent=agent, ratectl=MAIL, max_retries=0, bind=True)
    def send(self: Any, to: str) -> tuple[float, int]:
        return time.monotonic() - begin, self.request.retries

    def retried(reason: Any, **_: Any) -> None:
        reasons.append(reason)

    task_retry.connect(retried)
    with working(app):
        slow = [send.delay("ada@acme") for _ in range(3)]
        other = send.delay("bob@globex")
        assert other.get(timeout=20)[0] < 0.2 + slow[0].get(timeout=20)[0]
        times = sorted(result.get(timeout=20)[0] for result in slow)
    assert times[2] - times[0] >= 0.39  # two refills at 5/s
    assert {result.get()[1] for result in slow} == {0}
    assert reasons
    assert all(isinstance(reason.exc, Limited) for reason in reasons)
    assert all(reason.when >= reason.exc.decision.retry_after for reason in reasons)


def test_slots_are_held_until_the_task_has_ended(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapter, "_UNKNOWN", 0.05)
    app, running, most = new_app(), [0], [0]
    lock = threading.Lock()

    @app.task(shared=False, base=LimitedTask, agent=agent, ratectl={"scope": "/slots"})
    def work(fail: bool) -> str:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        time.sleep(0.05)
        with lock:
            running[0] -= 1
        if fail:
            raise KeyError("an error of the application")
        return "done"

    with working(app):
        results = [work.delay(number == 1) for number in range(4)]
        outcomes = [result.get(timeout=30, propagate=False) for result in results]
    assert most == [1]
    assert outcomes.count("done") == 3
    assert isinstance(outcomes[1], KeyError)
    assert is_free(agent)


def test_delayed_task_keeps_its_place_in_a_chain_and_its_own_retries(agent: Agent) -> None:
    app, tries = new_app(), []

    @app.task(shared=False, base=LimitedTask, agent=agent, ratectl=MAIL, bind=True, max_retries=2)
    def send(self: Any, to: str) -> str:
        tries.append(self.request.retries)
        if len(tries) < 3:
            raise self.retry(countdown=0)
        return to

    @app.task(shared=False)
    def shout(text: str) -> str:
        return text.upper()

    with working(app):
        assert agent.check("/mail", {"tenant": "acme"})
        assert chain(send.s("ada@acme"), shout.s())().get(timeout=30) == "ADA@ACME"
    assert tries == [0, 1, 2]


def test_delays_are_counted_from_message_to_message(still_agent: Agent) -> None:
    app, delays = new_app(), []

    @app.task(shared=False, base=LimitedTask, agent=still_agent, ratectl=MAIL)
    def send(to: str) -> str:
        return to

    def retried(reason: Any, **_: Any) -> None:
        delays.append(reason.sig.options["headers"]["ratectl_delays"])
        if len(delays) == 3:
            still_agent.clock.advance(1)

    assert still_agent.check("/mail", {"tenant": "acme"})
    task_retry.connect(retried)
    with working(app):
        assert send.delay("ada@acme").get(timeout=30) == "ada@acme"
    assert delays == [1, 2, 3]


def test_task_whose_message_cannot_be_sent_is_rejected(
    still_agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    @new_app().task(shared=False, base=LimitedTask, agent=still_agent, ratectl={"scope": "/slots"})
    def work() -> None: ...

    def fail(*_: Any, **__: Any) -> None:
        raise OSError("no broker")

    monkeypatch.setattr("celery.canvas.Signature.apply_async", fail)
    work.push_request(called_directly=False, args=(), kwargs={})
    with still_agent.check("/slots"), pytest.raises(Reject):
        work()
    work.pop_request()
    assert is_free(still_agent)


def test_task_that_can_never_pass_fails(agent: Agent) -> None:
    app = new_app()

    @app.task(shared=False, base=LimitedTask, agent=agent, ratectl={"scope": "/never"})
    def work() -> None: ...

    with working(app):
        failure = work.delay().get(timeout=20, propagate=False)
    assert str(failure) == "refused by none@/never: waiting does not help"
    assert isinstance(failure, Limited)
    assert (failure.transient, failure.decision.reason) == (False, "never")
    assert not failure.decision


@pytest.mark.parametrize("serializer", ["json", "pickle", "yaml"])
def test_callers_get_the_refusal_of_any_backend(still_agent: Agent, serializer: str) -> None:
    backend = new_app(result_serializer=serializer, accept_content=[serializer]).backend
    refusals = [Limited(still_agent.check(scope, cost=9)) for scope in ("/mail", "/never")]
    for error in [*refusals, Limited(Decision(False, "error", 1))]:
        twin = backend.exception_to_python(
            backend.decode(backend.encode(backend.prepare_exception(error)))
        )
        assert isinstance(twin, Limited)
        assert (str(twin), twin.transient) == (str(error), error.transient)
        assert twin.decision.reason == error.decision.reason


# Eagerly and directly -------------------------------------------------------------------------


def test_eager_and_direct_calls_are_refused(still_agent: Agent) -> None:
    app = new_app(task_always_eager=True, task_eager_propagates=True)

    @app.task(shared=False, base=LimitedTask, agent=still_agent, ratectl=MAIL)
    def send(to: str) -> str:
        return to

    assert send.delay("ada@acme").get() == "ada@acme"
    with pytest.raises(Limited, match=r"spike@/mail: retry after 0\.2 s"):
        send.delay("ada@acme")
    with pytest.raises(Limited):
        send("ada@acme")
    still_agent.clock.advance(0.2)
    assert send("ada@acme") == "ada@acme"


@pytest.mark.parametrize("how", ["__call__", "delay"])
def test_slots_are_released_after_an_error(still_agent: Agent, how: str) -> None:
    app = new_app(task_always_eager=True, task_eager_propagates=True)

    @app.task(shared=False, base=LimitedTask, agent=still_agent, ratectl={"scope": "/slots"})
    def work() -> None:
        raise KeyError(still_agent.check("/slots", cost=0).remaining)

    with pytest.raises(KeyError, match="0"):
        getattr(work, how)()
    assert is_free(still_agent)


def test_scope_cost_and_exempt_are_functions_of_the_arguments(still_agent: Agent) -> None:
    app = new_app()
    limits = {
        "scope": lambda kind, **_: f"/{kind}",
        "cost": lambda kind, size, free=False: size,
        "exempt": lambda kind, free=False, **_: free,
    }

    @app.task(shared=False, base=LimitedTask, agent=still_agent, ratectl=limits)
    def work(kind: str, size: int, free: bool = False) -> str:
        return kind

    assert work("mail", size=1) == "mail"
    with pytest.raises(Limited):
        work("mail", size=1)
    with pytest.raises(Limited, match="waiting does not help"):
        work("mail", size=2)
    assert work("mail", size=2, free=True) == "mail"


def test_tasks_without_limits_run(still_agent: Agent) -> None:
    @new_app().task(shared=False, base=LimitedTask)
    def work() -> str:
        return "done"

    assert [work() for _ in range(3)] == ["done"] * 3


def test_one_base_for_many_tasks(still_agent: Agent) -> None:
    class Base(LimitedTask):
        agent = still_agent
        ratectl = MappingProxyType({"scope": "/mail"})

    @new_app().task(shared=False, base=Base)
    def work() -> str:
        return "done"

    assert work() == "done"
    with pytest.raises(Limited):
        work()


# Failures and wrong arguments -----------------------------------------------------------------


def test_failures_are_answered_by_on_error(still_agent: Agent) -> None:
    def fail(*_: Any) -> str:
        raise LookupError("no such user")

    app = new_app()

    @app.task(
        shared=False, base=LimitedTask, agent=still_agent, ratectl={**MAIL, "attributes": fail}
    )
    def send(to: str) -> str:
        return to

    @app.task(
        shared=False,
        base=LimitedTask,
        agent=still_agent,
        ratectl={"scope": "/closed", "cost": fail},
    )
    def work() -> None: ...

    assert send("ada@acme") == "ada@acme"
    with pytest.raises(Limited, match="the limiter failed"):
        work()


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({}, "ratectl has no scope"),
        ({"scope": "mail"}, "scope is a text like /mail"),
        ({"scope": "/", "wait": 5}, "ratectl has scope, attributes, cost, exempt, not 'wait'"),
        ({"scope": "/", "attributes": 7}, "attributes is a mapping"),
    ],
)
def test_wrong_arguments(still_agent: Agent, limits: Any, message: str) -> None:
    app = new_app()

    @app.task(shared=False, base=LimitedTask, agent=still_agent, ratectl=limits)
    def work() -> None: ...

    with pytest.raises(UsageError, match=rf"task .*work: {message}"):
        app.finalize()


def test_missing_agent() -> None:
    app = new_app()

    @app.task(shared=False, base=LimitedTask, ratectl={"scope": "/"})
    def work() -> None: ...

    with pytest.raises(UsageError, match="it has no agent: write"):
        app.finalize()


def test_delays_are_never_early_and_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.uniform", lambda least, most: most)
    soon = Decision(False, "limited", 1, "spike", "/", retry_after_ns=2_000_000_000)
    assert [adapter._delay(soon, delays) for delays in (0, 1, 2, 5, 10**9)] == [2, 4, 8, 62, 62]
    unknown = Decision(False, "limited", 1, "slots", "/", retry_after_ns=None)
    assert [adapter._delay(unknown, delays) for delays in (0, 1)] == [1, 2]
