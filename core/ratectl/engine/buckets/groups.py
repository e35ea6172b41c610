"""Groups: all buckets of an engine, and what publications do to them.

Across publications there are four rules (docs/buckets.md). In short: a bucket of the same identity
stays, and its parameters change in place; a request whose bucket is another one than before carries
over what it left (``carry``), for as long as that counts (``horizon``).
"""

from __future__ import annotations

import logging
from itertools import chain
from typing import TYPE_CHECKING, Final

from ratectl.engine.buckets.bucket_set import Group
from ratectl.engine.buckets.carry import Carry
from ratectl.engine.buckets.changes import Step, compare
from ratectl.engine.buckets.counters import Counters
from ratectl.engine.buckets.events import Room
from ratectl.engine.buckets.horizon import Horizon
from ratectl.engine.buckets.past import Past
from ratectl.engine.buckets.resets import PastResets, ResetCounts
from ratectl.engine.conditional_limit import LimitChoice

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ratectl.engine.algorithms.protocol import State
    from ratectl.engine.api import PlanSet
    from ratectl.engine.buckets.bucket_set import Maker
    from ratectl.engine.buckets.changes import Change, LimitName
    from ratectl.engine.buckets.counters import Key
    from ratectl.engine.buckets.past import Default, Stay
    from ratectl.engine.buckets.table import Table
    from ratectl.engine.limit_plan import GroupName, Identity, LimitPlan

__all__ = ["Groups"]

_log = logging.getLogger("ratectl.engine")

_EMPTIED: Final = (
    "limit %s: more of its changes still count than are remembered, so its buckets were emptied"
)

_SAVED: Final = 16
"""One state may be saved for so many buckets that the table holds."""

_LEAST_SAVED: Final = 64


