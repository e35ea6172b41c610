"""Explaining: what a check would answer at this instant, and what each limit has left.

It charges and counts nothing. The limits are asked as a check asks them, on copies of states: what
attempts take is thrown away. Groups that do not exist yet are made for the explanation alone.
"""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from functools import partial
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ratectl.engine.active_scope import Selection
from ratectl.engine.algorithms.protocol import NEVER
from ratectl.engine.attributes import readable, with_all_read
from ratectl.engine.buckets.charges import charged_record
from ratectl.engine.buckets.counters import plain, shown
from ratectl.engine.conditional_limit import plan_of
from ratectl.engine.cost import checked_cost, cost_in
from ratectl.engine.deciding import delayed
from ratectl.engine.decision import Asked, Decision
from ratectl.engine.explanation import Explanation, LimitExplanation, explanation_of, merged
from ratectl.engine.looks import attempt_all, decisive
from ratectl.engine.pooling import PoolingEngine
from ratectl.engine.scopes import exact_scope

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from ratectl.engine.algorithms.protocol import Algorithm, State
    from ratectl.engine.api import Locate, ScopePlan
    from ratectl.engine.attributes import Attributes
    from ratectl.engine.buckets.bucket_set import Group
    from ratectl.engine.buckets.carry import Carry
    from ratectl.engine.buckets.charges import Look
    from ratectl.engine.buckets.counters import Key
    from ratectl.engine.cost import Cost
    from ratectl.engine.limit_plan import GroupName, LimitPlan
    from ratectl.engine.waivers import Waiver

__all__ = ["ExplainingEngine"]

_log = logging.getLogger("ratectl.engine")

_CHANGED: Final = (
    "the attributes were changed after the decision: what the other limits have left is not known"
)
_UNREADABLE: Final = "the limits could not be read: {}"
_LATER: Final = "generation {} is in force now: the other limits are those of it"
_UNREADY: Final = "no policies were in force: on_error answered"
_FAILED: Final = "the limiter failed: on_error answered"
_WAIVED: Final = {
    "open": "a kill switch is on: no limit is evaluated here",
    "shadow": "a kill switch is on: all limits count here, and refuse nothing",
}


class _Peek:
    """Group as one request meets it: attempts change a copy of its bucket's state.

    It has what attempts and decisions use of a group.
    """

    __slots__ = (
        "_key", "_state", "algorithm", "group", "left", "name", "plan", "scope", "shadow", "skips",
        "unit",
    )  # fmt: skip

    def __init__(
        self, group: Group, carry: Carry | None, plan: LimitPlan | None, attributes: Attributes,
        now: int,
    ) -> None:  # fmt: skip
        self.group = group
        self.plan = plan
        self.name, self.scope, self.unit = group.name, group.scope, group.unit
        self.shadow, self.skips = group.shadow, group.skips
        self.algorithm: Algorithm[Any] = group.algorithm
        self._key = group.key(attributes)
        bucket = group.tracked(self._key)
        state = group.default_at(now) if bucket is None else bucket[0]
        if carry is not None and not carry.is_done(carry.mark(attributes)):
            state = self._with(state, carry.state(attributes), now)
        self._state = self.algorithm.detached(state)
        self.left = self.algorithm.remaining(self._state, now)

    def _with(self, state: State, carried: State | None, now: int) -> State:
        """Return the state with what the request carries over, as its first check would."""
        if carried is None:
            return state
        default = self.group.default_at(now)
        if self.algorithm.same(self.group.joined(default, carried, now), default, now):
            return state
        return self.group.joined(state, carried, now)

    def key(self, attributes: Attributes) -> Key:  # noqa: ARG002
        return self._key

    def lacks(self, attributes: Attributes) -> bool:
        return self.group.lacks(attributes)

    def find(self, key: Key, now: int) -> tuple[State, int]:  # noqa: ARG002
        return self._state, 0


class _View(NamedTuple):
    """Answer of one limit to a request."""

    peek: _Peek
    key: str
    wait: int
    """Nanoseconds until it admits the cost, ``NEVER`` or ``UNKNOWN``; 0 if it is not consulted."""
    consulted: bool
    cost: int
    """Cost in its unit; 0 if the request names none."""
    decides: bool


class _Examined(NamedTuple):
    """Facts that were read for an explanation."""

    plan: ScopePlan | None
    waiver: Waiver | None
    decision: Decision
    views: list[_View]


