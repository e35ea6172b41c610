"""Central limits of one agent: which ones a request meets, and their decisions.

Local limits decide first. What they charged is given back if the server refuses, so that a request
is charged everywhere or nowhere.
"""

from __future__ import annotations

import os
from itertools import count
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ratectl.central.answer import admission, both, read_answer, refusal
from ratectl.central.charge import OnServer, charge_on, charged, give_back, refused, slots_of
from ratectl.central.failure import ServerFailed
from ratectl.central.question import counts_of, decision_call
from ratectl.engine.api import PlanSet

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ratectl.central.answer import Answer
    from ratectl.central.fallback import Fallback
    from ratectl.central.question import Question, Slots
    from ratectl.central.scripts import Call
    from ratectl.central.service import Service
    from ratectl.engine.api import Engine, ScopePlan
    from ratectl.engine.cost import Cost
    from ratectl.engine.decision import Decision

__all__ = ["Asked", "CentralLimits"]

_NO_ADDRESS: Final = (
    "limits across: redis count in this process alone: set RATECTL_REDIS_URL to the server's URL, "
    "like redis://10.0.0.5:6379/0 (docs/redis.md)"
)

_TRIES: Final = 2
"""Calls of one decision: a second one names other calendar windows."""

_NO_WINDOW: Final = "no calendar window holds the server's time"


class Asked(NamedTuple):
    """A request that meets central limits."""

    question: Question
    plans: PlanSet
    scope: str
    attributes: Mapping[str, str]
    cost: Cost
    all_shadow: bool
    """True if the kill switch makes all limits only count."""


