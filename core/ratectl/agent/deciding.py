"""Decisions of an agent: of several requests, and by limits that a server counts."""

from __future__ import annotations

import asyncio
import os
import random
import time
from typing import TYPE_CHECKING, Final

from ratectl.agent.waiting import checked_wait
from ratectl.central.charge import give_back
from ratectl.central.fallback import Fallback
from ratectl.central.limits import CentralLimits
from ratectl.engine.cost import checked_actual, checked_cost
from ratectl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from ratectl.agent.failures import Failures
    from ratectl.agent.wall_clock import WallClock
    from ratectl.central.limits import Asked
    from ratectl.central.service import Service
    from ratectl.engine.api import Engine, Request
    from ratectl.engine.cost import Cost
    from ratectl.engine.decision import Decision

__all__ = ["Deciding", "central_limits"]

_NOTHING: Final[Mapping[str, str]] = {}

_UNKNOWN: Final = 0.1
"""Seconds between two attempts of a request that waits for slots of others."""


def central_limits(
    url: str | None,
    deadline: float,
    engine: Engine,
    open_engine: Callable[[], Engine],
    wall: WallClock,
    *,
    fake: bool,
) -> CentralLimits:
    """Return the central limits of an agent; without an address, this process counts them alone.

    ``url``: that of the server; by default ``RATECTL_REDIS_URL``. ``deadline``: seconds for one
    decision. ``fake``: the clock is a fake one, so that no server is asked.

    :raises UsageError: an argument cannot be used, or redis-py is not installed.
    """
    is_number = isinstance(deadline, int | float) and not isinstance(deadline, bool)
    if not is_number or not 0.001 <= deadline <= 60:  # refuses NaN, too
        raise UsageError(f"redis_deadline is 0.001 to 60 seconds, not {deadline!r}")
    given = os.environ.get("RATECTL_REDIS_URL") or None if url is None else url
    service: Service | None = None
    if given is not None and (url is not None or not fake):
        if fake:
            raise UsageError("a fake clock moves no server: leave out redis, or the clock")
        # Most agents have no server, and begin faster without its parts.
        from ratectl.central.address import ServerAddress
        from ratectl.central.service import Service

        source = "RATECTL_REDIS_URL" if url is None else "redis"
        service = Service(ServerAddress.of(given, source), deadline, wall.time_ns)
    return CentralLimits(engine, Fallback(open_engine), service, silent=fake)


