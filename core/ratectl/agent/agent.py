"""The agent: limits enforced inside a process, kept up to date from a store or a directory."""

from __future__ import annotations

import asyncio
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Final, Literal, Self

from ratectl.agent.arguments import environment_of, id_of, keys_of, source_of, state_dir_of
from ratectl.agent.following import Settings, follow
from ratectl.agent.log import log
from ratectl.agent.processes import belongs
from ratectl.engine import open_engine
from ratectl.engine.buckets.table import DEFAULT_MAX_BYTES
from ratectl.engine.decision import Decision
from ratectl.errors import UsageError
from ratectl.signing.signatures import Trust

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from types import TracebackType

    from ratectl.agent.state import AgentStatus
    from ratectl.engine.api import Request

__all__ = ["Agent"]


_NOTHING: Final[Mapping[str, str]] = {}
_LOG_ERRORS_EVERY: Final = 60.0
_LOOK_AGAIN: Final = (0.005, 0.1)
"""Seconds between looks for a free slot: at first, and at most."""
_LONGEST_SLEEP: Final = 0.5
"""Seconds in which one who waits for his turn notices that nobody has to."""


class Agent:
    """Decides requests by the live policies of a store. Safe across threads, asyncio and fork.

    >>> agent = Agent("sqlite:///rates.db")                                # doctest: +SKIP
    >>> if not agent.check("/payments/checkout", {"tenant": "acme"}): ...  # doctest: +SKIP

    Decisions never wait on I/O: threads of its own follow the store, and what they cannot reach or
    will not accept leaves the policies in force as they are. Counts are those of this process.
    """

    def __init__(
        self,
        source: str | os.PathLike[str],
        *,
        id: str | None = None,  # noqa: A002  the word that users and records use
        on_error: Literal["allow", "deny"] = "allow",
        state_dir: str | os.PathLike[str] | None = None,
        ready_timeout: float = 2.0,
        report_interval: float = 2.0,
        max_bytes: int = DEFAULT_MAX_BYTES,
        public_keys: Sequence[str | os.PathLike[str]] | None = None,
        environment: str | None = None,
    ) -> None:
        """Start following ``source``: a store's URL, or a directory of YAML for development.

        ``id``: how it appears in ``ratectl agents``; made up and remembered when not given.
        ``on_error``: the answer while nothing is loaded, or when the limiter itself fails (a
        policy's own ``on_error`` comes first).
        ``state_dir``: where last-good and the id are kept (default ``$XDG_STATE_HOME/ratectl``).
        ``ready_timeout``: seconds to wait for the first policies when none are on disk.
        ``report_interval``: seconds between usage reports.
        ``max_bytes``: what its buckets may take in memory.
        ``public_keys``: files with the keys (PEM) of those whom it obeys: heads that none of them
        has signed are refused then (see ``signing``). Without, it obeys whatever the store says.
        ``environment``: with ``public_keys``, the identity that the store must have; otherwise that
        of the first head that it accepts.

        :raises UsageError: an argument cannot be used.
        :raises PolicyError: ``source`` is a directory that does not validate.
        """
        if on_error not in ("allow", "deny"):
            raise UsageError(f"on_error is 'allow' or 'deny', not {on_error!r}")
        if not report_interval >= 0.05:  # which a NaN is not either
            raise UsageError("report_interval is at least 0.05 seconds")
        self._allow_on_error = on_error == "allow"
        self._errors = 0
        self._error_logged = 0.0
        self._failed_last: tuple[float, str] | None = None
        """When a decision failed last (monotonic), and why."""
        self._closing = False
        """Whether anybody has begun to close it: a forked child follows nothing then."""
        self._closed = False
        self._closes = threading.RLock()
        open_new = partial(open_engine, time.monotonic_ns, max_bytes=max_bytes)
        self._engine = open_new()
        self._engine.guard(self._failed, self._unready)
        if type(self).check is Agent.check:
            # The engine's own function: where it is compiled, no Python stands before it.
            self.check = self._engine.check  # type: ignore[method-assign,assignment]
        settings = Settings(
            source=source_of(source),
            wanted_id=id_of(id),
            state_dir=state_dir_of(state_dir),
            report_interval=report_interval,
            trust=Trust.load(keys_of(public_keys), environment_of(environment)),
            open_engine=open_new,
            errors=lambda: self._errors,
            failing=self._failing,
        )
        self._following = follow(settings, self._engine)
        try:
            self._following.start()
            belongs(self)
            if not self.generation and not self.wait_ready(ready_timeout):
                self._say_waiting()
        except BaseException:  # whoever interrupts has no agent to close
            self.close()
            raise

    def _say_waiting(self) -> None:
        """Log that nothing is in force, where no problem that was logged says why."""
        if not self.status.problems:
            log.warning("%s", self.status.error)

    # Deciding -----------------------------------------------------------------------------------

    def check(
        self, scope: str, attributes: Mapping[str, str] = _NOTHING, cost: int = 1
    ) -> Decision:
        """May this request pass? Charges every limit of ``scope`` or, when refused, none.

        Where limits count what goes on at the same time, say when it is over: ``release()`` the
        decision, or use it as a context manager.

        ``cost``: units the request takes (0 only looks). Never blocks, and never raises for a
        failure of the limiter: ``on_error`` answers then.

        :raises UsageError: ``cost`` is negative or not an integer.
        """
        return self._engine.check(scope, attributes, cost)

    def check_many(self, requests: Iterable[Request]) -> list[Decision]:
        """Decide requests in order, all as of one reading of the clock.

        Each is ``(scope, attributes)`` or ``(scope, attributes, cost)``. They are decided one by
        one: a refused request does not undo those before it. Fails open like ``check``.

        :raises UsageError: an entry is something else, or its cost is no cost.
        """
        return self._engine.check_many(requests)

    def gate(self, scope: str, *names: str, cost: int = 1) -> Callable[..., bool]:
        """``check`` for hot loops: a function of the values of these attributes, for one scope.

        It takes the values in order, None for an absent one, and answers True or False. It goes on
        across reloads, like ``check``, and fails open like it. Slots of concurrency limits cannot
        be released through a gate, and are freed after their ``hold``.

        >>> admits = agent.gate("/payments/checkout", "tenant")  # doctest: +SKIP
        >>> if not admits("acme"): ...                           # doctest: +SKIP

        :raises UsageError: ``cost`` is negative or not an integer.
        """
        return self._engine.gate(scope, *names, cost=cost)

    async def acquire(
        self,
        scope: str,
        attributes: Mapping[str, str] = _NOTHING,
        cost: int = 1,
        *,
        timeout: float | None = None,
    ) -> Decision:
        """Wait until the request may pass, at most ``timeout`` seconds.

        Returns the refusal when it never will, or would only after the timeout. For a slot of a
        concurrency limit it looks again every 5 to 100 ms, in no order among those who wait.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        pause, longest = _LOOK_AGAIN
        while True:
            decision = self.check(scope, attributes, cost)
            if decision or decision.reason != "limited":
                return decision
            wait = decision.retry_after
            if wait is None:
                wait, pause = pause, min(2 * pause, longest)
            if deadline is not None and time.monotonic() + wait > deadline:
                return decision
            await self._sleep(scope, wait)

    async def _sleep(self, scope: str, seconds: float) -> None:
        """Until the time is over, or nobody has to wait any more."""
        while seconds > 0 and not self._engine.waived(scope):
            step = min(seconds, _LONGEST_SLEEP)
            await asyncio.sleep(step)
            seconds -= step

    def _unready(self) -> Decision:
        self._errors += 1
        return Decision(self._allow_on_error, "error", 0, retry_after_ns=None)

    def _failing(self) -> str | None:
        """Return what to say of decisions that fail; None where none did within the last minute."""
        failed = self._failed_last
        if failed is None or time.monotonic() - failed[0] > _LOG_ERRORS_EVERY:
            return None
        return f"decisions fail, and on_error answers them: {failed[1]}"

    def _failed(self, scope: str, error: Exception) -> Decision:
        self._errors += 1
        self._failed_last = time.monotonic(), _text_of(error)
        if time.monotonic() - self._error_logged > _LOG_ERRORS_EVERY or self._errors == 1:
            self._error_logged = time.monotonic()
            log.error("deciding %r failed, on_error answers", scope, exc_info=error)
        allowed = self._allow_on_error
        try:
            plan = self._engine.plan(scope)
            if plan is not None:
                allowed = plan.allow_on_error
        except Exception:  # noqa: BLE001  a scope that is not even a string
            log.debug("no plan for %r", scope)
        allowed = allowed or self._engine.waived(scope) is not None
        return Decision(allowed, "error", self._engine.generation, retry_after_ns=None)

    # Knowing ------------------------------------------------------------------------------------

    @property
    def id(self) -> str:
        """How this agent appears in ``ratectl agents``."""
        return self._following.id

    @property
    def status(self) -> AgentStatus:
        """Generation in force, connection, and the last trouble."""
        return self._following.state.now

    @property
    def generation(self) -> int:
        """Generation in force; 0 before any."""
        return self._following.state.now.generation

    def wait_ready(self, timeout: float | None = None) -> bool:
        """Wait (seconds) until any generation is in force; False on time-out."""
        return self.wait_for_generation(1, timeout)

    def wait_for_generation(self, generation: int, timeout: float | None = None) -> bool:
        """Wait (seconds) until at least ``generation`` is in force; False on time-out."""
        return self._following.state.wait_for_generation(generation, timeout)

    # Living -------------------------------------------------------------------------------------

    def close(self) -> None:
        """Stop following; decisions go on with what is in force. Safe to call twice.

        Not for signal handlers: ``sys.exit()`` there is enough, as agents are closed at exit.
        """
        self._closing = True
        if self._closed or self._closes._is_owned():  # type: ignore[attr-defined]  # noqa: SLF001
            return
        if self._following.runs_here:
            # A finalizer may run amid a call of the store that is to be closed.
            threading.Thread(target=self.close, name="ratectl-close", daemon=True).start()
            return
        with self._closes:
            if not self._closed:
                self._following.close()
                self._closed = True  # an exception before this leaves it to the next call

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.close()

    def _follow_in_child(self) -> None:
        if self._closing:
            self._closed = True  # its threads, store and record are those of the parent
            return
        try:
            self._following = self._following.in_child()
        except Exception as error:
            self._following.lost_in_child(error)
            raise


def _text_of(error: Exception) -> str:
    """Return an error as one text, in Unicode; its own code may fail."""
    name = type(error).__name__
    try:
        return f"{name}: {error}".encode("utf-8", "backslashreplace").decode()
    except Exception:  # noqa: BLE001  of what cannot be shown, too
        return f"a {name} that cannot be shown"
