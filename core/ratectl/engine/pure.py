"""The pure-Python engine: the executable specification of an engine.

A check asks every limit first, and charges only if all admit it, so a refusal consumes nothing
anywhere. ``control`` describes how concurrent decisions stay apart.
"""

from __future__ import annotations

from operator import setitem
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, Final

from ratectl.engine.attributes import Reader
from ratectl.engine.buckets.bucket_set import Group
from ratectl.engine.buckets.carry import Carry
from ratectl.engine.buckets.charges import NOT_SETTLED, nothing_charged
from ratectl.engine.buckets.counters import Counters, plain
from ratectl.engine.buckets.table import DEFAULT_MAX_BYTES, Table
from ratectl.engine.cost import REQUESTS, checked_cost, cost_in
from ratectl.engine.deciding import delayed
from ratectl.engine.decision import Decision
from ratectl.engine.explaining import ExplainingEngine
from ratectl.engine.looks import advanced, count_absent, count_admitted, count_refused
from ratectl.engine.scopes import exact_scope
from ratectl.engine.timings import TIMED
from ratectl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from ratectl.engine.active_scope import Active
    from ratectl.engine.api import Request
    from ratectl.engine.buckets.bucket_set import Bucket
    from ratectl.engine.buckets.carry import Left
    from ratectl.engine.buckets.charges import Look
    from ratectl.engine.buckets.past import Stay
    from ratectl.engine.cost import Cost
    from ratectl.engine.limit_plan import LimitPlan
    from ratectl.engine.stable_keys import StableKeys

__all__ = ["PureEngine"]

_NOTHING: Final[Mapping[str, str]] = {}

_NEVER_SEEN: Final[Any] = object()
_UNDEFINED: Final[Any] = None

_TIMED: Final = 2 * TIMED - 1
"""Bits of ``turn``, which each decision moves by two."""

_TRIES: Final = 4
"""Attempts of a decision; after as many interruptions, it is made alone."""


class _PureMaker:
    """Groups and counters in pure Python."""

    def counters(self) -> Counters:
        return Counters()

    def group(self, limit: LimitPlan, epoch: int, counters: Counters) -> Group:
        return Group(limit, epoch, counters)

    def carry(self, path: tuple[Stay, ...], group: Group, left: Left) -> Carry:
        return Carry(path, group, left)