class Deciding:
    """Agent's ways to decide beside ``check``. Without central limits (``across: redis``), none of
    them waits."""

    _central: CentralLimits
    check: Callable[..., Decision]
    _engine: Engine
    _failures: Failures

    @property
    def asks_server(self) -> bool:
        """True if any limit in force is counted on a server (``across: redis``)."""
        return self._central.any

    async def acheck(
        self, scope: str, attributes: Mapping[str, str] = _NOTHING, cost: Cost = 1
    ) -> Decision:
        """Decide as ``check`` does, also by limits with ``across: redis``, which a server counts.

        Local limits decide first. If the server refuses, what they charged is given back. It waits
        for the server for at most ``redis_deadline``; if the server fails, this process counts its
        part of the limit. A request that meets no such limit is decided without I/O.

        :raises UsageError: ``check`` does not take ``cost``.
        """
        asked = self._locally(scope, attributes, cost)
        if not isinstance(asked, tuple):
            return asked
        try:
            return await self._central.decide_in_task(*asked)
        except Exception as error:  # noqa: BLE001  an engine failed
            return self._failures.failed(scope, error)

    def check_blocking(
        self, scope: str, attributes: Mapping[str, str] = _NOTHING, cost: Cost = 1
    ) -> Decision:
        """Decide like ``acheck``, in this thread. Not for event loops: it blocks.

        :raises UsageError: ``check`` does not take ``cost``.
        """
        asked = self._locally(scope, attributes, cost)
        if not isinstance(asked, tuple):
            return asked
        try:
            return self._central.decide(*asked)
        except Exception as error:  # noqa: BLE001  an engine failed
            return self._failures.failed(scope, error)

    def _locally(
        self, scope: str, attributes: Mapping[str, str], cost: Cost
    ) -> Decision | tuple[Decision, Asked]:
        """Return the decision of local limits; with the central ones to ask, if they admit it."""
        central = self._central
        if not central.any:
            return self.check(scope, attributes, cost)
        cost = checked_cost(cost)
        local = self._engine.check(scope, attributes, cost)
        if not local.allowed or local.reason in ("error", "no_policy"):
            return local
        try:
            asked = central.met_by(scope, attributes, cost, local.generation)
        except Exception as error:  # noqa: BLE001  attributes may raise anything
            give_back(local, cost)
            return self._failures.failed(scope, error)
        return local if asked is None else (local, asked)

    def check_many(self, requests: Iterable[Request]) -> list[Decision]:
        """Decide requests in order, all as of one reading of the clock.

        Each is ``(scope, attributes)`` or ``(scope, attributes, cost)``. They are decided one by
        one: a refused request does not undo those before it. If the limiter fails, ``on_error``
        answers, as for ``check``.

        :raises UsageError: an entry has another form, or a cost that ``check`` does not take.
        """
        return self._engine.check_many(self._refuse_many(requests))

    def gate(self, scope: str, *names: str, cost: Cost = 1) -> Callable[..., bool]:
        """Return a fast ``check`` for hot loops: a function of attribute values, for one scope.

        It takes the values in the order of ``names``, None for an absent one, and returns True or
        False. It stays valid across reloads. If the limiter fails, ``on_error`` answers. Slots of
        concurrency limits cannot be released through a gate: they are freed after their ``hold``.

        >>> admits = agent.gate("/payments/checkout", "tenant")  # doctest: +SKIP
        >>> if not admits("acme"): ...                           # doctest: +SKIP

        :raises UsageError: ``check`` does not take ``cost``.
        """
        gate = self._engine.gate(scope, *names, cost=cost)
        if not (self._central.is_configured or self._central.any):
            return gate
        return self._guarded_gate(scope, names, cost, gate)

    def charge(self, scope: str, attributes: Mapping[str, str] = _NOTHING, cost: Cost = 1) -> None:
        """Charge a request that is over, whatever is left: nobody was asked before it ran.

        For costs that a gateway reports afterwards. Buckets go below empty if necessary, and later
        requests, also those that only look (``cost=0``), wait. A mapping of units charges only the
        units that it names. Slots of concurrency limits are not held. It is not counted as a
        request in ``usage``. Where something knows the request from its beginning, ``reserve`` is
        better. Limits with ``across: redis`` are charged on their server soon; nobody waits for it.

        :raises UsageError: ``cost`` is no cost.
        """
        if not self._central.any:
            self._engine.charge(scope, attributes, cost)
            return
        cost = checked_actual(cost, 0)  # read once, for both
        self._engine.charge(scope, attributes, cost)
        asked = self._asked_of_central(scope, attributes, cost)
        if asked is not None:
            self._central.charge(asked)

    # Questions that no server answers -----------------------------------------------------------

    def _refuse_central(
        self, call: str, scope: str, attributes: Mapping[str, str] = _NOTHING, cost: Cost = 1
    ) -> None:
        """:raises UsageError: the request meets a central limit."""
        if not self._meets_central(scope, attributes, cost):
            return
        raise UsageError(
            f"{call} asks no server, and a limit of {scope!r} is counted on one (across: redis): "
            "use `await agent.acheck(…)`, or `agent.check_blocking(…)` in a thread"
        )

    def _meets_central(self, scope: str, attributes: Mapping[str, str], cost: Cost) -> bool:
        if not self._central.any:
            return False
        return self._asked_of_central(scope, attributes, checked_cost(cost)) is not None

    def _asked_of_central(
        self, scope: str, attributes: Mapping[str, str], cost: Cost
    ) -> Asked | None:
        """Return the central limits that a request meets.

        ``cost``: a checked one. A mapping counts a request only if it names ``requests``.
        """
        try:
            return self._central.met_by(scope, attributes, cost, self._engine.generation)
        except Exception:  # noqa: BLE001  the engine answers unreadable attributes
            return None

    def _refuse_many(self, requests: Iterable[Request]) -> tuple[Request, ...]:
        """Return requests to be decided together, which is not possible on a server.

        :raises UsageError: one meets a central limit.
        """
        kept = tuple(requests)
        for request in kept if self._central.any else ():
            if isinstance(request, tuple) and 1 <= len(request) <= 3:  # the engine refuses others
                self._refuse_central("check_many", *request)
        return kept

    def _guarded_gate(
        self, scope: str, names: tuple[str, ...], cost: Cost, gate: Callable[..., bool]
    ) -> Callable[..., bool]:
        """Return a gate that refuses to decide requests which meet a central limit."""

        def guarded(*values: str | None) -> bool:
            if self._central.any and len(values) == len(names):
                pairs = zip(names, values, strict=True)
                given = {name: value for name, value in pairs if value is not None}
                self._refuse_central("a gate", scope, given, cost)
            return gate(*values)

        return guarded

    # Waiting ------------------------------------------------------------------------------------

    async def _acquire_central(
        self, scope: str, attributes: Mapping[str, str], cost: Cost, wait: float | None
    ) -> Decision:
        """Ask until the request may pass, at most for ``wait`` seconds. Not in order of arrival."""
        until = _end_of(wait)
        while True:
            decision = await self.acheck(scope, attributes, cost)
            pause = _pause(decision, until)
            if pause is None:
                return decision
            await asyncio.sleep(pause)

    def _acquire_central_sync(
        self, scope: str, attributes: Mapping[str, str], cost: Cost, wait: float | None
    ) -> Decision:
        until = _end_of(wait)
        while True:
            decision = self.check_blocking(scope, attributes, cost)
            pause = _pause(decision, until)
            if pause is None:
                return decision
            time.sleep(pause)


def _end_of(wait: float | None) -> float | None:
    wait = checked_wait(wait)
    return None if wait is None else time.monotonic() + wait


def _pause(decision: Decision, until: float | None) -> float | None:
    """Return the seconds until the next attempt; None if there is none."""
    if decision.allowed or decision.reason != "limited":
        return None
    pause = decision.retry_after
    if pause is None:
        pause = _UNKNOWN
    pause += random.uniform(0, min(0.05, pause))  # noqa: S311  no secret
    if until is not None and time.monotonic() + (decision.retry_after or 0) > until:
        return None
    return pause if until is None else min(pause, max(0.001, until - time.monotonic()))
