"""Deciding alone, releasing and settling: work that takes an engine more than one step.

Each engine has its own code for most decisions, which take one step (see ``control``).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from ratectl.engine.active_scope import Selection
from ratectl.engine.algorithms.protocol import NEVER, UNKNOWN
from ratectl.engine.attributes import readable, with_all_read
from ratectl.engine.buckets.charges import (
    NOT_SETTLED,
    charged_record,
    nothing_charged,
    nothing_consulted,
)
from ratectl.engine.buckets.place import Place
from ratectl.engine.buckets.settle import refunds, release, settle, with_refunds
from ratectl.engine.control import Busy
from ratectl.engine.cost import REQUESTS, checked_actual
from ratectl.engine.counting import CountingEngine
from ratectl.engine.decision import Decision
from ratectl.engine.looks import (
    advanced,
    attempt_all,
    count_absent,
    count_admitted,
    count_refused,
    decisive,
    free,
    numbered,
)  # fmt: skip
from ratectl.engine.scopes import exact_scope

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ratectl.engine.algorithms.protocol import Slot, State
    from ratectl.engine.api import ScopePlan
    from ratectl.engine.attributes import Attributes, Reader
    from ratectl.engine.buckets.bucket_set import Group
    from ratectl.engine.buckets.carry import Carry
    from ratectl.engine.buckets.charges import Charged, Look
    from ratectl.engine.cost import Cost
    from ratectl.engine.decision import Reason
    from ratectl.engine.looks import Draw

__all__ = ["DecidingEngine", "delayed"]

_new_object = object.__new__


class DecidingEngine(CountingEngine):
    """An engine without ``check``."""

    # Deciding alone -----------------------------------------------------------------------------

    def _decide_alone(
        self, scope: str, attributes: Mapping[str, str] | Reader, cost: Cost, now: int | None,
        *, waits: bool = False,
    ) -> tuple[Decision, int]:  # fmt: skip
        """Decide while no other thread does. Return the decision and its instant.

        ``waits``: see ``Engine.attempt``.
        """
        if self._turns.turn & 1:
            self._await_turn()
        texts = readable(attributes)
        made: list[Decision] = []
        alone = partial(self._alone, self._decide_now, scope, texts, cost, now, waits, made)
        try:
            return with_all_read(texts, alone)
        except BaseException:
            for decision in made:  # the caller never gets it
                decision.release()
            raise

    def _decide_now(
        self, scope: str, attributes: Attributes, cost: Cost, now: int | None, waits: bool,
        made: list[Decision],
    ) -> tuple[Decision, int]:  # fmt: skip
        """Decide, and make buckets and groups that do not exist yet. Append the decision."""
        clock = self._clock() if now is None else now
        instant = max(clock, self._turns.last)
        made.append(self._made(scope, attributes, cost, instant, waits))
        return delayed(made[-1], instant - clock), instant

    def _made(
        self, scope: str, attributes: Attributes, cost: Cost, now: int, waits: bool
    ) -> Decision:
        try:
            active = self._active[scope]
        except KeyError:
            active = self._activate(scope)
        if active is None:
            return self._uncovered(scope, attributes, cost)
        self._turns.last = now
        looks: list[Look] = []
        states: list[tuple[Group, object, Any, int]] = []
        lefts: list[int] = []
        slots: list[Slot] = []
        draws: list[Draw] = []
        kept = False
        try:
            selection = active.selection or active.select(attributes)
            if selection.carries:
                self._carry_all(selection, attributes, now)
            asked, absent = selection.asked(cost, attributes)
            refused, tightest, least, state_then = attempt_all(
                asked, attributes, now, looks, states, lefts, slots, draws
            )
            if refused and not active.shadow:
                refusal = self._refuse_now(looks, absent, attributes, now, waits=waits)
                refusal._asked = (self, scope, attributes, cost, looks)  # noqa: SLF001
                return refusal
            looks = self._write(looks, states, draws, now)
            decision = self._admission(active.plan, looks, tightest, state_then, least, now)
            charged = (self, looks, scope, attributes, now, cost, NOT_SETTLED, slots)
            decision._charged = charged  # noqa: SLF001
            count_admitted(looks, lefts, attributes)
            if absent:
                count_absent(absent)
            kept = True
        finally:
            if not kept:
                free(slots)
        return decision

    def _carry_all(self, selection: Selection, attributes: Attributes, now: int) -> None:
        """Carry over to all groups, also to the ones that are not consulted."""
        for group, carry in zip(selection.groups, selection.carries, strict=False):
            if carry is not None:
                self._carry(carry, group, group.key(attributes), attributes, now)

    def _carry(
        self, carry: Carry, group: Group, key: object, attributes: Attributes, now: int
    ) -> None:
        """Add what a request carries over to its bucket, unless that has been done."""
        mark = carry.mark(attributes)
        if carry.is_done(mark):
            return
        carried = carry.state(attributes)
        if carried is not None:
            algorithm = group.algorithm
            state, serial = group.find(key, now)
            default = group.default_at(now)
            if not algorithm.same(group.joined(default, carried, now), default, now):
                merged = group.joined(state, carried, now)
                if serial:
                    # Another bucket from now on: refunds of older charges must not lift it above
                    # what was carried over.
                    group.write(key, merged, group.new_serial())
                else:
                    self._table.insert(group, key, merged, now)
        carry.done(mark)

    def _refuse_now(
        self, looks: list[Look], absent: Sequence[Group], attributes: Attributes, now: int, *,
        waits: bool,
    ) -> Decision:  # fmt: skip
        for group, key, state, serial in advanced(looks, now):
            if serial:
                group.write(key, state, serial)
        refusal = self._refusal(looks, now)
        if not waits or refusal.reason == "never":
            count_refused(looks, attributes)
            count_absent(absent)
        return refusal

    def _write(
        self, looks: list[Look], states: list[tuple[Group, object, Any, int]], draws: list[Draw],
        now: int,
    ) -> list[Look]:  # fmt: skip
        """Write what was charged. Return the looks with the serial numbers of new buckets."""
        for wallets, key, amount in draws:
            wallets.spend(key, amount)
        for group, key, state, serial in states:
            if serial:
                group.write(key, state, serial)
            else:
                new = self._table.insert(group, key, state, now, looks)
                looks = [numbered(look, group, new) for look in looks]
        return looks

    def _uncovered(self, scope: str, attributes: Attributes, cost: Cost) -> Decision:
        stand_in = self._stand_in()
        if stand_in is None:
            self._no_policy += 1
            decision = Decision(True, "no_policy", self._plans.generation)
        else:
            decision = stand_in()
        decision._asked = (self, scope, attributes, cost)  # noqa: SLF001
        return decision

    # Afterwards ---------------------------------------------------------------------------------

    def release(self, decision: Decision) -> None:
        if not self._may_wait():
            self._later.append(partial(self.release, decision))
            return
        charged = self._recall(decision)
        if charged and charged.slots and not self._release_if_current(charged):
            self._alone(self._release, charged)
        if charged:
            self._freed(charged)
        mirror = self._mirror
        if mirror is not None:
            mirror.released(decision)

    def _freed(self, charged: Charged) -> None:
        """Tell the watcher that the buckets of a request admit more than before."""
        watcher = self._watcher
        if watcher is not None:
            watcher.freed([Place(group, key) for group, key, *_ in charged.looks])

    def _release_if_current(self, charged: Charged) -> bool:
        """Free the slots if their buckets have followed every change; otherwise return False."""
        if not self._quick or self._groups.under_way:
            return False
        for group, key, *_ in charged.looks:
            bucket = group.buckets.get(key)
            if bucket is None or bucket[1] != group.epoch:
                return False
        free(charged.slots)
        return True

    def _release(self, charged: Charged) -> None:
        self._bring(charged)
        release(charged)

    def _with_units(self, cost: Cost, decision: Decision) -> None:
        """Make a decision remember that its cost was a mapping, whatever the answer."""
        if type(cost) is not int and decision._charged is None:  # noqa: SLF001
            decision._charged = nothing_charged(self, cost)  # noqa: SLF001

    def _cost_of(self, decision: Decision) -> Cost:
        """Return the cost with which a request was decided; 0 if that is not remembered."""
        charged = decision._charged  # noqa: SLF001
        return 0 if charged is None else charged_record(charged).cost

    def settle(self, decision: Decision, actual: Cost, now: int | None = None) -> None:
        actual = checked_actual(actual, self._cost_of(decision))
        if now is None:
            now = self._clock()
        if not self._may_wait():
            self._later.append(partial(self.settle, decision, actual, now))
            return
        charged = self._recall(decision)
        if charged is None:
            return
        if charged.attributes is not None:
            texts = readable(charged.attributes)
            units = {REQUESTS: actual} if isinstance(actual, int) else actual
            alone = partial(self._alone, self._settle, decision, units, texts, now)
            with_all_read(texts, alone)
            if refunds(charged, units):
                self._freed(charged)
        mirror = self._mirror
        if mirror is not None:
            mirror.settled(decision, actual, now)

    def charge(
        self, scope: str, attributes: Mapping[str, str], cost: Cost, now: int | None = None
    ) -> None:
        cost = checked_actual(cost, 0)
        if now is None:
            now = self._clock()
        texts = readable(attributes)
        if not self._may_wait():
            self._later.append(partial(self.charge, scope, texts, cost, now))
            return
        units = {REQUESTS: cost} if isinstance(cost, int) else cost
        decision = Decision(True, "ok", self._plans.generation)
        decision._charged = nothing_consulted(self, exact_scope(scope), texts, now)  # noqa: SLF001
        with_all_read(texts, partial(self._alone, self._settle, decision, units, texts, now))
        mirror = self._mirror
        if mirror is not None:
            mirror.charged(scope, texts, cost, now)

    def _settle(
        self, decision: Decision, actual: Mapping[str, int], attributes: Attributes, now: int
    ) -> None:
        now = self._instant(now)
        charged = self._recall(decision)
        assert charged is not None
        self._bring(charged)
        selection = self._governing(charged.scope, attributes)
        for group in selection.groups:
            group.key(attributes)  # all is read before a change
        self._carry_all(selection, attributes, now)
        groups = [of for of in selection.groups if not (of.skips and of.lacks(attributes))]
        # An exception of a signal handler may end this anywhere. Refunds are noted before they are
        # made, and charges after that, so that a second attempt gives nothing back twice.
        self._note(decision, with_refunds(charged, actual))
        charged = settle(charged, attributes, actual, groups, now, self._table)
        self._note(decision, charged)
        for group, *_ in charged.looks:
            self._groups.owe(group)

    def _may_wait(self) -> bool:
        """Wait until no thread changes the engine. Return False if this thread cannot wait."""
        try:
            self._await_turn()
        except Busy:
            return False
        return True

    def _governing(self, scope: str, attributes: Mapping[str, str]) -> Selection:
        """Return the groups that count such a request now."""
        if self._waivers:
            return self._counting(scope, attributes)
        active = self._active[scope] if scope in self._active else self._activate(scope)
        return active.of(attributes) if active is not None else Selection(())

    def _recall(self, decision: Decision) -> Charged | None:
        """Return the record of what a decision charged; None if it charged nothing."""
        charged = decision._charged  # noqa: SLF001
        return None if charged is None else charged_record(charged)

    def _note(self, decision: Decision, charged: Charged) -> None:
        decision._charged = charged  # noqa: SLF001

    def _bring(self, charged: Charged) -> None:
        """Make a swap under way reach the charged buckets."""
        for group, *_ in charged.looks:
            self._groups.bring(group)

    # Answers ------------------------------------------------------------------------------------

    def _admission(
        self, plan: ScopePlan, looks: list[Look], tightest: Group | None, state: Any, left: int,
        now: int,
    ) -> Decision:  # fmt: skip
        """Return the decision of an admitted request: by the limit with the least remaining cost,
        as a share of its capacity."""
        refusing = decisive(looks, shadow=True)
        if refusing is not None:
            group, state, _ = refusing
            left = group.algorithm.remaining(state, now)
            return self._answer(group, state, True, "shadow", left, 0, now)
        if tightest is None:
            return Decision(True, "ok", self._plans.generation, scope=plan.scope)
        return self._answer(tightest, state, True, "ok", left, 0, now)

    def _refusal(self, looks: list[Look], now: int) -> Decision:
        """Return the decision of a refused request: by the limit that refuses it for longest."""
        refusing = decisive(looks, shadow=False)
        assert refusing is not None, "a limit has refused"
        group, state, wait = refusing
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
        # Assigned here: a call of the constructor takes twice as long.
        decision = _new_object(Decision)
        decision.allowed = allowed
        decision.reason = reason
        decision.generation = self._plans.generation
        decision.limit = group.name
        decision.scope = group.scope
        decision.unit = group.unit
        decision.capacity = algorithm.capacity
        decision.remaining = left
        decision.retry_after_ns = wait
        decision.reset_after_ns = reset if reset >= 0 else None
        decision._charged = decision._asked = None  # noqa: SLF001
        return decision


def delayed(decision: Decision, lag: int) -> Decision:
    """Return a decision whose waits begin ``lag`` nanoseconds before the instant of the decision.

    A clock that has stepped back takes that time to reach the instant again.
    """
    if lag and decision.retry_after_ns:
        decision.retry_after_ns += lag
    if lag and decision.reset_after_ns:
        decision.reset_after_ns += lag
    return decision
