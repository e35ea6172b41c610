"""Past publications, as long as buckets of before them count.

Only what differs between publications is kept (``changes``), so that the buckets that served a
request earlier can be found again: its *path*.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, TypeVar

from ratectl.engine.algorithms.protocol import migrate
from ratectl.engine.buckets.changes import Limit
from ratectl.engine.conditional_limit import LimitChoice
from ratectl.engine.scopes import lineage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from ratectl.engine.algorithms.protocol import Algorithm, State
    from ratectl.engine.api import PlanSet
    from ratectl.engine.buckets.changes import Change, LimitName, Step
    from ratectl.engine.conditional_limit import Conditions
    from ratectl.engine.limit_plan import GroupName, Identity, LimitPlan

__all__ = ["Default", "Past", "Stay"]

_MOST_CHANGES: Final = 512
"""Most changes that are remembered."""

_NOW: Final = 1 << 62
"""Number of a change after all others."""

V = TypeVar("V")


class _Versions(Generic[V]):
    """Values over time: each with the number of the change that ended it."""

    __slots__ = ("_seqs", "_values")

    def __init__(self) -> None:
        self._seqs: list[int] = []
        self._values: list[V | None] = []

    def until(self, seq: int, value: V | None) -> None:
        """Append a value that was in force until a change."""
        self._seqs.append(seq)
        self._values.append(value)

    def after(self, seq: int) -> V | None:
        """Return the value after a change."""
        return self._values[bisect_right(self._seqs, seq)]


class Stay(NamedTuple):
    """A time in which one group of buckets served a request."""

    name: GroupName | None
    """The group; None while the limit did not apply."""
    rules: tuple[tuple[int, Algorithm[Any]], ...]
    """Parameters in that time, each with its first instant."""
    left: Change | None
    """The change that ended it; None for the present."""
    in_use: bool
    """True if only what is missing is carried into it: the group was in force before the stay, or
    the limit did not apply before it."""


class Default(NamedTuple):
    """State of the keys of a group that have no bucket."""

    algorithm: Algorithm[Any]
    state: State
    """The state as it leaves the group (see ``Algorithm.absolute``)."""
    at: int
    """Instant of the last change."""

    @classmethod
    def after(cls, before: Default | None, algorithm: Algorithm[Any], at: int) -> Default:
        """Return the state after a change of parameters."""
        if before is None:
            return cls(algorithm, algorithm.full(at), at)
        return cls(algorithm, migrate(before.algorithm, algorithm, before.state, at), at)

    @property
    def stored(self) -> State:
        """The state as it is stored in the group."""
        stored: State = self.algorithm.relative(self.state, self.state, self.at)
        return stored

    @property
    def full(self) -> bool:
        """True if it is a full bucket."""
        full = self.algorithm.full(self.at)
        return self.algorithm.same(self.state, full, self.at)


class Past:
    """The changes that still count, oldest first, and the plans in force."""

    def __init__(self, plans: PlanSet) -> None:
        self.plans = plans
        self.changes: tuple[Change, ...] = ()
        self.refresh()

    def refresh(self) -> None:
        """Forget what was worked out from the changes."""
        self._limits: dict[Identity, _Versions[Limit]] = {}
        self._defaults: dict[GroupName, _Versions[Default]] = {}
        self._touching: dict[tuple[str, str], list[Change]] = {}
        self._homes: dict[str, str] = {}
        self._moves = [change for change in self.changes if change.declared]

    def begin(self, step: Step, seq: int, now: int) -> None:
        """Put a publication in force. The engine calls it at the instant of the swap."""
        change = step.change
        change.seq, change.at = seq, now
        if change.limits or change.left:
            self.changes = (*self.changes, change)
        self.plans = step.plans
        self.refresh()

    def too_many(self) -> set[LimitName]:
        """Return the names of limits in the oldest change, if too many changes are remembered."""
        return self.changes[0].names() if len(self.changes) > _MOST_CHANGES else set()

    def forget(self, name: LimitName) -> None:
        """Forget all changes of the limits of a name."""
        over = [change for change in self.changes if change.forget(name)]
        self.changes = tuple([change for change in self.changes if change not in over])
        self.refresh()

    # What was in force --------------------------------------------------------------------------

    def limit(self, identity: Identity, seq: int) -> Limit | None:
        """Return what a limit was after change ``seq``."""
        versions = self._limits.get(identity)
        if versions is None:
            versions = self._limits[identity] = self._versions(identity)
        return versions.after(seq)

    def _versions(self, identity: Identity) -> _Versions[Limit]:
        found = _Versions[Limit]()
        for change in self.changes:
            before = change.before(identity)
            if before is not None:
                found.until(change.seq, before[0])
        scope, *_ = identity
        plan = self.plans.scopes.get(scope)
        found.until(_NOW, None if plan is None else plan.by_identity(identity))
        return found

    def group_plan(self, name: GroupName, seq: int) -> LimitPlan | None:
        """Return the plan of a group after change ``seq``; None if it was not in force."""
        scope, limit, budget, overrides, *_ = name
        found = self.limit((scope, limit, budget), seq)
        if isinstance(found, LimitChoice):
            local = found.named(overrides)
            found = None if local is None else found.plan(local)
        return None if found is None or found.group_name != name else found

    def default(
        self, name: GroupName, until: Change | None, missing: int, at: int
    ) -> Default | None:
        """Return the state of a group's keys without a bucket, before a change or now.

        None if the group is not in force then. ``missing``: cost that was missing from every bucket
        at ``at``, before the first change that is remembered.
        """
        versions = self._defaults.get(name)
        if versions is None:
            versions = self._defaults[name] = self._default_versions(name, missing, at)
        return versions.after(_NOW - 1 if until is None else until.seq - 1)

    def _default_versions(self, name: GroupName, missing: int, at: int) -> _Versions[Default]:
        found, now = _Versions[Default](), None
        plan = self.group_plan(name, self.changes[0].seq - 1 if self.changes else 0)
        if plan is not None:
            now = Default(plan.algorithm, plan.algorithm.spent(missing, at), at)
        for change in self.changes:
            if change.differs(name[:3]):
                found.until(change.seq, now)
                plan = self.group_plan(name, change.seq)
                now = None if plan is None else Default.after(now, plan.algorithm, change.at)
        found.until(_NOW, now)
        return found

    def home(self, scope: str, seq: int) -> str:
        """Return the declared scope that governed a scope after change ``seq``; '' for none."""
        found = None if self._moves else self._homes.get(scope)
        if found is None:
            declared = (above for above in lineage(scope) if self._declared(above, seq))
            found = next(declared, "")
            if not self._moves:
                self._homes[scope] = found
        return found

    def _declared(self, scope: str, seq: int) -> bool:
        for change in self._moves:
            if change.seq > seq and scope in change.declared:
                return change.declared[scope]
        return scope in self.plans.scopes

    def homes(self, scope: str) -> tuple[str, ...]:
        """Return the declared scopes that governed a scope before each remembered change."""
        scopes = list(lineage(scope))
        if not any(each in change.declared for change in self.changes for each in scopes):
            return ()
        return tuple([self.home(scope, change.seq - 1) for change in self.changes])

    # Paths --------------------------------------------------------------------------------------

    def touching(self, scope: str, limit: Limit) -> list[Change]:
        """Return the changes that may have moved requests of a scope to this limit."""
        if not self.changes:
            return []
        if limit.budget:
            return [change for change in self.changes if change.before(limit.identity)]
        found = self._touching.get((scope, limit.name))
        if found is None:
            found = self._touching[scope, limit.name] = self._all_touching(scope, limit.name)
        return found

    def _all_touching(self, scope: str, name: str) -> list[Change]:
        scopes = list(lineage(scope))
        # The name's changes may have been forgotten, while others remember that a scope came.
        known = [change for change in self.changes if (name, False) in change.names()]
        first = known[0].seq if known else _NOW
        return [
            change
            for change in self.changes
            if change.seq >= first
            and (
                any(above in change.declared for above in scopes)
                or any((above, name, False) in change.of(name) for above in scopes)
            )
        ]

    def conditions(self, scope: str, limit: Limit) -> Iterator[Conditions]:
        """Yield the conditions that chose among a limit's buckets before."""
        for change in self.touching(scope, limit):
            before = self._limit_of(scope, limit, change.seq - 1)
            if isinstance(before, LimitChoice):
                yield before.conditions

    def path(
        self, scope: str, limit: Limit, unit: str, attributes: Mapping[str, str]
    ) -> tuple[Stay, ...]:
        """Return the stays of a request up to the present one; () if that has lasted all along.

        ``unit``: of the present group. What is missing in another unit says nothing about it, so
        the limit is taken as absent while it counted another one.
        """
        changes = self.touching(scope, limit)
        if not changes:
            return ()
        stays: list[Stay] = []
        points: Iterable[Change | None] = (None, *changes)
        for change in points:
            seq = changes[0].seq - 1 if change is None else change.seq
            plan = _chosen(self._limit_of(scope, limit, seq), attributes)
            plan = None if plan is None or plan.unit != unit else plan
            name = None if plan is None else plan.group_name
            rule = () if plan is None else ((0 if change is None else change.at, plan.algorithm),)
            if change is None or name != stays[-1].name:
                in_use = False
                if change is not None:
                    in_use = stays[-1].name is None or self._in_use(name, change)
                    stays[-1] = stays[-1]._replace(left=change)
                stays.append(Stay(name, rule, None, in_use))
            else:
                last = stays[-1]
                if rule and rule[0][1] != last.rules[-1][1]:
                    stays[-1] = last._replace(rules=last.rules + rule)
        return tuple(stays) if len(stays) > 1 else ()

    def _in_use(self, name: GroupName | None, change: Change) -> bool:
        """Return True if a group was in force before a change."""
        return name is not None and self.group_plan(name, change.seq - 1) is not None

    def _limit_of(self, scope: str, limit: Limit, seq: int) -> Limit | None:
        home = limit.scope if limit.budget else self.home(scope, seq)
        return self.limit((home, limit.name, limit.budget), seq) if home else None


def _chosen(limit: Limit | None, attributes: Mapping[str, str]) -> LimitPlan | None:
    if isinstance(limit, LimitChoice):
        return limit.plan(limit.local(limit.conditions.holding(attributes)))
    return limit
