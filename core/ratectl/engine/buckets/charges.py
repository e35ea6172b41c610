"""Record of an allowed decision: the buckets that it charged, for its release and settlement."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ratectl.engine.cost import cost_in

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ratectl.engine.algorithms.protocol import Slot
    from ratectl.engine.api import Engine
    from ratectl.engine.buckets.bucket_set import Group
    from ratectl.engine.cost import Cost

__all__ = [
    "NOT_SETTLED",
    "Charged",
    "Look",
    "Settled",
    "charged_record",
    "nothing_charged",
    "nothing_consulted",
]

Look = tuple["Group", object, Any, int, int]
"""View that one limit has of a request: group, key, state, serial number of the bucket (0 if it is
not tracked), and wait. The state is unknown for a request that the compiled core decided.

It is a plain tuple, always unpacked: making a named one takes a tenth of a pure decision."""


class Charged(NamedTuple):
    """Everything that an allowed decision remembers of its request.

    The pure engine keeps a plain tuple of these fields in the decision, which is faster to make;
    ``charged_record`` gives it names.
    """

    engine: Engine
    looks: Sequence[Look]
    scope: str
    attributes: Mapping[str, str] | None
    """None if nothing is ever charged for the request: it was refused, or no policy covered it."""
    now: int
    """Instant of the decision."""
    cost: Cost
    """Cost at the decision. Limits that were not consulted have no look, or one with a wait."""
    settled: Mapping[str, Settled]
    """Units that were settled since."""
    slots: Sequence[Slot]

    def in_unit(self, unit: str) -> Settled | None:
        """Return the cost in one unit; None if its limits were neither consulted nor settled."""
        cost = cost_in(self.cost, unit)
        return self.settled.get(unit, None if cost is None else Settled(cost, cost))


class Settled(NamedTuple):
    """Cost of a request in one unit, after corrections."""

    last: int
    """Cost as settled last."""
    least: int
    """Least cost that it ever was."""


NOT_SETTLED: Final[Mapping[str, Settled]] = MappingProxyType({})


def charged_record(fields: tuple[Any, ...]) -> Charged:
    """Return the fields with names. Takes a third of the time of the constructor."""
    return tuple.__new__(Charged, fields)


def nothing_consulted(
    engine: Engine, scope: str, attributes: Mapping[str, str], now: int
) -> Charged:
    """Return the record of a request that no limit was asked of: to settle it charges all."""
    return Charged(engine, [], scope, attributes, now, {}, NOT_SETTLED, ())


def nothing_charged(engine: Engine, cost: Cost) -> Charged:
    """Return the record of a request without charges.

    It is for a mirror that wants its release, and for a settlement that has the wrong form.
    """
    return Charged(engine, [], "/", None, 0, cost, NOT_SETTLED, ())
