"""Envoy's Rate Limit Service: bytes of a request to bytes of its answer."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from ratectl.agent.log import log
from ratectl.central.charge import give_back
from ratectl.sidecar.answers import Answers
from ratectl.sidecar.mapping import EnvoyMapping
from ratectl.sidecar.questions import Question, questions_of
from ratectl.sidecar.refunds import Refunds
from ratectl.sidecar.wire import decode_request, encode_response, encode_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ratectl.agent import Agent
    from ratectl.engine.api import Engine, Tell
    from ratectl.engine.cost import Cost
    from ratectl.engine.decision import Decision
    from ratectl.sidecar.answers import Asked
    from ratectl.sidecar.mapping import Plan
    from ratectl.sidecar.messages import Request, Response

__all__ = ["METHOD", "SERVICE", "RateLimitService"]

SERVICE: Final = "envoy.service.ratelimit.v3.RateLimitService"
METHOD: Final = f"/{SERVICE}/ShouldRateLimit"

_T = TypeVar("_T")
_MOST_KNOWN: Final = 1_000
_LONGEST_KNOWN: Final = 256
"""Characters."""


class RateLimitService:
    """Answers requests of Envoy by the limits of an agent."""

    def __init__(self, agent: Agent, mapping: EnvoyMapping | None = None) -> None:
        self._agent = agent
        self._answers = Answers(agent)
        self._refunds = Refunds()
        self._routes = self._routes_by(mapping or EnvoyMapping())
        self.negative_hits = 0
        """Descriptors whose hits were to be given back, and were not: nothing was charged for such
        a request, or it is not known."""
        self._has_told = False
        """True once the log says that hits are ignored."""

    def map_by(self, mapping: EnvoyMapping) -> None:
        """Use another mapping from now on."""
        self._routes = self._routes_by(mapping)

    def _routes_by(self, mapping: EnvoyMapping) -> _Routes:
        return _Routes(mapping, self._agent._engine, self._answers.told)  # noqa: SLF001

    def decide(self, data: bytes) -> bytes:
        """Answer a request. May wait for a server that counts a limit (``across: redis``).

        :raises WireError: the bytes are no request.
        :raises InvalidRequest: it has no domain, or no descriptor.
        """
        routes = self._routes
        if not self._agent.asks_server:
            found = routes.decide(data)
            if isinstance(found, bytes):
                return found
            if found is not None:
                asked = _asked_of(found, data, routes.mapping)
                return encode_response(self._all_or_nothing(asked))
        request = decode_request(data)
        answer = self.answer(request)
        routes.learn(request)
        return encode_response(answer)

    def answer(self, request: Request) -> Response:
        """Charge all descriptors, or none.

        :raises InvalidRequest: the request has no domain, or no descriptor.
        """
        asked: list[Asked | None] = []
        try:
            for question in questions_of(request, self._routes.mapping):
                decided = None if question is None else self._asked(question)
                asked.append(decided)
        except BaseException:
            self._give_back(asked)
            raise
        return self._all_or_nothing(asked)

    def _all_or_nothing(self, asked: Sequence[Asked | None]) -> Response:
        """Answer what was decided. If a descriptor was refused, give back what others charged."""
        refused = [each[0] for each in asked if each is not None and not each[1]]
        if refused:
            for question in refused:
                self._charge_refusal(question)
            self._give_back(asked)
            asked = [self._looked_at(each) for each in asked]
        else:
            for each in asked:
                if each is not None:
                    self._refunds.note(*each)
        return self._answers.response(asked)

    def _asked(self, question: Question) -> Asked | None:
        """Return the question with its decision; None if it gives back what was charged."""
        scope, attributes, cost, *_ = question
        if question.gives_back:
            if not self._refunds.give_back(question):
                self._note_negative(question)
            return None
        if question.is_late:
            self._agent.charge(scope, attributes, cost)
            question = question._replace(cost=0)  # nothing of it is given back
        return question, self._agent.check_blocking(scope, attributes, question.cost)

    def _charge_refusal(self, question: Question) -> None:
        """Charge what was refused, where the mapping wants that."""
        if question.charges_refusal:
            self._agent.charge(question.scope, question.attributes, question.cost)

    def _give_back(self, asked: Sequence[Asked | None]) -> None:
        for each in asked:
            if each is not None:
                give_back(each[1], each[0].cost)  # a refusal has charged nothing

    def _looked_at(self, each: Asked | None) -> Asked | None:
        """Return what is true after the charges were given back: a look, which charges nothing."""
        if each is None or not each[1]:
            return each
        question = each[0]
        look = self._agent.check_blocking(question.scope, question.attributes, 0)
        return (question, look) if look else each

    def _note_negative(self, question: Question) -> None:
        self.negative_hits += 1
        if question.request is None and not self._has_told:
            self._has_told = True
            log.warning(
                "Envoy gives hits back (is_negative_hits), also of requests that were refused: "
                "they are ignored, as the mapping names no `correlation` for this domain"
            )


def _asked_of(
    found: Sequence[tuple[Decision, str, dict[str, str], Cost]], data: bytes, mapping: EnvoyMapping
) -> list[Asked | None]:
    """Return the questions that the compiled core has decided, with their decisions."""
    decisions = [each[0] for each in found]
    if mapping.charges_refused and not all(decisions):
        questions = questions_of(decode_request(data), mapping)
    else:
        questions = [Question(scope, attributes, cost) for _, scope, attributes, cost in found]
    return [each and (each, made) for each, made in zip(questions, decisions, strict=True)]


class _Routes:
    """A mapping, and what the compiled core needs of it."""

    __slots__ = ("decide", "mapping", "plans")

    def __init__(self, mapping: EnvoyMapping, engine: Engine, tell: Tell) -> None:
        self.mapping = mapping
        self.plans: dict[bytes, Plan] = {}
        """Plans of domains that requests have named."""
        self.decide = partial(engine.rls, self.plans, tell)

    def learn(self, request: Request) -> None:
        """Remember the domain and the keys of a request for the compiled core."""
        domain = self.mapping.domain(request.domain)
        if domain.core is None:
            return
        plan = self.plans.get(encode_text(request.domain))
        if plan is None:
            plan = domain.core
            _remember(self.plans, request.domain, plan)
        names = plan[1]
        for descriptor in request.descriptors:
            for key, _ in descriptor.entries:
                _remember(names, key, sys.intern(domain.attributes.get(key, key)))


def _remember(known: dict[bytes, _T], text: str, meant: _T) -> None:
    if len(known) >= _MOST_KNOWN:
        known.clear()  # they are no texts in common
    if len(text) <= _LONGEST_KNOWN:
        known[encode_text(text)] = meant