class Groups:
    """The groups in force, and those that ended and still count. The engine's locks guard it.

    A swap itself is one step. A group follows it, as of its instant, when a request next needs the
    group, or in ``rest``. So no request waits for other limits than its own.
    """

    def __init__(self, maker: Maker, table: Table, plans: PlanSet) -> None:
        self._maker = maker
        self._table = table
        self.past = Past(plans)
        self._groups: dict[GroupName, Group] = {}
        self._ended: dict[GroupName, list[Group]] = {}
        self._counters: dict[tuple[Identity, tuple[str, ...], str], Counters] = {}
        self._horizons: dict[LimitName, Horizon] = {}
        self._missing: dict[LimitName, tuple[int, int]] = {}
        """Limits whose past was forgotten too early: cost missing from every bucket, instant."""
        self._resets = PastResets()
        self._room = Room(max(_LEAST_SAVED, table.capacity // _SAVED))
        self._seq = 0
        self._step: Step | None = None

    @property
    def seq(self) -> int:
        """Number of the last change."""
        return self._seq

    def plan(self, name: GroupName) -> LimitPlan | None:
        """Return the plan in force of a group; None if it is not in force."""
        return self.past.group_plan(name, self._seq)

    @property
    def under_way(self) -> bool:
        """True while a swap has not reached all groups."""
        return self._step is not None

    def in_force(self) -> list[Group]:
        """Return the groups in use. Complete only while no swap is under way."""
        return list(self._groups.values())

    # Requests -----------------------------------------------------------------------------------

    def group(self, plan: LimitPlan) -> Group:
        """Return the group of a plan in force."""
        group = self.made(plan.group_name)
        if group is None:
            group = self._maker.group(plan, self._seq, self._counted(plan))
            self._groups[plan.group_name] = self._begun(group)
        return group

    def peek(self, plan: LimitPlan) -> Group:
        """Return the group of a plan in force; one that is not kept, if none has been made yet."""
        return self.made(plan.group_name) or self._begun(Group(plan, self._seq, Counters()))

    def made(self, name: GroupName) -> Group | None:
        """Return a group that has been made and is in force, up to date."""
        group = self._groups.get(name)
        if group is not None:
            self.bring(group)
        return self._groups.get(name)

    def _begun(self, group: Group) -> Group:
        """Give a new group the state of keys without a bucket."""
        found = self._default(group.group_name, None)
        group.default = None if found is None or found.full else found.stored
        return group

    def _default(self, name: GroupName, until: Change | None) -> Default | None:
        """Return the state of a key without a bucket, before a change or now."""
        changes = self.past.changes
        missing, at = self._missing.get(name[1:3], (0, changes[0].at if changes else 0))
        if not changes and not missing:
            return None
        return self.past.default(name, until, missing, at)

    def carry(
        self,
        scope: str,
        limit: LimitPlan | LimitChoice,
        group: Group,
        attributes: Mapping[str, str],
    ) -> Carry | None:
        """Return what such requests of a scope carry over to a group; None if nothing."""
        path = self._path(scope, limit, group, attributes)
        return self._maker.carry(path, group, self) if path else None

    def peek_carry(
        self,
        scope: str,
        limit: LimitPlan | LimitChoice,
        group: Group,
        attributes: Mapping[str, str],
    ) -> Carry | None:
        """Return what such requests would carry over if none of them had been seen yet."""
        path = self._path(scope, limit, group, attributes)
        return Carry(path, group, self) if path else None

    def _path(
        self,
        scope: str,
        limit: LimitPlan | LimitChoice,
        group: Group,
        attributes: Mapping[str, str],
    ) -> tuple[Stay, ...]:
        if not self.past.changes:
            return ()
        return self.past.path(scope, limit, group.unit, attributes)

    def _counted(self, plan: LimitPlan) -> Counters:
        key = (plan.identity, plan.overrides, plan.unit)
        counters = self._counters.get(key)
        if counters is None:
            counters = self._counters[key] = self._maker.counters()
        return counters

    def state_left(self, name: GroupName, change: Change, attributes: Mapping[str, str]) -> State:
        """Return the state of the bucket that a request left at a change."""
        group = self._left(name, change.seq)
        if group is not None:
            return group.state_at(group.key(attributes), change.seq)
        return self.default_left(name, change)

    def default_left(self, name: GroupName, change: Change) -> State:
        """See ``carry.Left``."""
        found = self._default(name, change)
        assert found is not None, "the group was in force before the change"
        return found.state

    def was_reset(
        self, name: GroupName, since: int, until: int | None, attributes: Mapping[str, str]
    ) -> bool:
        """See ``carry.Left``."""
        return self._resets.within(name, since, until, attributes)

    def _left(self, name: GroupName, change: int) -> Group | None:
        """Return the group of this name that requests left at a change, if one was made."""
        group = self._groups.get(name)
        if group is not None:
            self.bring(group)
            if group.ended is None and change in group.saved:
                return group
        for ended in self._ended.get(name, ()):
            assert ended.ended is not None
            if ended.ended.seq == change or change in ended.saved:
                return ended
        return None

    # Resets -------------------------------------------------------------------------------------

    def reset(
        self, identity: Identity, attributes: Mapping[str, str | None], now: int
    ) -> tuple[ResetCounts, list[tuple[Group, Key]]]:
        """Make every bucket of one key of a limit as that of an untracked key.

        Return also the buckets that may admit more than before. ``attributes`` has a value, or None
        for an absent one, for each attribute that the limit counts per. Requests of the key carry
        over what those of a new key do; also if they have done so (the caller forgets carries).
        """
        name = identity[1:]
        if any(name in change.names() for change in self.past.changes):
            self._resets.add(identity, attributes, self._seq)
        found: list[tuple[Group, Key]] = []
        buckets = shared = unlike = 0
        for group in [of for of in self._groups.values() if of.identity == identity]:
            self.bring(group)
            if group.ended is not None:
                continue
            if set(group.per) != set(attributes):
                unlike += 1
                continue
            key = group.key(attributes)  # type: ignore[arg-type]  # None for an absent one
            if group.reset(key, now):
                buckets += 1
            elif group.tracked(key) is not None:
                shared += 1
            found.append((group, key))
        return ResetCounts(buckets, shared, unlike), found

    # Swaps --------------------------------------------------------------------------------------

    def prepare(self, plans: PlanSet, pause: Callable[[], object]) -> Step:
        """Compare the plans in force with new ones. Change nothing that a check reads.

        The new plans of the groups in use are made here. ``pause`` is called after each scope.
        """
        old = self.past.plans
        step = compare(old, plans, pause) if old.scopes or self.past.changes else Step(plans)
        for group in self.in_force():
            pause()
            self._plan_in(plans, group)
        return step

    def start(self, step: Step, now: int) -> None:
        """Swap: at this instant all limits change."""
        self._seq += 1
        self._step = step
        self._table.behind = self.behind
        self.past.begin(step, self._seq, now)

    def rest(self) -> Iterator[None]:
        """Do the rest of the swap piece by piece, each under the engine's lock."""
        step = self._step
        assert step is not None
        now = step.change.at
        for group in list(self._groups.values()):
            self.bring(group)
            yield
        debts = self._debts() if step.moves else {}
        while step.moves:
            to, old, new = step.moves.pop()
            name = (new.name, new.budget)
            self._horizon(name).move(to, old, new, debts.get(name, 0), now)
            yield
        self._step = self._table.behind = None

    def behind(self, group: Group) -> bool:
        """Return True if a swap under way has not reached a group."""
        return self._step is not None and group.ended is None and group.seen < self._seq

    def bring(self, group: Group) -> None:
        """Make a group follow the publications that it has not followed yet."""
        if group.seen == self._seq or group.ended is not None:
            return
        for change in self.past.changes:
            if change.seq <= group.seen:
                continue
            if change.differs(group.identity) and not self._follow(group, change):
                return
        group.seen = self._seq

    def _follow(self, group: Group, change: Change) -> bool:
        """Return False if the change ends the group."""
        plan = self.past.group_plan(group.group_name, change.seq)
        if plan is not None:
            left = change.was_left(group.identity)
            group.follow(plan, change.seq, change.at, left=left, room=self._room)
            return True
        group.end(change.seq, change.at)
        name = group.group_name
        del self._groups[name]
        self._ended.setdefault(name, []).append(group)
        self._table.retire(group)
        self._keep_counting(group)
        return False

    def _keep_counting(self, group: Group) -> None:
        """Go on reporting what an ended group has counted, if its limit is still there."""
        limit = self.past.limit(group.identity, self._seq)
        if isinstance(limit, LimitChoice):
            local = limit.named(group.overrides)
            limit = None if local is None else limit.plan(local)
        counted = (group.identity, group.overrides, group.unit)
        if limit is not None and (limit.identity, limit.overrides, limit.unit) == counted:
            self.group(limit)
        else:
            self._counters.pop(counted, None)

    def _plan_in(self, plans: PlanSet, group: Group) -> None:
        """Make the plan that a group will follow: that takes a resolution of policies."""
        plan = plans.scopes.get(group.scope)
        limit = None if plan is None else plan.by_identity(group.identity)
        if isinstance(limit, LimitChoice):
            local = limit.named(group.overrides)
            if local is not None:
                limit.plan(local)

    # Forgetting ---------------------------------------------------------------------------------

    def forgettable(self, now: int) -> set[LimitName]:
        """Return the names of limits of which no charge of before their last change counts."""
        names = {*self._missing, *[name for each in self.past.changes for name in each.names()]}
        return {name for name in names if self._horizon(name).over(now)}

    def too_many(self) -> set[LimitName]:
        """Return the names of limits whose changes are more than can be remembered."""
        return self.past.too_many()

    def empty(self, names: set[LimitName], now: int) -> Iterator[None]:
        """Empty all buckets of limits of these names, in pieces, so that their past is covered."""
        self._seq += 1
        for name in names:
            _log.warning(_EMPTIED, name[0])
            self._missing[name] = self._horizon(name).restart(now), now
        self.past.refresh()
        for group in list(self._groups.values()):
            self.bring(group)
            name = (group.name, group.budget)
            if name in names and group.ended is None:
                group.empty(self._missing[name][0], self._seq, now)
            yield

    def forget(self, names: set[LimitName], now: int) -> None:
        """Forget all changes of limits of these names. ``free`` frees what they needed."""
        for name in names:
            self.past.forget(name)
            self._resets.forget(name)
            if self._horizon(name).over(now):
                self._missing.pop(name, None)

    def free(self, names: set[LimitName]) -> Iterator[None]:
        """Free, in pieces, what was kept for the changes of limits of these names."""
        for group in list(self._groups.values()):
            name = (group.name, group.budget)
            if name in names:
                group.forget()
                group.default = group.default if name in self._missing else None
            yield
        for group_name in [of for of in self._ended if of[1:3] in names]:
            for group in self._ended.pop(group_name):
                group.forget()
                self._table.drop(group)
            yield

    def owe(self, group: Group) -> None:
        """Take note of the debt of a group's buckets after a settlement."""
        horizon = self._horizons.get((group.name, group.budget))
        if horizon is not None:
            horizon.owe(group.algorithm.capacity + group.max_debt)

    def _horizon(self, name: LimitName) -> Horizon:
        return self._horizons.setdefault(name, Horizon())

    def _debts(self) -> dict[LimitName, int]:
        """Return, for each name of a limit, the largest cost missing beyond a capacity."""
        debts: dict[LimitName, int] = {}
        for group in chain(self._groups.values(), *self._ended.values()):
            name = (group.name, group.budget)
            debts[name] = max(group.max_debt, debts.get(name, 0))
        return debts