class PureEngine(ExplainingEngine):
    """See :class:`~ratectl.engine.api.Engine`.

    ``max_bytes`` bounds the memory of its buckets, and ``max_buckets`` their number. Keys are kept
    as texts; ``stable_keys`` only computes their numbers.
    """

    name = "pure"

    def __init__(
        self,
        clock: Callable[[], int],
        *,
        max_bytes: int = DEFAULT_MAX_BYTES,
        max_buckets: int | None = None,
        stable_keys: StableKeys | None = None,
    ) -> None:
        super().__init__(clock, _PureMaker(), Table(max_bytes, max_buckets))
        self.stable_keys = stable_keys

    def check(
        self, scope: str, attributes: Mapping[str, str] = _NOTHING, cost: Cost = 1,
        now: int | None = None,
    ) -> Decision:  # fmt: skip
        if type(cost) is not int or cost < 0:
            cost = checked_cost(cost)
        began = 0 if self._turns.turn & _TIMED else perf_counter_ns()
        try:
            decision, now = self._decide(scope, attributes, cost, now)
            if decision._charged is None:  # noqa: SLF001
                self._with_units(cost, decision)
            mirror = self._mirror
            if mirror is not None and mirror.decided(scope, attributes, cost, now, decision):
                decision._charged = decision._charged or nothing_charged(self, cost)  # noqa: SLF001
            if began:
                try:
                    self._stopwatch.add(perf_counter_ns() - began)
                except BaseException:  # a signal handler's: the caller never gets the decision
                    decision.release()
                    raise
            return decision
        except Exception as error:
            if self._failed is None or isinstance(error, UsageError):
                raise
            return self._failed(scope, error)

    def check_many(self, requests: Iterable[Request], now: int | None = None) -> list[Decision]:
        instant = self._clock() if now is None else now
        decisions: list[Decision] = []
        try:
            self._check_all(tuple(requests), instant, decisions)
        except BaseException:
            for decision in decisions:  # the caller never gets them
                decision.release()
            raise
        return decisions

    def _check_all(
        self, requests: tuple[Request, ...], instant: int, decisions: list[Decision]
    ) -> None:
        """Append the decisions. The caller's ``try`` has no loop: see ``looks.attempt_all``."""
        for number, request in enumerate(requests):
            scope, attributes, cost = _full_request(number, request)
            # A call without `*`: an exception may come after that, before the decision is kept.
            decisions.append(self.check(scope, attributes, cost, instant))

    def gate(self, scope: str, *names: str, cost: Cost = 1) -> Callable[..., bool]:
        scope, cost = exact_scope(scope), checked_cost(cost)
        count, check = len(names), self.check

        def gate(*values: str | None) -> bool:
            if len(values) != count:
                raise TypeError(f"this gate takes {count} values, not {len(values)}")
            given = dict(zip(names, values, strict=True))
            if None in values:
                given = {name: value for name, value in given.items() if value is not None}
            return check(scope, given, cost).allowed  # type: ignore[arg-type]

        return gate

    # Deciding in one step -----------------------------------------------------------------------

    def _decide(
        self, scope: str, attributes: Mapping[str, str], cost: Cost, now: int | None
    ) -> tuple[Decision, int]:
        if type(scope) is not str:
            scope = exact_scope(scope)
        if type(attributes) is not dict:
            attributes = Reader(attributes)  # type: ignore[assignment]  # it has `get`
        turns = self._turns
        for _ in range(_TRIES):
            turn = turns.turn
            if turn & 1 or self._later or not self._quick:
                break
            active = self._active.get(scope, _NEVER_SEEN)
            if active is _NEVER_SEEN:
                break
            # Each try reads the clock again: decisions come in the order of their instants.
            clock = instant = self._clock() if now is None else now
            if clock < turns.last:
                instant = turns.last
            try:
                decision = self._attempt(turn, active, scope, attributes, cost, instant)
            except Exception:
                if turns.turn == turn:
                    raise
                continue  # the read data was being changed
            if decision is not None:
                if clock < instant:
                    delayed(decision, instant - clock)
                return decision, instant
            if turns.turn == turn:
                break
        return self._decide_alone(exact_scope(scope), attributes, cost, now)

    def _attempt(  # noqa: C901  the calls of smaller functions would take as long as deciding
        self, turn: int, active: Active | None, scope: str,
        attributes: Mapping[str, str], cost: Cost, now: int,
    ) -> Decision | None:  # fmt: skip
        """Decide a request whose buckets all exist.

        Return None if something has to be made first, if another thread changed something since
        ``turn``, or if the decision takes more than one step: slots are taken alone, as another
        thread must not see slots of a request that is refused in the end.
        """
        if active is None:
            return self._leave(turn, scope, attributes, cost)
        selection = active.selection or active.known(attributes)
        if selection is None:
            return None
        groups, carries, counts_requests = selection
        if active.plain:
            return self._attempt_one(turn, groups[0], scope, attributes, cost, now)
        if groups and groups[-1].algorithm.holds:
            return None
        for carry in carries:
            if carry is not None and not carry.is_done(carry.mark(attributes)):
                return None
        looks: list[Look] = []
        tables, keys, made, lefts = [], [], [], []
        absent: Sequence[Group] = ()
        refused = False
        tightest: Group | None = None
        least, capacity, state_then = 0, 1, _UNDEFINED
        name: str | None = None
        amount: int | None = cost if isinstance(cost, int) else cost[REQUESTS]
        for group in groups:
            if not counts_requests:
                amount = cost_in(cost, group.unit)
                if amount is None:
                    continue
            single = group.single
            if single is None:
                key = group.key(attributes)
            elif single is not name:
                key = attributes.get(single)
                if type(key) is not str:
                    key = plain(key)
            name = single
            if key is None or (single is None and None in key):  # type: ignore[operator]
                absent = (*absent, group)
                if group.skips:
                    continue
            buckets = group.buckets
            bucket = buckets.get(key)
            if bucket is None:
                return None
            state, epoch, serial = bucket
            algorithm = group.algorithm
            if epoch != group.epoch or algorithm.wallets is not None:
                return None
            wait, after, left, _ = algorithm.attempt(state, amount, now)  # type: ignore[arg-type]
            looks.append((group, key, state, serial, wait))
            if wait:
                refused = refused or not group.shadow
                continue
            tables.append(buckets)
            keys.append(key)
            made.append((after, epoch, serial))
            lefts.append(left)
            size = algorithm.capacity or 1
            if (tightest is None or left * capacity < least * size) and not group.shadow:
                tightest, least, capacity, state_then = group, left, size, after
        if refused and not active.shadow:
            return self._refuse_if(turn, looks, absent, scope, attributes, cost, now)
        if tightest is None or len(lefts) < len(looks):
            decision = self._admission(active.plan, looks, tightest, state_then, least, now)
        else:
            decision = self._answer(tightest, state_then, True, "ok", least, 0, now)
        decision._charged = (  # noqa: SLF001
            self, looks, scope, attributes, now, cost, NOT_SETTLED, ()
        )  # fmt: skip
        if not self._put(turn, now, tables, keys, made):
            return None
        count_admitted(looks, lefts, attributes)
        if absent:
            count_absent(absent)
        return decision

    def _attempt_one(
        self, turn: int, group: Group, scope: str,
        attributes: Mapping[str, str], cost: Cost, now: int,
    ) -> Decision | None:  # fmt: skip
        """Decide a request of a scope with one limit, which counts requests."""
        single = group.single
        key = group.key(attributes) if single is None else attributes.get(single)
        if type(key) is not str and single is not None:
            key = plain(key)
        buckets = group.buckets
        bucket = buckets.get(key)
        if bucket is None:
            return None
        state, epoch, serial = bucket
        algorithm = group.algorithm
        if epoch != group.epoch or algorithm.wallets is not None:
            return None
        amount = cost if isinstance(cost, int) else cost[REQUESTS]
        wait, after, left, _ = algorithm.attempt(state, amount, now)
        looks: list[Look] = [(group, key, state, serial, wait)]
        lacks = key is None or (single is None and None in key)  # type: ignore[operator]
        absent = (group,) if lacks else ()
        if wait:
            return self._refuse_if(turn, looks, absent, scope, attributes, cost, now)
        decision = self._answer(group, after, True, "ok", left, 0, now)
        decision._charged = (  # noqa: SLF001
            self, looks, scope, attributes, now, cost, NOT_SETTLED, ()
        )  # fmt: skip
        bucket = (after, epoch, serial)
        turns = self._turns
        if turns.turn != turn:
            return None
        turns.turn = turn + 2  # no calls from the line before on: nothing can interrupt
        turns.last = now
        buckets[key] = bucket
        counters = group.counters
        counters.allowed += 1
        held = group.held
        if held is not None:
            counts = held.get(key)
            if counts is None:
                counters.traffic.add(key)
            else:
                counts[0] += 1
        lowest = counters.lowest
        if lowest is None or left < lowest:
            counters.lowest = left
        if absent:
            counters.absent += 1
        return decision

    def _leave(
        self, turn: int, scope: str, attributes: Mapping[str, str], cost: Cost
    ) -> Decision | None:
        """Admit a request that no policy covers."""
        decision = Decision(True, "no_policy", self._plans.generation)
        decision._asked = (self, scope, attributes, cost)  # noqa: SLF001
        if not self._put(turn, self._turns.last):
            return None
        self._no_policy += 1
        return decision

    def _refuse_if(
        self, turn: int, looks: list[Look], absent: Sequence[Group], scope: str,
        attributes: Mapping[str, str], cost: Cost, now: int,
    ) -> Decision | None:  # fmt: skip
        """Refuse a request; return None if another thread changed something since ``turn``."""
        refusal = self._refusal(looks, now)
        refusal._asked = (self, scope, attributes, cost, looks)  # noqa: SLF001
        tables, keys, made = [], [], []
        for group, key, state, serial in advanced(looks, now):
            tables.append(group.buckets)
            keys.append(key)
            made.append((state, group.epoch, serial))
        if not self._put(turn, now, tables, keys, made):
            return None
        count_refused(looks, attributes)
        count_absent(absent)
        return refusal

    def _put(
        self, turn: int, now: int, tables: Sequence[dict[Any, Any]] = (),
        keys: Sequence[object] = (), made: Sequence[Bucket] = (),
    ) -> bool:  # fmt: skip
        """Write buckets; return False if another thread changed something since ``turn``.

        A decision without writes takes a turn as well: otherwise, one that began earlier might be
        written after it.
        """
        turns = self._turns
        putting: Any = map(setitem, tables, keys, made)
        if turns.turn != turn:
            return False
        turns.turn = turn + 2  # from the line before on, the only call is `any`, all of it in C
        turns.last = now
        any(putting)
        return True


def _full_request(
    number: int, request: Request
) -> tuple[str, Mapping[str, str], Cost]:  # fmt: skip
    if not isinstance(request, tuple) or not 1 <= len(request) <= 3:
        raise UsageError(
            f"request {number} is not (scope, attributes) or (scope, attributes, cost)"
        )
    full: tuple[Any, ...] = (*request, *(_NOTHING, 1)[len(request) - 1 :])
    scope, attributes, cost = full
    return scope, attributes, cost
