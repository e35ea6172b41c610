"""A family: the groups of one limit that has several plans, one for each set of overrides.

Groups begin when a request first needs them, and then are as if they had begun with the family:
what changed since is replayed. Sets of conditions are local to the limit (``LimitChoice``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ratectl.engine.decision import NEVER
from ratectl.engine.group import Group, lend

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ratectl.engine.choice import LimitChoice, Mask
    from ratectl.engine.group import Counters, Key

__all__ = ["Family"]

_REPLAYED: Final = 8
"""Changes that a group which has not begun can still follow."""

_SETTLING: Final = 256
"""Conditions that are asked how long their buckets take to fill."""


class Family:
    """Groups of one limit by the overrides that select them. Its engine's lock guards it."""

    __slots__ = (
        "_began", "_changes", "_counters", "_first", "_masks", "_settled_at", "choice", "groups",
        "lent_until", "retired_at", "seed",
    )  # fmt: skip

    def __init__(
        self, choice: LimitChoice, counters: Callable[[tuple[str, ...]], Counters]
    ) -> None:
        self.choice = choice
        self.groups: dict[tuple[str, ...], Group] = {}
        self.seed: Group | Family | None = None
        self.lent_until: int | None = NEVER
        self.retired_at: int | None = None
        self._counters = counters
        self._masks: dict[tuple[str, ...], Mask] = {}
        self._first = choice
        self._began = 0
        self._settled_at: int | None = 0
        self._changes: list[tuple[int, LimitChoice]] = []

    @property
    def scope(self) -> str:
        return self.choice.scope

    def group(self, mask: Mask) -> Group | None:
        """The group where just these conditions of the path hold; None where the limit does not."""
        local = self.choice.local(mask)
        plan = self.choice.plan(local)
        if plan is None:
            return None
        group = self.groups.get(plan.overrides)
        if group is None:
            group = self._begin(local)
            if group is not None:
                self.groups[plan.overrides] = group
                self._masks[plan.overrides] = local
        return group

    def _begin(self, local: Mask) -> Group | None:
        group: Group | None = None
        for now, choice in ((self._began, self._first), *self._changes):
            plan = choice.plan(local)
            if plan is None:
                group = None
            elif group is None:
                group = Group(plan, None, self._counters(plan.overrides))
                if choice is self._first and self.seed is not None:
                    group.plant(self.seed, now)
            else:
                group.adopt(plan, now)
        if group is not None:
            group.retired_at = self.retired_at
        return group

    def follow(self, choice: LimitChoice, now: int) -> list[Group]:
        """New parameters for the same buckets; returns groups that have ended."""
        self.choice = choice
        ended = []
        for overrides, group in list(self.groups.items()):
            plan = choice.plan(self._masks[overrides])
            if plan is None:
                ended.append(self.groups.pop(overrides))
            else:
                group.adopt(plan, now)
        if len(self._changes) >= _REPLAYED:
            del self._changes[0]
        self._changes.append((now, choice))
        self._settle(now)
        return ended

    def rebind(self, choice: LimitChoice) -> None:
        """The same parameters, as another generation says them: the old one may be forgotten."""
        self.choice = choice
        if self._changes:
            self._changes[-1] = (self._changes[-1][0], choice)
        else:
            self._first = choice

    def plant(self, seed: Group | Family, now: int) -> None:
        """Untracked keys start, on first touch, from their bucket in ``seed``."""
        self.seed = seed
        self._began = now
        self._settle(now)

    def _settle(self, now: int) -> None:
        """Keep what was before until every bucket that is empty at ``now`` is full."""
        spans = list(self._spans())
        self._settled_at = None if NEVER in spans else now + max(spans, default=0)
        lend(self.seed, self._settled_at)

    def _spans(self) -> Iterator[int]:
        choice = self.choice
        masks = [0, *(1 << local for local in range(min(choice.count, _SETTLING)))]
        for plan in map(choice.plan, masks):
            if plan is not None:
                yield plan.algorithm.settled_after()

    def lent(self, now: int) -> bool:
        """Whether another group may still start keys from this one."""
        return self.lent_until is None or now < self.lent_until

    def expire(self, now: int) -> None:
        """Let go of what was before, once it has nothing more to say."""
        if self._settled_at is not None and now >= self._settled_at:
            self.seed = None
            self._first, self._changes = self.choice, []
        for group in self.groups.values():
            group.expire(now)

    def sources(self, attributes: Mapping[str, str], key: Key, heir: Group) -> tuple[Group, ...]:
        """As a seed: the group that served such a request, and the one that heir's own bucket
        was in. Where these are two, the heir starts from the stricter: neither gives it tokens.
        """
        found = []
        served = self.group(self.choice.conditions.holding(attributes))
        if served is not None:
            found.append(served)
        own = self.groups.get(heir.overrides)
        if own is not None and own is not served and own.per == heir.per and own.knows(key):
            found.append(own)
        return tuple(found)