class CentralLimits:
    """Central limits in force, and who counts them: the server, or this process. Thread-safe."""

    def __init__(
        self,
        engine: Engine,
        fallback: Fallback,
        service: Service | None,
        *,
        silent: bool = False,
    ) -> None:
        """``service``: the server; None: this process counts alone. ``silent``: that is meant."""
        self.any = False
        """True if any limit of the policies in force is a central one."""
        self._engine = engine
        self._fallback = fallback
        self._service = service
        self._silent = silent
        self._problem: Callable[[str | None], object] | None = None
        self.changed: Callable[[], object] | None = None
        """Called when ``any`` has changed."""
        self._plans: tuple[PlanSet, ...] = (PlanSet(0),)
        """Plans of the generation in force, and of the one before: a decision may still have it."""
        self._requests = count(1)
        self._id = os.urandom(6).hex()

    def follow(self, plans: PlanSet | None) -> None:
        """Use these central limits from the next decision of their generation on; None: none."""
        self._plans = plans or PlanSet(0), *self._plans[:1]
        self._found(plans is not None or self.any)

    def followed(self) -> None:
        """Note that the engine has the generation of ``follow``: earlier ones are over."""
        self._fallback.keep_up(self._plans[0], self._live)
        self._found(bool(self._plans[0].generation))

    def _found(self, is_any: bool) -> None:
        self.any = is_any
        if self.changed is not None:
            self.changed()
        if self._service is not None:
            self._service.needed(is_any)
        self._note_alone()

    def belong_to(self, environment: str | None) -> None:
        """Count for this environment, apart from others on the same server."""
        if self._service is not None:
            self._service.belong_to(environment)

    def report_to(self, problem: Callable[[str | None], object]) -> None:
        """Tell ``problem`` why this process counts alone, and with None of the end of that."""
        self._problem = problem
        if self._service is not None:
            self._service.problem = problem
        self._note_alone()

    @property
    def is_configured(self) -> bool:
        """True if the address of a server is known."""
        return self._service is not None

    def _note_alone(self) -> None:
        if self._service is None and not self._silent and self._problem is not None:
            self._problem(_NO_ADDRESS if self.any else None)

    # Questions ----------------------------------------------------------------------------------

    def plan(self, scope: str) -> ScopePlan | None:
        """Return the central limits that govern a scope now; None if there are none."""
        plan = self._plans[0].find(scope)
        return plan if plan is not None and plan.limits else None

    def met_by(
        self, scope: str, attributes: Mapping[str, str], cost: Cost, generation: int
    ) -> Asked | None:
        """Return the central limits of a request; None if it meets none.

        ``cost``: a checked one. May run code of the attributes.
        """
        waiver = self._engine.waived(scope)
        if waiver == "open":
            return None
        plans = next((each for each in self._plans if each.generation == generation), None)
        plan = None if plans is None else plans.find(scope)
        if plans is None or plan is None:
            return None
        question = counts_of(plan, attributes, cost, self._prefix)
        if question is None:
            return None
        if type(attributes) is dict:  # the caller may use it for another request meanwhile
            attributes = attributes.copy()
        return Asked(question, plans, scope, attributes, cost, waiver == "shadow")

    @property
    def _prefix(self) -> str:
        return "" if self._service is None else self._service.prefix

    # Deciding -----------------------------------------------------------------------------------

    def decide(self, local: Decision, asked: Asked) -> Decision:
        """Return the decision of a request that local limits have admitted. Waits for the server.

        :raises Exception: attributes or an engine failed; ``local`` is given back.
        """
        try:
            service = self._service
            if service is not None and not service.breaker.is_open:
                try:
                    return self._decided(local, asked, service)
                except ServerFailed as error:
                    service.breaker.failed(error)
            return self._here(local, asked)
        except BaseException:
            give_back(local, asked.cost)
            raise

    def _decided(self, local: Decision, asked: Asked, service: Service) -> Decision:
        request = self._new_id()
        for _ in range(_TRIES):
            call, freed = self._call(asked, request, service)
            try:
                raw = service.keeper.server.run(call)
            except BaseException:  # also of a signal handler: it may have been decided
                self._abandon(asked, request, service)
                raise
            answer = self._read(asked, raw, service, freed)
            if answer is not None:
                return self._made(local, asked, answer, request, service)
        raise ServerFailed(_NO_WINDOW)

    async def decide_in_task(self, local: Decision, asked: Asked) -> Decision:
        """Return the decision as ``decide`` does, without blocking the event loop."""
        try:
            service = self._service
            if service is not None and not service.breaker.is_open:
                try:
                    return await self._decided_in_task(local, asked, service)
                except ServerFailed as error:
                    service.breaker.failed(error)
            return self._here(local, asked)
        except BaseException:  # also the end of a task that nobody waits for
            give_back(local, asked.cost)
            raise

    async def _decided_in_task(self, local: Decision, asked: Asked, service: Service) -> Decision:
        request = self._new_id()
        server = service.for_tasks()
        for _ in range(_TRIES):
            call, freed = self._call(asked, request, service)
            raw = await server.run(call, lambda: self._abandon(asked, request, service))
            answer = self._read(asked, raw, service, freed)
            if answer is not None:
                return self._made(local, asked, answer, request, service)
        raise ServerFailed(_NO_WINDOW)

    def _call(self, asked: Asked, request: str, service: Service) -> tuple[Call, list[Slots]]:
        """Return the call that decides a request, and the slots that it frees."""
        counts, wall = asked.question.counts, service.wall_us()
        freed = service.keeper.to_free(count.name for count in counts)
        return decision_call(counts, request, wall, freed, all_shadow=asked.all_shadow), freed

    def _read(self, asked: Asked, raw: Any, service: Service, freed: list[Slots]) -> Answer | None:
        """Return the answer; None if the call has to be repeated with the server's time."""
        answer = read_answer(asked.question.counts, raw)
        now = answer if isinstance(answer, int) else answer.now
        service.heard(now)
        if isinstance(answer, int):
            return None
        service.keeper.are_free(freed)
        service.breaker.succeeded()
        return answer

    def _made(
        self, local: Decision, asked: Asked, answer: Answer, request: str, service: Service
    ) -> Decision:
        scope, cost = asked.scope, asked.cost
        if not answer.admitted:
            give_back(local, cost)
            return refused(refusal(answer, local.generation), scope, cost)
        decision = admission(local, answer)
        on_server = OnServer(service, asked.question, answer, request)
        return charged(decision, scope, cost, (local,), on_server)

    def _here(self, local: Decision, asked: Asked) -> Decision:
        """Decide by this process's part of the limits."""
        own = self._fallback.decide(
            asked.plans, self._live, asked.scope, asked.attributes, asked.cost
        )
        if not own.allowed and not asked.all_shadow:
            give_back(local, asked.cost)
            return own
        return charged(both(local, own), asked.scope, asked.cost, (local, own))

    def charge(self, asked: Asked) -> None:
        """Charge a request that is over, whatever is left. Never waits.

        The server does it soon; while it fails, this process's part is charged.
        """
        service = self._service
        if service is not None and not service.breaker.is_open:
            charge_on(service, asked.question)
        else:
            self._fallback.charge(
                asked.plans, self._live, asked.scope, asked.attributes, asked.cost
            )

    @property
    def _live(self) -> int:
        """Live processes, as far as that is known."""
        return 1 if self._service is None else self._service.keeper.live or 1

    def _new_id(self) -> str:
        return f"{self._id}{next(self._requests):x}"

    def _abandon(self, asked: Asked, request: str, service: Service) -> None:
        """Free slots that a call may have taken whose answer nobody got."""
        for slots in slots_of(asked.question.counts, request):
            service.keeper.free(slots)

    # The end ------------------------------------------------------------------------------------

    def close(self) -> None:
        """Leave the server. Decisions go on; the server is asked no more."""
        if self._service is not None:
            self._service.close()

    def in_child(self) -> None:
        """Use new connections and another name in a forked child."""
        self._id = os.urandom(6).hex()
        self._fallback.after_fork_in_child()
        if self._service is not None:
            self._service.in_child()
