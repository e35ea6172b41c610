"""Charges of an admitted request, here and on the server: its release and its settlement."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from ratectl.central.question import Slots, correction
from ratectl.engine.cost import REQUESTS, checked_actual, cost_in, nothing_of
from ratectl.engine.explanation import explanation_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ratectl.central.answer import Answer
    from ratectl.central.question import Count, Question
    from ratectl.central.service import Service
    from ratectl.engine.cost import Cost
    from ratectl.engine.decision import Decision
    from ratectl.engine.explanation import Explanation

__all__ = [
    "Charge", "Charger", "OnServer", "charge_on", "charged", "give_back", "refused", "slots_of",
]  # fmt: skip

_NOTE: Final = "a server counts some of the limits: what these have left now is not known here"


class OnServer(NamedTuple):
    """Charges of a request on the server."""

    service: Service
    question: Question
    answer: Answer
    request: str


class Charge:
    """Record of an admitted request: decisions of engines here, and charges on the server."""

    __slots__ = ("cost", "on_server", "parts", "released", "scope", "settled")

    def __init__(
        self,
        scope: str,
        cost: Cost,
        parts: tuple[Decision, ...],
        on_server: OnServer | None = None,
    ) -> None:
        self.scope = scope
        self.cost = cost
        self.parts = parts
        self.on_server = on_server
        self.released = False
        self.settled: dict[str, tuple[int, int]] = {}
        """Units that were settled: the cost as settled last, and the least that it ever was."""


class Charger:
    """Releases, settles and explains decisions that have a ``Charge``."""

    def release(self, decision: Decision) -> None:
        """Free the slots of a request, here at once and on the server soon. Never waits."""
        charge = _charge_of(decision)
        if charge is None or charge.released:
            return
        charge.released = True
        for part in charge.parts:
            part.release()
        made = charge.on_server
        if made is not None:
            for slots in slots_of(list(_charged(made)), made.request):
                made.service.keeper.free(slots)

    def settle(self, decision: Decision, actual: Cost) -> None:
        """Correct the cost of a request, here at once and on the server soon. Never waits.

        :raises UsageError: ``actual`` is no cost; or it is an integer after a mapping of units.
        """
        charge = _charge_of(decision)
        actual = checked_actual(actual, 0 if charge is None else charge.cost)
        if charge is None:
            return
        for part in charge.parts:
            part.settle(actual)
        if charge.on_server is not None:
            units = {REQUESTS: actual} if isinstance(actual, int) else actual
            changes = [
                change for unit, cost in units.items() for change in _changes(charge, unit, cost)
            ]
            if changes:
                made = charge.on_server
                made.service.keeper.correct(
                    correction(changes, made.answer.now, made.service.wall_us())
                )

    def explain_decision(self, decision: Decision) -> Explanation:
        """Return what the decision itself says."""
        charge = _charge_of(decision)
        asked = decision._asked  # noqa: SLF001
        scope = charge.scope if charge is not None else asked[1] if asked else None
        return explanation_of(decision, scope, _NOTE)


_CHARGER: Final = Charger()


def charged(
    decision: Decision,
    scope: str,
    cost: Cost,
    parts: tuple[Decision, ...],
    on_server: OnServer | None = None,
) -> Decision:
    """Return the decision with the charges of its request. ``parts``: those of engines here."""
    decision._charged = (_CHARGER, Charge(scope, cost, parts, on_server))  # noqa: SLF001
    return decision


def refused(decision: Decision, scope: str, cost: Cost) -> Decision:
    """Return a refusal that can be explained."""
    decision._asked = (_CHARGER, scope, None, cost, (), None)  # noqa: SLF001
    return decision


def charge_on(service: Service, question: Question) -> None:
    """Charge a request that is over, whatever is left, on the server soon. Never waits."""
    for count in question.counts:
        if count.cost and not count.plan.algorithm.holds:
            service.keeper.charge(count)


def give_back(local: Decision, cost: Cost) -> None:
    """Give back all that a decision of an engine has charged. ``cost``: the checked one."""
    local.release()
    local.settle(nothing_of(cost))


def slots_of(counts: Sequence[Count], request: str) -> Iterator[Slots]:
    """Yield the slots that a request holds if these counts admitted it."""
    for count in counts:
        if count.plan.algorithm.holds and count.cost:
            yield Slots(count.name, request, count.cost)


def _charge_of(decision: Decision) -> Charge | None:
    record = decision._charged  # noqa: SLF001
    return None if record is None else record[1]


def _charged(made: OnServer) -> Iterator[Count]:
    """Yield the counts that a request was charged to: a shadow limit may have refused it."""
    for count, look in zip(made.question.counts, made.answer.looks, strict=True):
        if not look.wait:
            yield count


def _changes(charge: Charge, unit: str, cost: int) -> Iterator[tuple[Count, int, int]]:
    """Yield what changes for the limits of a unit (see ``correction``), and note it."""
    made = charge.on_server
    assert made is not None
    before = cost_in(charge.cost, unit)
    last, least = charge.settled.get(unit, (before or 0, before or 0))
    charge.settled[unit] = cost, min(least, cost)
    for count in (*_charged(made), *made.question.others):
        plan = count.plan
        if plan.unit == unit and cost != last and not plan.algorithm.holds:
            yield count, cost - last, least
