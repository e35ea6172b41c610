"""The engine on the compiled core (``_fast``).

The core decides requests itself on packed buckets, in nanoseconds. It leaves some to Python: a
key's first touch after a limit was newly declared, a bucket whose algorithm has changed, numbers
beyond 61 bits, a scope's first request. Those are decided here as ``pure`` decides them: buckets
are unpacked, changed, and packed again; ones that do not fit are *boxed* (see ``packing``).
"""

from __future__ import annotations

import copyreg
import os
import sys
from types import BuiltinFunctionType
from typing import TYPE_CHECKING, Any, Final, TypeVar

from ratectl.engine.active_scope import Active, Selection
from ratectl.engine.attributes import readable
from ratectl.engine.buckets.charges import NOT_SETTLED, charged_record
from ratectl.engine.buckets.counters import plain
from ratectl.engine.buckets.table import DEFAULT_MAX_BYTES
from ratectl.engine.cost import checked_actual, checked_cost
from ratectl.engine.decision import Asked, Decision, described, explained_alone, reduced
from ratectl.engine.explaining import ExplainingEngine
from ratectl.engine.explanation import explanation_of
from ratectl.engine.native import _fast
from ratectl.engine.native.bucket_set import FastCarry, FastGroup
from ratectl.engine.native.table import FastTable
from ratectl.engine.scopes import MAX_CHARS, exact_scope
from ratectl.engine.timings import Timings
from ratectl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from ratectl.engine.api import Mirror, Request, ScopePlan, Watcher
    from ratectl.engine.attributes import Attributes
    from ratectl.engine.buckets.bucket_set import Group, Maker
    from ratectl.engine.buckets.carry import Carry, Left
    from ratectl.engine.buckets.charges import Charged, Look
    from ratectl.engine.buckets.counters import Counters
    from ratectl.engine.buckets.groups import Groups
    from ratectl.engine.buckets.past import Stay
    from ratectl.engine.buckets.table import Table
    from ratectl.engine.conditional_limit import Conditions
    from ratectl.engine.control import Spent, Turn
    from ratectl.engine.cost import Cost
    from ratectl.engine.explanation import Explanation
    from ratectl.engine.limit_plan import LimitPlan
    from ratectl.engine.stable_keys import StableKeys
    from ratectl.engine.waivers import Waiver

__all__ = ["FastEngine"]

_T = TypeVar("_T")

_MAX_STATES: Final = 50_000
"""Most states of one chooser: a request of a further state is decided here, until the next swap."""

_MAX_VALUES: Final = 4_096
"""Most values of one attribute whose class is remembered."""

_LONG: Final = 256

_NOTHING: Final[Mapping[str, str]] = {}


def _settle_nothing(decision: _fast.Decision, actual: object) -> None:
    checked_actual(actual, decision._costs or 0)  # noqa: SLF001


def _explain(decision: _fast.Decision) -> Explanation:
    engine: FastEngine | None
    engine, scope, *_ = decision._request()  # noqa: SLF001
    if engine is not None:
        return engine.explain_decision(decision)
    if scope is None or decision.limit is not None:
        return explained_alone(decision)
    return explanation_of(decision, scope)  # no policy covers it: there is nothing else to read


Decision.register(_fast.Decision)
copyreg.pickle(_fast.Decision, reduced)  # type: ignore[arg-type]
_fast.bind(described, _settle_nothing, _explain)


class _FastMaker:
    """Groups and counters of the core."""

    def __init__(self, core: _fast.Core) -> None:
        self._core = core

    def counters(self) -> Counters:
        counters: Any = _fast.Counters()
        return counters  # type: ignore[no-any-return]  # it has all attributes of Counters

    def group(self, limit: LimitPlan, epoch: int, counters: Counters) -> Group:
        return FastGroup(self._core, limit, epoch, counters)

    def carry(self, path: tuple[Stay, ...], group: Group, left: Left) -> Carry:
        return FastCarry(self._core, path, group, left)


