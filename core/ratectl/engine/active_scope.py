"""A scope in use: its plan, and the groups that decide its requests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ratectl.engine.buckets.bucket_set import Group
from ratectl.engine.buckets.variants import Family

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ratectl.engine.api import ScopePlan
    from ratectl.engine.buckets.reload import Kin
    from ratectl.engine.conditional_limit import Mask

__all__ = ["Active"]

_MAX_SELECTIONS: Final = 10_000
"""Most sets of conditions that are remembered with their groups, for each scope."""


class Active:
    """A scope's plan and groups; ``groups`` is None if they depend on the request.

    Groups that hold slots come last, so that they are charged last.
    """

    __slots__ = ("_by_mask", "groups", "kin", "plain", "plan", "shadow")

    def __init__(self, plan: ScopePlan, kin: tuple[Kin, ...], *, shadow: bool = False) -> None:
        self.plan = plan
        self.kin = kin
        self.shadow = shadow
        """True if none of the groups may refuse."""
        self.groups: tuple[Group, ...] | None = None
        if plan.conditions is None:
            self.groups = self._in_order(group for group in kin if isinstance(group, Group))
        self.plain = self.groups is not None and not shadow and _plain(self.groups)
        """True if one limit decides all requests, and holds no slots."""
        self._by_mask: dict[Mask, tuple[Group, ...]] = {}

    def known(self, attributes: Mapping[str, str]) -> tuple[Group, ...] | None:
        """Return the groups of a request, if they have been selected before."""
        if self.groups is not None:
            return self.groups
        assert self.plan.conditions is not None
        return self._by_mask.get(self.plan.conditions.holding(attributes))

    def select(self, attributes: Mapping[str, str]) -> tuple[Group, ...]:
        """Return the groups of a request, which depend on its attributes."""
        assert self.plan.conditions is not None
        mask = self.plan.conditions.holding(attributes)
        groups = self._by_mask.get(mask)
        if groups is None:
            chosen = [kin.group(mask) if isinstance(kin, Family) else kin for kin in self.kin]
            groups = self._in_order(group for group in chosen if group is not None)
            if len(self._by_mask) >= _MAX_SELECTIONS:
                self._by_mask.clear()
            self._by_mask[mask] = groups
        return groups

    def of(self, attributes: Mapping[str, str]) -> tuple[Group, ...]:
        """Return the groups of a request."""
        return self.select(attributes) if self.groups is None else self.groups

    def _in_order(self, groups: Iterable[Group]) -> tuple[Group, ...]:
        return tuple(sorted(groups, key=_holds))


def _plain(groups: tuple[Group, ...]) -> bool:
    return len(groups) == 1 and not any(group.shadow or _holds(group) for group in groups)


def _holds(group: Group) -> bool:
    return group.algorithm.holds
