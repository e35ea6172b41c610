"""Rate limits for tasks of Celery: a task that is refused comes back later.

@app.task(base=Limited, agent=agent, ratectl={"scope": "/mail"})
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, ClassVar, Final

from celery import Task
from celery.exceptions import Reject, Retry

from ratectl.agent.call_limiter import CallLimiter
from ratectl.errors import Limited as Refused
from ratectl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ratectl.agent import Agent
    from ratectl.engine.decision import Decision

__all__ = ["Limited"]

_NAMES: Final = ("scope", "attributes", "cost", "exempt")
_DELAYS: Final = "ratectl_delays"
"""Header of a message: how often its task was delayed."""

_UNKNOWN: Final = 1.0
"""Delay (seconds) if it is not known when the task may run: others hold the slots."""

_LONGEST_SPREAD: Final = 60.0


class Limited(Task):  # type: ignore[misc]  # Celery has no types
    """Base of tasks that ask before they run. Slots are held until the task has ended.

    A refused task is sent again, to run after ``retry_after``; the worker goes on with others. That
    is no retry: ``max_retries`` does not count it. A task that can never pass fails with
    ``ratectl.Limited``. So does a refused task that was called directly, or eagerly.
    """

    abstract = True
    agent: ClassVar[Agent | None] = None
    ratectl: ClassVar[Mapping[str, Any] | None] = None
    """``scope``, ``attributes``, ``cost`` and ``exempt``, which may be functions of the arguments
    of the task (``attributes``: also a mapping of names to texts or functions). None: no limits."""
    _calls: ClassVar[CallLimiter | None] = None

    @classmethod
    def on_bound(cls, app: Any) -> None:
        """Read the limits of the task.

        :raises UsageError: an argument cannot be used.
        """
        super().on_bound(app)
        cls._calls = None if cls.ratectl is None else _calls_of(cls.name, cls.agent, cls.ratectl)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the task if it may pass."""
        run = super().__call__ if self.request.called_directly else self.run
        if self._calls is None:
            return run(*args, **kwargs)
        with self._calls.ask(*args, **kwargs) as decision:
            if not decision:
                self._refuse(decision)
            return run(*args, **kwargs)

    def _refuse(self, decision: Decision) -> None:
        """Send the task again, to run later.

        :raises Refused: it cannot run later.
        :raises Retry: always, for the worker.
        """
        request = self.request
        if request.called_directly or request.is_eager or decision.reason == "never":
            raise Refused(decision)
        headers = request.headers or {}
        delays = headers.get(_DELAYS, 0)
        delay = _delay(decision, delays)
        again = self.signature_from_request(
            request,
            countdown=delay,
            retries=request.retries,
            headers={**headers, _DELAYS: delays + 1},
        )
        try:
            again.apply_async()
        except Exception as error:
            raise Reject(error, requeue=False) from error  # as Celery's own retry does
        raise Retry(exc=Refused(decision), when=delay, sig=again)


def _delay(decision: Decision, delays: int) -> float:
    """Return a delay in seconds: never early, and spread more widely the more delays there were.

    Tasks that wait for the same limit would otherwise all come back at once, for one to pass.
    """
    least = decision.retry_after or _UNKNOWN
    spread = min(least * (2 ** min(delays, 16) - 1), _LONGEST_SPREAD)
    return least + random.uniform(0, spread)  # noqa: S311  no secret


def _calls_of(name: str | None, agent: Agent | None, given: Mapping[str, Any]) -> CallLimiter:
    wrong = [key for key in given if key not in _NAMES]
    if agent is None:
        problem = "it has no agent: write @app.task(base=Limited, agent=agent, …)"
    elif wrong:
        problem = f"ratectl has {', '.join(_NAMES)}, not {wrong[0]!r}"
    elif "scope" not in given:
        problem = "ratectl has no scope: write {'scope': '/mail'}"
    else:
        try:
            return CallLimiter(agent, **given)
        except UsageError as error:
            problem = str(error)
    raise UsageError(f"task {name}: {problem}")
