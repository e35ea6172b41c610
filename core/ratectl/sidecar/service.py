"""Envoy's Rate Limit Service: bytes of a request to bytes of its answer."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from ratectl.agent.log import log
from ratectl.central.charge import give_back
from ratectl.sidecar.answers import Answers
from ratectl.sidecar.questions import Question, questions_of, scope_of
from ratectl.sidecar.wire import decode_request, encode_response

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ratectl.agent import Agent
    from ratectl.sidecar.answers import Asked
    from ratectl.sidecar.messages import Request, Response

__all__ = ["METHOD", "SERVICE", "RateLimitService"]

SERVICE: Final = "envoy.service.ratelimit.v3.RateLimitService"
METHOD: Final = f"/{SERVICE}/ShouldRateLimit"

_MOST_KNOWN: Final = 1_000
_LONGEST_KNOWN: Final = 256
"""Characters."""


class RateLimitService:
    """Answers requests of Envoy by the limits of an agent."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._answers = Answers(agent)
        self._scopes: dict[bytes, str] = {}
        self._names: dict[bytes, str] = {}
        self.negative_hits = 0
        """Descriptors whose hits should have been given back, which nobody does."""

    def decide(self, data: bytes) -> bytes:
        """Answer a request. May wait for a server that counts a limit (``across: redis``).

        :raises WireError: the bytes are no request.
        :raises InvalidRequest: it has no domain, or no descriptor.
        """
        agent = self._agent
        if not agent.asks_server:
            found = agent._engine.rls(data, self._scopes, self._names, self._answers.told)  # noqa: SLF001
            if isinstance(found, bytes):
                return found
            if found is not None:
                decision, scope, attributes, cost = found
                asked = Question(scope, attributes, cost), decision
                return encode_response(self._answers.response([asked]))
        request = decode_request(data)
        answer = self.answer(request)
        self._learn(request)
        return encode_response(answer)

    def _learn(self, request: Request) -> None:
        """Remember the texts that requests have in common, for the compiled core."""
        keys = [key for descriptor in request.descriptors for key, _ in descriptor.entries]
        for texts, known in (([request.domain], self._scopes), (keys, self._names)):
            for text in texts:
                if len(known) >= _MOST_KNOWN:
                    known.clear()  # they are no texts in common
                if len(text) <= _LONGEST_KNOWN:
                    meant = scope_of(text) if known is self._scopes else sys.intern(text)
                    known[text.encode("utf-8", "surrogateescape")] = meant

    def answer(self, request: Request) -> Response:
        """Charge all descriptors, or none.

        :raises InvalidRequest: the request has no domain, or no descriptor.
        """
        questions = questions_of(request)
        if None in questions:
            self._note_negative(questions.count(None))
        asked: list[Asked | None] = []
        try:
            for question in questions:
                decided = question and (question, self._agent.check_blocking(*question))
                asked.append(decided)
        except BaseException:
            self._give_back(asked)
            raise
        if any(each is not None and not each[1] for each in asked):
            self._give_back(asked)
            asked = [self._looked_at(each) for each in asked]
        return self._answers.response(asked)

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

    def _note_negative(self, count: int) -> None:
        if not self.negative_hits:
            log.warning(
                "Envoy gives hits back (is_negative_hits), also of requests that were refused: "
                "they are ignored"
            )
        self.negative_hits += count