class ExplainingEngine(PoolingEngine):
    """An engine without ``check``."""

    _locate: Locate | None = None

    _describe: Callable[[GroupName], str | None] | None = None

    def locate_by(self, locate: Locate) -> None:
        self._locate = locate

    def describe_by(self, describe: Callable[[GroupName], str | None]) -> None:
        self._describe = describe

    def explain(
        self, scope: str, attributes: Mapping[str, str], cost: Cost = 1, now: int | None = None
    ) -> Explanation | None:
        cost, scope, texts = checked_cost(cost), exact_scope(scope), readable(attributes)
        if self._turns.turn & 1:
            self._await_turn()
        alone = partial(self._alone, self._examine, scope, texts, cost, now)
        found = with_all_read(texts, alone)
        return None if found is None else self._told(found, scope, cost)

    # Reading, alone -----------------------------------------------------------------------------

    def _examine(
        self, scope: str, attributes: Attributes, cost: Cost, now: int | None
    ) -> _Examined | None:
        """Return the answer and the limits of a request; None before the first swap."""
        clock = self._clock() if now is None else now
        instant = max(clock, self._turns.last)
        plan, waiver = self._governed(scope)
        if plan is None:
            if self._stand_in() is not None:
                return None
            return _Examined(None, waiver, Decision(True, "no_policy", self._plans.generation), [])
        peeks = self._peeks(scope, plan, waiver, attributes, instant)
        decision, deciding, waits = self._answered(plan, waiver, peeks, attributes, cost, instant)
        lag = instant - clock
        views = [
            _viewed(peek, attributes, cost, waits.get(id(peek)), lag, peek is deciding)
            for peek in peeks
        ]
        return _Examined(plan, waiver, delayed(decision, lag), views)

    def _peeks(
        self, scope: str, plan: ScopePlan, waiver: Waiver | None, attributes: Attributes, now: int
    ) -> list[_Peek]:
        """Return views of the groups that decide a request, in their order."""
        plans = {of.group_name: of for of in plan.deciding(attributes)}
        groups, carries = self._selected(scope, plan, waiver, attributes)
        peeks = [
            _Peek(group, carry, plans.get(group.group_name), attributes, now)
            for group, carry in zip_longest(groups, carries)
        ]
        return sorted(peeks, key=lambda peek: peek.algorithm.holds)

    def _selected(
        self, scope: str, plan: ScopePlan, waiver: Waiver | None, attributes: Attributes
    ) -> tuple[Sequence[Group], Sequence[Carry | None]]:
        """Return the groups that decide a request, and what it carries over; keep no new ones."""
        active = self._active.get(scope) or self._shared.get(self._place(scope, plan, waiver))
        known = None if active is None else active.known(attributes)
        if known is not None:
            return known.groups, known.carries
        groups, carries = [], []
        for limit in plan.limits:
            of = plan_of(limit, attributes)
            if of is not None:
                groups.append(self._groups.peek(of))
                carries.append(self._groups.peek_carry(scope, limit, groups[-1], attributes))
        return groups, carries

    def _answered(
        self, plan: ScopePlan, waiver: Waiver | None, peeks: list[_Peek], attributes: Attributes,
        cost: Cost, now: int,
    ) -> tuple[Decision, Any, dict[int, int]]:  # fmt: skip
        """Return the decision that a check would make, the view that decides, and the wait of each
        view that is consulted, by its ``id``."""
        groups: Any = tuple(peeks)
        asked, _ = Selection(groups, counts_requests=False).asked(cost, attributes)
        looks: list[Look] = []
        refused, tightest, least, state = attempt_all(
            asked, attributes, now, looks, [], [], [], None
        )
        waits = {id(peek): wait for peek, *_, wait in looks}
        refusal = refused and waiver != "shadow"
        refusing = decisive(looks, shadow=not refusal)
        deciding = tightest if refusing is None else refusing[0]
        if refusal:
            return self._refusal(looks, now), deciding, waits
        decision = self._admission(plan, looks, tightest, state, least, now)
        return decision, deciding, waits

    # Telling ------------------------------------------------------------------------------------

    def _told(self, found: _Examined, scope: str, cost: Cost) -> Explanation:
        """Return the explanation of what was read. Other threads may decide meanwhile."""
        plan, waiver, decision, views = found
        return replace(
            explanation_of(decision, scope),
            declared_scope=None if plan is None else plan.scope,
            cost=cost,
            limits=tuple([self._limit(view, waiver) for view in views]),
            as_of="now",
            waived=waiver,
            notes=(*(() if waiver is None else (_WAIVED[waiver],)), *self._described(views)),
        )

    def _described(self, views: Sequence[_View]) -> Iterator[str]:
        for view in views:
            note = self._describe and self._describe(view.peek.group.group_name)
            if note:
                yield note

    def _limit(self, view: _View, waiver: Waiver | None) -> LimitExplanation:
        peek, wait = view.peek, view.wait
        source, path = _origin_of(view)
        return LimitExplanation(
            name=peek.name,
            kind="budget" if peek.group.budget else "limit",
            scope=peek.scope,
            algorithm=_name_of(peek.algorithm),
            unit=peek.unit,
            key=view.key,
            capacity=peek.algorithm.capacity,
            remaining=peek.left,
            retry_after=wait / 1e9 if wait >= 0 else None,
            never=wait == NEVER,
            refuses=wait != 0,
            decides=view.decides,
            consulted=view.consulted,
            shadow=peek.shadow or waiver == "shadow",
            overrides=peek.group.overrides,
            declared=f"{path} of {source}" if source else None,
            origin=self._locate(source, path) if self._locate and source else None,
        )

    # Decisions ----------------------------------------------------------------------------------

    def explain_decision(self, decision: Decision) -> Explanation:
        asked = self._asked_of(decision)
        if decision.reason == "error":
            note = asked.note or (_FAILED if decision.generation else _UNREADY)
            return explanation_of(decision, asked.scope, note)
        decided = explanation_of(decision, asked.scope)
        return decided if decision.reason == "no_policy" else self._with_live(decided, asked)

    def _with_live(self, decided: Explanation, asked: Asked) -> Explanation:
        """Add the limits of the request as they are now. Never raises because of the limiter."""
        try:
            texts = readable(asked.attributes or {})
            changed = any(group.key(texts) != key for group, key, *_ in asked.looks)
            live = None if changed else self.explain(asked.scope or "/", texts, asked.cost)
        except Exception as error:  # noqa: BLE001  attributes may raise anything
            _log.debug("explaining a decision", exc_info=error)
            return replace(decided, notes=(_UNREADABLE.format(type(error).__name__),))
        if live is None:
            return replace(decided, notes=(_CHANGED,))
        notes = list(live.notes)
        if live.generation != decided.generation:
            notes.append(_LATER.format(live.generation))
        return merged(decided, live, *notes)

    def _asked_of(self, decision: Decision) -> Asked:
        """Return the request of a decision."""
        if decision._asked is not None:  # noqa: SLF001
            return Asked(*decision._asked)  # noqa: SLF001
        charged = charged_record(decision._charged or ())  # noqa: SLF001
        return Asked(self, charged.scope, charged.attributes, charged.cost, charged.looks)


