"""Plan of one limit: its parameters, and the identity of its buckets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ratectl.engine.cost import REQUESTS

if TYPE_CHECKING:
    from ratectl.engine.algorithms.protocol import Algorithm

__all__ = ["GroupName", "Identity", "LimitPlan", "Origins"]

Identity = tuple[str, str, bool]
"""Identity of a limit: (declared scope, name, True for a budget)."""

GroupName = tuple[str, str, bool, tuple[str, ...], tuple[str, ...], str]
"""Identity of a group of buckets: (declared scope, limit, True for a budget, overrides that set its
parameters, attributes that it counts per, unit). In one generation it never has two sets of
parameters.
"""

Origins = tuple[()] | tuple[str, str] | tuple[str, str, str, str]
"""Origin of the rate (or number of slots), and of the burst if it has one of its own: the scope or
override that sets the value, and its path there. The engine only hands them on to explanations.
"""


class LimitPlan:
    """A limit as an engine runs it. The buckets of a budget are shared by a whole subtree."""

    __slots__ = (
        "algorithm", "budget", "name", "origins", "overrides", "per", "scope", "shadow", "skips",
        "unit",
    )  # fmt: skip

    def __init__(
        self,
        *,
        scope: str,
        name: str,
        algorithm: Algorithm[Any],
        per: tuple[str, ...],
        shadow: bool,
        budget: bool = False,
        overrides: tuple[str, ...] = (),
        unit: str = REQUESTS,
        skips: bool = False,
        origins: Origins = (),
    ) -> None:
        self.scope = scope
        self.name = name
        self.algorithm = algorithm
        self.per = per
        self.shadow = shadow
        self.budget = budget
        self.overrides = overrides
        """Overrides that select these buckets, among those of the limit."""
        self.skips = skips
        """True if requests that lack one of its ``per`` attributes are admitted without it."""
        self.unit = unit
        """Unit that it counts. Requests whose cost does not name it are admitted without it."""
        self.origins = origins

    @property
    def identity(self) -> Identity:
        return (self.scope, self.name, self.budget)

    @property
    def group_name(self) -> GroupName:
        return (self.scope, self.name, self.budget, self.overrides, self.per, self.unit)
