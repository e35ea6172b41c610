"""A family: the groups of one limit that has several plans, one for each set of overrides.

A group is made when a request first needs it, and is then as if it had begun with the family: the
changes since are replayed. Sets of conditions are local to the limit (``LimitChoice``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ratectl.engine.algorithms.protocol import NEVER
from ratectl.engine.buckets.seed import lend

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ratectl.engine.buckets.bucket_set import Group, Maker, Stood
    from ratectl.engine.buckets.counters import Counters
    from ratectl.engine.buckets.seed import Seed
    from ratectl.engine.conditional_limit import LimitChoice, Mask
    from ratectl.engine.limit_plan import Identity

__all__ = ["Family"]

_REPLAYED: Final = 8
"""Most changes that a group made later replays."""


class Family:
    """Groups of one limit by the overrides that select them. The engine's lock guards it."""

    __slots__ = (
        "_alike", "_began", "_changes", "_counters", "_first", "_maker", "_masks", "_settled_at",
        "choice", "groups", "lent_until", "retired_at", "seed",
    )  # fmt: skip

    def __init__(
        self, choice: LimitChoice, counters: dict[tuple[str, ...], Counters], maker: Maker
    ) -> None:
        self.choice = choice
        self._maker = maker
        self.groups: dict[tuple[str, ...], Group] = {}
        self.seed: Seed | None = None
        self.lent_until: int | None = NEVER
        self.retired_at: int | None = None
        self._counters = counters
        self._masks: dict[tuple[str, ...], Mask] = {}
        self._first = choice
        self._alike = False
        self._began = 0
        self._settled_at = 0
        self._changes: list[tuple[int, LimitChoice]] = []

    @property
    def identity(self) -> Identity:
        return self.choice.identity

    @property
    def max_debt(self) -> int:
        """Largest debt (cost below empty) of any bucket here, or of one that it began as."""
        before = 0 if self.seed is None else self.seed.max_debt
        return max((before, *(group.max_debt for group in self.groups.values())))

    @property
    def names(self) -> Iterable[str]:
        """Attributes that select a request's bucket."""
        names = set(self.choice.conditions.attributes)
        for group in self.groups.values():
            names.update(group.per)
        return names

    def group(self, mask: Mask) -> Group | None:
        """Return the group under exactly these conditions of the path; None without a limit."""
        return self._group(self.choice.local(mask))

    def _group(self, local: Mask) -> Group | None:
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

    def begun(self) -> list[Mask]:
        """Return the local masks of groups in use. Safe without the lock."""
        return list(self._masks.values())

    def members(self) -> list[Group]:
        """Return the groups in use, and those that counted requests before they were made again."""
        for overrides in list(self._counters):
            local = self.choice.named(overrides)
            if local is not None:
                self._group(local)
        return list(self.groups.values())

    def _begin(self, local: Mask) -> Group | None:
        group: Group | None = None
        for now, choice in ((self._began, self._first), *self._changes):
            plan = choice.plan(local)
            if plan is None:
                group = None
            elif group is None:
                group = self._maker.group(plan, None, self._counted(plan.overrides))
                if choice is self._first and self.seed is not None:
                    group.plant(self.seed, now, alike=self._alike)
                    if self._alike and isinstance(self.seed, Family):
                        own = self.seed._own(group)  # noqa: SLF001 - of the same class
                        if own is not None:
                            group.genesis = own.genesis_for(group.algorithm, now)
            else:
                group.adopt(plan, now)
        if group is not None:
            group.retired_at = self.retired_at
        return group

    def _counted(self, overrides: tuple[str, ...]) -> Counters:
        counters = self._counters.get(overrides)
        if counters is None:
            counters = self._counters[overrides] = self._maker.counters()
        return counters

    def follow(self, choice: LimitChoice, now: int) -> list[Group]:
        """Change the parameters of the same buckets. Return the groups that have ended."""
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
        """Take equal parameters from another generation, so that the old one can be freed."""
        self.choice = choice
        if self._changes:
            self._changes[-1] = (self._changes[-1][0], choice)
        else:
            self._first = choice

    def plant(self, seed: Seed, now: int, *, alike: bool) -> None:
        """Make untracked keys start from ``seed`` (see ``Group.plant``)."""
        self.seed = seed
        self._alike = alike
        self._began = now
        self._settle(now)

    def end_line(self) -> None:
        """Drop the seed, and those of the groups in use, even if a bucket is not full yet."""
        self.seed = None
        for group in self.groups.values():
            group.seed = None

    def _settle(self, now: int) -> None:
        """Keep seed and changes until every bucket that is empty at ``now`` is full."""
        self._settled_at = now + self.choice.extent.settled_after(self.max_debt)
        lend(self.seed, self._settled_at)

    def lent(self, now: int) -> bool:
        """Return True if another group may still start keys from this family."""
        return self.lent_until is None or now < self.lent_until

    def expire(self, now: int) -> None:
        """Drop the seed and the changes when all buckets of before are full."""
        if now >= self._settled_at:
            self.seed = None
            self._first, self._changes = self.choice, []
        for group in self.groups.values():
            group.expire(now)

    def sources(
        self, attributes: Mapping[str, str], heir: Group, now: int, stood: Stood, *, alike: bool
    ) -> tuple[Group, ...]:
        """Return the group that served such a request, and the one with the heir's overrides.

        If these are two, the heir starts from the stricter bucket, so that neither adds tokens.
        """
        own = self._own(heir)
        if alike:
            return () if own is None else (own,)
        groups = []
        served = self.group(self.choice.conditions.holding(attributes))
        if served is not None:
            groups.append(served)
        if own is not None and own is not served and not own.untouched(attributes, now, stood):
            groups.append(own)
        return tuple(groups)

    def _own(self, heir: Group) -> Group | None:
        """Return the group with the same overrides as the heir."""
        local = self.choice.named(heir.overrides)
        own = None if local is None else self._group(local)
        return own if own is not None and own.overrides == heir.overrides else None
