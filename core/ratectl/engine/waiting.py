"""Attempts of requests that wait, and the buckets that they wait for.

The engine keeps no queues: it says whether a request may pass now, and which buckets can refuse it.
"""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from ratectl.engine.attributes import readable, with_all_read
from ratectl.engine.buckets.charges import nothing_charged
from ratectl.engine.buckets.place import Place
from ratectl.engine.cost import checked_cost
from ratectl.engine.keeping import KeepingEngine
from ratectl.engine.scopes import exact_scope
from ratectl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ratectl.engine.attributes import Attributes
    from ratectl.engine.cost import Cost
    from ratectl.engine.decision import Decision

__all__ = ["WaitingEngine"]


class WaitingEngine(KeepingEngine):
    """An engine without ``check``."""

    def attempt(
        self, scope: str, attributes: Mapping[str, str], cost: Cost = 1, now: int | None = None
    ) -> Decision:
        if type(cost) is not int or cost < 0:
            cost = checked_cost(cost)
        try:
            decided = self._attempt_in_one_step(scope, attributes, cost, now)
            if decided is None:
                scope = exact_scope(scope)
                decided = self._decide_alone(scope, readable(attributes), cost, now, waits=True)
            decision, at = decided
            self._with_units(cost, decision)
            if self._mirror is not None and (decision.allowed or decision.reason == "never"):
                self._show(scope, attributes, cost, at, decision)
            return decision
        except Exception as error:
            if self._failed is None or isinstance(error, UsageError):
                raise
            return self._failed(scope, error)

    def _attempt_in_one_step(
        self,
        scope: str,  # noqa: ARG002 - used by an engine that can do it
        attributes: Mapping[str, str],  # noqa: ARG002
        cost: Cost,  # noqa: ARG002
        now: int | None,  # noqa: ARG002
    ) -> tuple[Decision, int] | None:
        """Return the decision and its instant; None if it takes more than one step."""
        return None

    def places(
        self, scope: str, attributes: Mapping[str, str], cost: Cost = 1
    ) -> tuple[Place, ...]:
        cost = checked_cost(cost)
        try:
            if self._turns.turn & 1:
                self._await_turn()
            texts = readable(attributes)
            alone = partial(self._alone, self._places_now, exact_scope(scope), texts, cost)
            return with_all_read(texts, alone)
        except Exception:
            if self._failed is None:
                raise
            return ()  # the attempt fails too, and `on_error` answers it

    def _places_now(self, scope: str, attributes: Attributes, cost: Cost) -> tuple[Place, ...]:
        active = self._active[scope] if scope in self._active else self._activate(scope)
        if active is None or active.shadow:
            return ()
        asked, _ = active.of(attributes).asked(cost, attributes)
        groups = [of for of, _ in asked if not of.shadow]
        return tuple([Place(of, of.key(attributes)) for of in groups])

    def wait_at(self, place: Place) -> None:
        if self._may_wait():
            self._alone(self._count_wait, place)
        else:
            self._later.append(partial(self.wait_at, place))

    def _count_wait(self, place: Place) -> None:
        place.group.counters.waited += 1

    def give_up(
        self,
        place: Place,
        scope: str,
        attributes: Mapping[str, str],
        cost: Cost,
        decision: Decision,
    ) -> None:
        if not self._may_wait():
            self._later.append(partial(self.give_up, place, scope, attributes, cost, decision))
            return
        with suppress(Exception):  # of the attributes: without a key, there is nothing to count
            texts = readable(attributes)
            with_all_read(texts, partial(self._alone, self._count_refusal, place, texts))
        self._show(scope, attributes, cost, self._clock(), decision)

    def _count_refusal(self, place: Place, attributes: Attributes) -> None:
        if place.group.per:
            place.group.count_key(place.key, attributes)
        place.group.count_refusal(place.key, attributes, never=False)
        if place.group.lacks(attributes):
            place.group.counters.absent += 1

    def _show(
        self, scope: str, attributes: Mapping[str, str], cost: Cost, now: int, decision: Decision
    ) -> None:
        """Show a decision to the mirror. Keep a record of it if the mirror wants its release."""
        mirror = self._mirror
        if mirror is not None and mirror.decided(scope, attributes, cost, now, decision):
            charged = self._recall(decision)
            self._note(decision, charged or nothing_charged(self, cost))