class _Classes:
    """Classes of attribute values, for a chooser of the core: values of a class leave the same
    conditions possible."""

    def __init__(self, conditions: tuple[Conditions, ...]) -> None:
        self._conditions = conditions
        names = dict.fromkeys(name for each in conditions for name in each.attributes)
        self._names = tuple(names)
        self._by_masks: list[dict[tuple[int, ...], int]] = [{} for _ in names]
        self.chooser = _fast.Chooser(self._names)

    def learn(self, attributes: Mapping[str, str]) -> int | None:
        """Return the chooser's state for a request; None if its values are not remembered."""
        values = [attributes.get(name) for name in self._names]
        if self.chooser.states >= _MAX_STATES or any(
            value is not None and type(value) is not str for value in values
        ):
            return None
        classes = []
        masks: dict[str, list[int]] = {name: [] for name in self._names}
        for each in self._conditions:
            for name, mask in zip(each.attributes, each.masks(attributes), strict=True):
                masks[name].append(mask)
        for value, name, numbers, memo in zip(
            values, self._names, self._by_masks, self.chooser.memos, strict=True
        ):
            number = numbers.setdefault(tuple(masks[name]), len(numbers))
            classes.append(number)
            if value is None or len(value) <= _LONG:
                if len(memo) >= _MAX_VALUES:
                    memo.clear()
                memo[value] = number
        return self.chooser.learn(tuple(classes))


class _FastActive(Active):
    """An active scope, and the core's own object for it."""

    __slots__ = ("_classes", "_core", "fast")

    def __init__(
        self,
        scope: str,
        plan: ScopePlan,
        groups: Groups,
        engine: FastEngine,
        *,
        shadow: bool,
    ) -> None:
        super().__init__(scope, plan, groups, shadow=shadow)
        self._core = engine._core  # noqa: SLF001 - of the same module
        self._classes = engine._classes_of(self.conditions)  # noqa: SLF001
        self.fast = _fast.Active(None if self._classes is None else self._classes.chooser)
        if self.selection is not None:
            self._choose(None, self.selection)

    def select(self, attributes: Mapping[str, str]) -> Selection:
        selection = super().select(attributes)
        assert self._classes is not None
        state = self._classes.learn(attributes)
        if state is not None:
            self._choose(state, selection)
        return selection

    def _choose(self, state: int | None, selection: Selection) -> None:
        stores = tuple([group.store for group in selection.groups if isinstance(group, FastGroup)])
        marks = tuple([each.store for each in selection.carries if isinstance(each, FastCarry)])
        chosen = self._core.select(self.plan.scope, stores, self.shadow, marks)
        self.fast.choose(state, chosen)


