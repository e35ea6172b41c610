"""Record of an allowed decision: the buckets that it charged, for its release and settlement."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ratectl.engine.algorithms.protocol import Slot
    from ratectl.engine.api import Engine
    from ratectl.engine.buckets.bucket_set import Group

__all__ = ["Charged", "Look", "charged_record", "nothing_charged"]

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
    attributes: Mapping[str, str]
    now: int
    """Instant of the decision."""
    cost: int
    """Cost as settled last."""
    least: int
    """Least cost that it was ever settled to."""
    slots: Sequence[Slot]


def charged_record(fields: tuple[Any, ...]) -> Charged:
    """Return the fields with names. Takes a third of the time of the constructor."""
    return tuple.__new__(Charged, fields)


def nothing_charged(engine: Engine) -> Charged:
    """Return the record of a request without charges, for a mirror that wants its release."""
    return Charged(engine, [], "/", {}, 0, 0, 0, ())
