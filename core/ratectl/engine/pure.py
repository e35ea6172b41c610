"""The pure-Python engine: the executable specification of what an engine does.

One lock around each decision. A check reads every limit first and writes only when all admit it,
so a refusal consumes nothing anywhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ratectl.engine.control import ControlledEngine, checked_cost
from ratectl.engine.counters import Counters
from ratectl.engine.decision import NEVER, UNKNOWN, Decision, checked_actual
from ratectl.engine.group import Group
from ratectl.engine.settle import Charged, nothing_charged, release, settle, slots_of
from ratectl.engine.table import DEFAULT_MAX_BYTES, Table
from ratectl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from ratectl.engine.base import LimitPlan, Request, State
    from ratectl.engine.control import Active
    from ratectl.engine.decision import Reason
    from ratectl.engine.group import Maker
    from ratectl.engine.settle import Look

__all__ = ["PureEngine"]

_NOTHING: Final[Mapping[str, str]] = {}

_new_object = object.__new__


class _PureMaker:
    """Groups and counters in pure Python."""

    def counters(self) -> Counters:
        return Counters()

    def group(self, limit: LimitPlan, genesis: State | None, counters: Counters) -> Group:
        return Group(limit, genesis, counters)


class PureEngine(ControlledEngine):
    """See :class:`~ratectl.engine.base.Engine`.

    ``max_bytes`` bounds what its buckets take, and ``max_buckets`` their number as well.
    """

    name = "pure"

    def __init__(
        self,
        clock: Callable[[], int],
        *,
        max_bytes: int = DEFAULT_MAX_BYTES,
        max_buckets: int | None = None,
    ) -> None:
        super().__init__(clock, *self._parts(max_bytes, max_buckets))

    def _parts(self, max_bytes: int, max_buckets: int | None) -> tuple[Maker, Table]:
        return _PureMaker(), Table(max_bytes, max_buckets)

    def check(
        self, scope: str, attributes: Mapping[str, str] = _NOTHING, cost: int = 1,
        now: int | None = None,
    ) -> Decision:  # fmt: skip
        if cost.__class__ is not int or cost < 0:
            checked_cost(cost)
        try:
            with self._lock:
                if now is None:
                    now = self._clock()
                decision = self._decide(scope, attributes, cost, now)
                mirror = self._mirror
            if mirror is not None and mirror.decided(scope, attributes, cost, now, decision):
                decision._charged = decision._charged or nothing_charged(self)  # noqa: SLF001
            return decision
        except Exception as error:
            if self._failed is None or isinstance(error, UsageError):
                raise
            return self._failed(scope, error)

    def check_many(self, requests: Iterable[Request], now: int | None = None) -> list[Decision]:
        instant = self._clock() if now is None else now
        return [
            self.check(*_whole_request(number, request), now=instant)
            for number, request in enumerate(requests)
        ]

    def gate(self, scope: str, *names: str, cost: int = 1) -> Callable[..., bool]:
        checked_cost(cost)
        count, check = len(names), self.check

        def gate(*values: str | None) -> bool:
            if len(values) != count:
                raise TypeError(f"this gate takes {count} values, not {len(values)}")
            given = dict(zip(names, values, strict=True))
            if None in values:
                given = {name: value for name, value in given.items() if value is not None}
            return check(scope, given, cost).allowed  # type: ignore[arg-type]

        return gate

    def _decide(self, scope: str, attributes: Mapping[str, str], cost: int, now: int) -> Decision:
        """Decide a request at an instant, under the lock."""
        try:
            active = self._active[scope]
        except KeyError:
            active = self._activate(scope)
        if active is None:
            return self._uncovered()
        groups = active.groups
        if groups is None:
            groups = active.select(attributes)
        looks: list[Look] = []
        refused = False
        for group in groups:
            key, state, untracked = group.find(attributes, now)
            wait = group.algorithm.wait(state, cost, now)
            looks.append((group, key, state, untracked, wait))
            if wait and not group.shadow:
                refused = True
        if refused and not active.shadow:
            return self._refuse(looks, attributes, now)
        decision = self._admit(active, looks, cost, now)
        slots = slots_of(looks) if active.holds and cost else ()
        decision._charged = (self, looks, scope, attributes, now, cost, cost, slots)  # noqa: SLF001
        return decision

    def _uncovered(self) -> Decision:
        stand_in = self._stand_in()
        if stand_in is not None:
            return stand_in()
        self._no_policy += 1
        return Decision(True, "no_policy", self._plans.generation)

    def release(self, decision: Decision) -> None:
        charged = self._recall(decision)
        if charged is not None and charged[-1]:
            with self._lock:
                self._bring(charged)
                release(charged)
        mirror = self._mirror
        if mirror is not None:
            mirror.released(decision)

    def settle(self, decision: Decision, actual: int, now: int | None = None) -> None:
        checked_actual(actual)
        with self._lock:
            if now is None:
                now = self._clock()
            charged = self._recall(decision)
            if charged is None:
                return
            self._bring(charged)
            scope, attributes = charged[2:4]
            groups = self._governing(scope, attributes)
            self._note(decision, settle(charged, actual, groups, now, self._table))
            mirror = self._mirror
        if mirror is not None:
            mirror.settled(decision, actual, now)

    def _governing(self, scope: str, attributes: Mapping[str, str]) -> tuple[Group, ...]:
        """The groups that count such a request now."""
        if self._waivers:
            return self._counting(scope, attributes)
        active = self._active[scope] if scope in self._active else self._activate(scope)
        return active.of(attributes) if active is not None else ()

    def _recall(self, decision: Decision) -> Charged | None:
        """What a decision charged; None for nothing."""
        return decision._charged  # noqa: SLF001

    def _note(self, decision: Decision, charged: Charged) -> None:
        decision._charged = charged  # noqa: SLF001

    def _bring(self, charged: Charged) -> None:
        """A swap under way reaches what was charged first."""
        for group, *_ in charged[1]:
            self._succession.bring(group.identity)

    def _admit(self, active: Active, looks: list[Look], cost: int, now: int) -> Decision:
        tightest: Group | None = None
        least, bucket = 0, None
        shadowed: Look | None = None
        for look in looks:
            group, key, state, untracked, wait = look
            counters = group.counters
            if wait:
                counters.shadow_refused += 1
                if shadowed is None or _outweighs(wait, shadowed[4]):
                    shadowed = look
                continue
            if untracked and cost:
                state = self._table.insert(group, key, state, now, looks)
            left = group.algorithm.charge(state, cost, now)
            counters.allowed += 1
            lowest = counters.lowest
            if lowest is None or left < lowest:
                counters.lowest = left
            if (tightest is None or left < least) and not group.shadow:
                tightest, least, bucket = group, left, state
        if shadowed is not None:
            group, _, state, _, _ = shadowed
            left = group.algorithm.remaining(state, now)
            return self._answer(group, state, True, "shadow", left, 0, now)
        if tightest is None or bucket is None:
            return Decision(True, "ok", self._plans.generation, scope=active.plan.scope)
        return self._answer(tightest, bucket, True, "ok", least, 0, now)

    def _refuse(self, looks: list[Look], attributes: Mapping[str, str], now: int) -> Decision:
        decisive: Look | None = None
        for look in looks:
            group, key, _, _, wait = look
            if not wait:
                continue
            if group.shadow:
                group.counters.shadow_refused += 1
                continue
            group.count_refusal(key, attributes, never=wait == NEVER)
            if decisive is None or _outweighs(wait, decisive[4]):
                decisive = look
        assert decisive is not None, "somebody refused"
        group, _, state, _, wait = decisive
        left = group.algorithm.remaining(state, now)
        if wait == NEVER:
            return self._answer(group, state, False, "never", left, None, now)
        known = None if wait == UNKNOWN else wait
        return self._answer(group, state, False, "limited", left, known, now)

    def _answer(
        self,
        group: Group,
        state: State,
        allowed: bool,
        reason: Reason,
        left: int,
        wait: int | None,
        now: int,
    ) -> Decision:
        algorithm = group.algorithm
        reset = algorithm.reset_after(state, now)
        # What the constructor would do, in half the time.
        decision = _new_object(Decision)
        decision.allowed = allowed
        decision.reason = reason
        decision.generation = self._plans.generation
        decision.limit = group.name
        decision.scope = group.scope
        decision.capacity = algorithm.most
        decision.remaining = left
        decision.retry_after_ns = wait
        decision.reset_after_ns = reset if reset >= 0 else None
        decision._charged = None  # noqa: SLF001
        return decision


def _whole_request(
    number: int, request: Request
) -> tuple[str, Mapping[str, str], int]:  # fmt: skip
    if not isinstance(request, tuple) or not 1 <= len(request) <= 3:
        raise UsageError(
            f"request {number} is not (scope, attributes) or (scope, attributes, cost)"
        )
    whole: tuple[Any, ...] = (*request, *(_NOTHING, 1)[len(request) - 1 :])
    scope, attributes, cost = whole
    return scope, attributes, cost


def _outweighs(wait: int, other: int) -> bool:
    """Never beats unknown, which beats every known wait: no refusal promises what it cannot keep.

    Of two known waits the longer one is reported.
    """
    if wait >= 0 and other >= 0:
        return wait > other
    return other != NEVER and (wait == NEVER or (wait == UNKNOWN and other != UNKNOWN))