class FastEngine(ExplainingEngine):
    """See :class:`~ratectl.engine.api.Engine`.

    ``max_bytes`` bounds the memory of its buckets, and ``max_buckets`` their number. Keys are kept
    as fingerprints, which are the numbers of ``stable_keys`` if it is given. ``key_bits`` of them,
    keyed by ``secret`` (16 bytes, by default random): both parameters are for tests.
    """

    name = "c"

    def __init__(
        self,
        clock: Callable[[], int],
        *,
        max_bytes: int = DEFAULT_MAX_BYTES,
        max_buckets: int | None = None,
        stable_keys: StableKeys | None = None,
        secret: bytes | None = None,
        key_bits: int = 64,
    ) -> None:
        self._own_clock = _is_the_cores_clock(clock)
        key = os.urandom(16) if secret is None else secret
        self._secret = (int.from_bytes(key[:8], "little"), int.from_bytes(key[8:16], "little"))
        self.stable_keys = stable_keys
        if stable_keys is not None:
            self._secret = (stable_keys.k0, stable_keys.k1)
        self._key_bits = key_bits
        self._classes: dict[tuple[int, ...], _Classes] = {}
        self._core_active: dict[str, _fast.Active | None] = {}
        super().__init__(clock, *self._parts(max_bytes, max_buckets))
        # Callers get the core's own functions: a Python method around them would take longer.
        self.check = self._core.check  # type: ignore[method-assign]
        self.rls = self._core.rls  # type: ignore[method-assign,assignment]
        if self._own_clock:
            self.check_many = self._core.check_many  # type: ignore[method-assign,assignment]

    def _parts(self, max_bytes: int, max_buckets: int | None) -> tuple[Maker, Table]:
        if max_bytes < 1 or (max_buckets is not None and max_buckets < 1):
            raise ValueError("a table holds at least one bucket")
        self._core = _fast.Core(
            self._own_clock,
            self.stable_keys is not None or not _texts_are_hashed_with_a_secret(),
            *self._secret,
            self._key_bits,
            max_bytes,
            sys.maxsize if max_buckets is None else max_buckets,
            self._slowly,
            self,
            plain,
            UsageError,
        )
        return _FastMaker(self._core), FastTable(self._core)

    def _new_turns(self) -> Turn:
        return self._core

    def guard(
        self, failed: Callable[[str, Exception], Decision], unready: Callable[[], Decision]
    ) -> None:
        super().guard(failed, unready)
        self._core.failed = failed
        self._core.unready = None if self._waivers else unready

    def waive(self, by_scope: Mapping[str, Waiver]) -> None:
        super().waive(by_scope)
        # Before the first swap, the core calls `unready` at once; only Python sees waivers.
        self._core.unready = None if self._waivers else self._unready

    def check(
        self, scope: str, attributes: Mapping[str, str] = _NOTHING, cost: Cost = 1,
        now: int | None = None,
    ) -> Decision:  # fmt: skip
        return self._core.check(scope, attributes, cost, now)  # instances have the core's function

    # Decisions that the core leaves to Python ---------------------------------------------------

    def _slowly(
        self, scope: str, attributes: Mapping[str, str], cost: Cost, now: int | None
    ) -> Decision:
        if type(cost) is not int or cost < 0:
            cost = checked_cost(cost)
        if type(scope) is not str or len(scope) > MAX_CHARS:
            scope = exact_scope(scope)
        texts = readable(attributes)
        decided = None
        if now is not None or self._own_clock:
            if self._core.turn & 1:
                self._await_turn()
            decided = self._core.attempt(scope, texts, cost, now, False, False)
        if decided is None:
            decided = self._decide_alone(scope, texts, cost, now)
        decision, now = decided
        self._with_units(cost, decision)
        self._show(scope, attributes, cost, now, decision)
        return decision

    def _attempt_in_one_step(
        self, scope: str, attributes: Mapping[str, str], cost: Cost, now: int | None
    ) -> tuple[Decision, int] | None:
        if type(attributes) is dict and (now is not None or self._own_clock):
            return self._core.attempt(scope, attributes, cost, now, False, True)
        return None

    def _decide_now(
        self, scope: str, attributes: Attributes, cost: Cost, now: int | None, waits: bool,
        made: list[Decision],
    ) -> tuple[Decision, int]:  # fmt: skip
        if now is None:
            now = self._clock()
        if scope not in self._active:
            self._activate(scope)  # that may be all that the core lacked
        return self._core.attempt(scope, attributes, cost, now, True, waits) or super()._decide_now(
            scope, attributes, cost, now, waits, made
        )

    def mirror(self, mirror: Mirror | None) -> None:
        self._mirror = mirror
        self._core.mirrored = mirror is not None

    def watch(self, watcher: Watcher | None) -> None:
        super().watch(watcher)
        self._core.watched = watcher is not None

    def check_many(self, requests: Iterable[Request], now: int | None = None) -> list[Decision]:
        instant = self._clock() if now is None else now
        return self._core.check_many(requests, instant)

    def _made_wallet(self) -> _fast.Wallet:
        return _fast.Wallet()

    def _made_key_wallets(self) -> _fast.KeyWallets:
        return _fast.KeyWallets()

    def with_wallets(self, work: Callable[[], _T]) -> _T:
        with self._lock:  # the core decides in one step, but Python decides under the lock
            return work()

    def gate(self, scope: str, *names: str, cost: Cost = 1) -> Callable[..., bool]:
        return self._core.gate(exact_scope(scope), names, checked_cost(cost))

    def _recall(self, decision: Decision) -> Charged | None:
        if not isinstance(decision, _fast.Decision):
            return super()._recall(decision)
        if decision._notes is not None:  # noqa: SLF001
            notes: Charged = decision._notes  # noqa: SLF001
            return notes
        charged = decision._charges()  # noqa: SLF001
        if charged is None:
            return None
        scope, attributes, now, requests, charges = charged
        cost: Cost = decision._costs or requests  # noqa: SLF001
        looks: list[Look] = []
        slots = []
        for store, key, serial, slot, refused in charges:
            group = store.owner()
            if slot is not None:
                slots.append(slot)
            if group is not None:  # otherwise it is gone, and no group starts from it any more
                looks.append((group, key, None, serial, refused))
        return charged_record((self, looks, scope, attributes, now, cost, NOT_SETTLED, slots))

    def _asked_of(self, decision: Decision) -> Asked:
        if not isinstance(decision, _fast.Decision):
            return super()._asked_of(decision)
        _, scope, attributes, cost, looks = decision._request()  # noqa: SLF001
        owned = [(store.owner(), key) for store, key in looks]
        return Asked(self, scope, attributes, cost, [look for look in owned if look[0] is not None])

    def _with_units(self, cost: Cost, decision: Decision) -> None:
        if not isinstance(decision, _fast.Decision):  # those of the core remember it themselves
            super()._with_units(cost, decision)

    def _cost_of(self, decision: Decision) -> Cost:
        if isinstance(decision, _fast.Decision):
            return decision._costs or 0  # noqa: SLF001
        return super()._cost_of(decision)

    def _note(self, decision: Decision, charged: Charged) -> None:
        if isinstance(decision, _fast.Decision):
            decision._notes = charged  # noqa: SLF001
        else:
            super()._note(decision, charged)

    # State of the core --------------------------------------------------------------------------

    def _new_active(self, scope: str, plan: ScopePlan, *, shadow: bool) -> Active:
        return _FastActive(scope, plan, self._groups, self, shadow=shadow)

    def _classes_of(self, conditions: tuple[Conditions, ...]) -> _Classes | None:
        if not conditions:
            return None
        known = self._classes.get(tuple(map(id, conditions)))
        if known is None:
            known = self._classes[tuple(map(id, conditions))] = _Classes(conditions)
        return known

    def _remember(self, scope: str, active: Active | None) -> None:
        super()._remember(scope, active)
        self._core_active[scope] = active.fast if isinstance(active, _FastActive) else None

    def _forget(self) -> list[Spent]:
        spent = [*super()._forget(), self._core_active, self._classes]
        self._core_active = {}
        self._classes = {}
        self._core.install(self._core_active, self._plans.generation)
        return spent

    def _timings(self) -> Timings:
        return Timings(*self._core.timings)

    def _count_no_policy(self) -> int:
        return self._no_policy + self._core.no_policy

    @property
    def bytes(self) -> int:
        """Memory of its buckets and of their index."""
        return self._core.bytes


def _is_the_cores_clock(clock: object) -> bool:
    """Return True for CPython's own ``time.monotonic_ns``; tests may have put another in its place.

    The core then reads the same clock itself.
    """
    name = (getattr(clock, "__module__", None), getattr(clock, "__name__", None))
    return isinstance(clock, BuiltinFunctionType) and name == ("time", "monotonic_ns")


def _texts_are_hashed_with_a_secret() -> bool:
    """Return True if ``hash`` of a text is keyed with a secret of this process."""
    seed = os.environ.get("PYTHONHASHSEED", "random")
    return bool(sys.flags.hash_randomization) and seed in ("", "random")
