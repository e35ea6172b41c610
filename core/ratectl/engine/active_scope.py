"""A scope in use: its plan, and the groups that decide its requests."""

from __future__ import annotations

from itertools import repeat
from typing import TYPE_CHECKING, Final, NamedTuple

from ratectl.engine.conditional_limit import plan_of
from ratectl.engine.cost import REQUESTS, cost_in

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ratectl.engine.api import ScopePlan
    from ratectl.engine.buckets.bucket_set import Group
    from ratectl.engine.buckets.carry import Carry
    from ratectl.engine.buckets.groups import Groups
    from ratectl.engine.conditional_limit import Conditions, Mask
    from ratectl.engine.cost import Cost

__all__ = ["Active", "Selection"]

_MAX_SELECTIONS: Final = 10_000
"""Most sets of conditions that are remembered with their groups, for each scope."""


class Selection(NamedTuple):
    """Groups that decide a request, and what the request carries over to each.

    Groups that hold slots come last, so that they are charged last.
    """

    groups: tuple[Group, ...]
    carries: tuple[Carry | None, ...] = ()
    """As many as groups; empty if requests carry nothing over to any of them."""
    counts_requests: bool = True
    """False if some of the groups count another unit."""

    def consulted(self, cost: Cost) -> Iterable[tuple[Group, int]]:
        """Return the groups whose units a checked cost names, each with its cost there."""
        if self.counts_requests:
            return zip(self.groups, repeat(cost if type(cost) is int else cost[REQUESTS]))  # type: ignore[index]
        costs = [cost_in(cost, group.unit) for group in self.groups]
        return [
            (group, amount)
            for group, amount in zip(self.groups, costs, strict=True)
            if amount is not None
        ]

    def asked(
        self, cost: Cost, attributes: Mapping[str, str]
    ) -> tuple[list[tuple[Group, int]], Sequence[Group]]:
        """Return the groups that decide a request, each with its cost there, and the groups that
        count per an attribute which it lacks."""
        asked: list[tuple[Group, int]] = []
        absent: Sequence[Group] = ()
        for pair in self.consulted(cost):
            group = pair[0]
            if group.lacks(attributes):
                absent = (*absent, group)
                if group.skips:
                    continue
            asked.append(pair)
        return asked, absent


class Active:
    """A scope's plan and groups; ``selection`` is None if it depends on the request."""

    __slots__ = (
        "_by_masks",
        "_groups",
        "_scope",
        "conditions",
        "plain",
        "plan",
        "selection",
        "shadow",
    )

    def __init__(
        self, scope: str, plan: ScopePlan, groups: Groups, *, shadow: bool = False
    ) -> None:
        self.plan = plan
        self.shadow = shadow
        """True if none of the groups may refuse."""
        self._scope = scope
        self._groups = groups
        self._by_masks: dict[tuple[Mask, ...], Selection] = {}
        self.conditions = self._all_conditions()
        """Conditions on which the selection depends: the present ones, and those of before."""
        self.selection: Selection | None = None
        if not self.conditions:
            self.selection = self._selected({})
        self.plain = self.selection is not None and not shadow and _plain(self.selection)
        """True if one limit decides all requests, counts them, holds no slots, and nothing is
        carried over."""

    def _all_conditions(self) -> tuple[Conditions, ...]:
        present = self.plan.conditions
        found = {} if present is None else {id(present): present}
        past = self._groups.past
        for limit in self.plan.limits if past.changes else ():
            found.update((id(each), each) for each in past.conditions(self._scope, limit))
        return tuple(found.values())

    def known(self, attributes: Mapping[str, str]) -> Selection | None:
        """Return the selection for a request, if it has been made before."""
        if self.selection is not None:
            return self.selection
        return self._by_masks.get(self._masks(attributes))

    def of(self, attributes: Mapping[str, str]) -> Selection:
        """Return the selection for a request."""
        return self.select(attributes) if self.selection is None else self.selection

    def select(self, attributes: Mapping[str, str]) -> Selection:
        """Return the selection for a request, which depends on its attributes."""
        masks = self._masks(attributes)
        selection = self._by_masks.get(masks)
        if selection is None:
            selection = self._selected(attributes)
            if len(self._by_masks) >= _MAX_SELECTIONS:
                self._by_masks.clear()
            self._by_masks[masks] = selection
        return selection

    def _masks(self, attributes: Mapping[str, str]) -> tuple[Mask, ...]:
        return tuple([conditions.holding(attributes) for conditions in self.conditions])

    def _selected(self, attributes: Mapping[str, str]) -> Selection:
        chosen: list[tuple[Group, Carry | None]] = []
        for limit in self.plan.limits:
            plan = plan_of(limit, attributes)
            if plan is not None:
                group = self._groups.group(plan)
                chosen.append((group, self._groups.carry(self._scope, limit, group, attributes)))
        chosen.sort(key=lambda pair: pair[0].algorithm.holds)
        groups = tuple([group for group, _ in chosen])
        carries = tuple([carry for _, carry in chosen])
        return Selection(
            groups,
            carries if any(carries) else (),
            all(group.unit == REQUESTS for group in groups),
        )


def _plain(selection: Selection) -> bool:
    groups = selection.groups
    return (
        len(groups) == 1
        and selection.counts_requests
        and not selection.carries
        and not any(group.shadow or group.skips or group.algorithm.holds for group in groups)
    )