def _viewed(
    peek: _Peek, attributes: Attributes, cost: Cost, wait: int | None, lag: int, decides: bool
) -> _View:
    """Return what a limit answers. ``wait`` is None if it is not consulted."""
    late = wait or 0
    late += lag if late > 0 else 0
    key = _key_text(peek.group.per, attributes)
    return _View(peek, key, late, wait is not None, cost_in(cost, peek.unit) or 0, decides)


def _key_text(per: Sequence[str], attributes: Attributes) -> str:
    return ", ".join([f"{name}={shown(plain(attributes.get(name)))}" for name in per]) or shown(())


def _origin_of(view: _View) -> tuple[str, str]:
    """Return the value to change for another answer: who sets it, and its path there.

    That is the rate or, if the cost exceeds a declared burst, this burst. Empty texts: unknown.
    """
    origins = () if view.peek.plan is None else view.peek.plan.origins
    if len(origins) == 4 and view.wait == NEVER and view.cost > view.peek.algorithm.capacity:
        return origins[2], origins[3]
    return origins[:2] if origins else ("", "")


def _name_of(algorithm: Algorithm[Any]) -> str:
    """Return the name of an algorithm in policies, which its class has in capitals."""
    return re.sub(r"(?<=.)(?=[A-Z])", "-", type(algorithm).__name__).lower()
