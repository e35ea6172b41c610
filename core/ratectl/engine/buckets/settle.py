"""After a decision: release its slots, and correct its cost in every bucket that was charged.

Publications may have come between. A charged bucket is found again by its group and key, with its
present parameters. If another group took over the request since (its limit is now counted ``per``
something else, or its scope was declared), the bucket there began as a copy of the charged one: it
is corrected as well, as if the actual cost had been charged at first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ratectl.engine.attributes import Reader
from ratectl.engine.buckets.charges import charged_record

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ratectl.engine.attributes import Attributes
    from ratectl.engine.buckets.bucket_set import Group, Stood
    from ratectl.engine.buckets.charges import Charged, Look
    from ratectl.engine.buckets.seed import Seed
    from ratectl.engine.buckets.table import Table

__all__ = ["read_all", "release", "settle"]

Lines = dict["Group", "list[Group] | None"]
"""Line of heirs from one group to each group examined so far; None if there is no line."""


class _Correction(NamedTuple):
    """Charge of ``more`` at ``now``, or a refund if it is negative (see ``Algorithm.settle``)."""

    more: int
    now: int
    since: int
    """Instant of the charge that is corrected."""
    cost: int
    """Cost that was charged then and not refunded since."""


def release(charged: Charged) -> None:
    """Free the slots in every bucket that counts them."""
    for group, key, *_ in charged.looks:
        group.tracked(key)  # a change of algorithm counts what was held at its own instant
    for slot in charged.slots:
        slot.release()


def settle(
    charged: Charged, attributes: Attributes, actual: int, groups: Sequence[Group], now: int,
    table: Table,
) -> Charged:  # fmt: skip
    """Correct the cost to ``actual``. Return the new record, with these ``attributes``.

    ``groups`` are the ones that govern the scope now.
    """
    engine, looks, scope, _, since, cost, least, slots = charged
    correction = _Correction(actual - cost, now, since, least)
    for group, key, _, serial, wait in looks:
        if correction.more and not wait:
            _settle_one(group, key, serial, attributes, groups, correction, table)
    return charged_record(
        (engine, looks, scope, attributes, since, actual, min(least, actual), slots)
    )


def read_all(groups: Sequence[Group], looks: Sequence[Look], attributes: Attributes) -> None:
    """Read all attributes that a settlement may need, before it changes anything."""
    if type(attributes) is Reader:
        for group in (*groups, *(group for group, *_ in looks)):
            seed: Seed | None = group
            while seed is not None:
                for name in seed.names:
                    attributes.get(name)
                seed = seed.seed


def _settle_one(
    group: Group,
    key: object,
    serial: int,
    attributes: Mapping[str, str],
    groups: Sequence[Group],
    correction: _Correction,
    table: Table,
) -> None:
    """Correct the charged bucket and the buckets that began as it."""
    more, now, since, cost = correction
    bucket = group.tracked(key)
    if bucket is None and more > 0:
        _begin(group, key, attributes, now, table)
        bucket = group.tracked(key)
    if bucket is not None:
        group.correct(key, bucket, more, now, since, cost if bucket[2] == serial else 0)
    for heir in _heirs(group, groups, attributes, now):
        key = heir.key(attributes)
        bucket = heir.tracked(key)
        if bucket is not None:
            heir.correct(key, bucket, more, now, since, 0)
        elif more > 0 and heir.retired_at is None:
            # It begins as the bucket just corrected. If it began later, a debt might be lost.
            _begin(heir, key, attributes, now, table)


def _begin(
    group: Group, key: object, attributes: Mapping[str, str], now: int, table: Table
) -> None:
    state = group.first_touch(key, attributes, now)
    if group.retired_at is not None:
        group.keep(key, state)  # for the groups that start from it
    else:
        table.insert(group, key, state, now)


def _heirs(
    group: Group, groups: Sequence[Group], attributes: Mapping[str, str], now: int
) -> list[Group]:
    """Return the groups whose bucket for the request began as that of ``group``, nearest first."""
    heirs: list[Group] = []
    lines: Lines = {group: []}
    stood: Stood = {}
    for last in groups:
        line = _line(last, attributes, now, lines, stood)
        heirs += [heir for heir in line or () if heir not in heirs]
    return heirs


def _line(
    last: Group, attributes: Mapping[str, str], now: int, lines: Lines, stood: Stood
) -> list[Group] | None:
    """Return the line from the first heir to ``last``; None if ``last`` is no heir."""
    if last not in lines:
        lines[last] = None
        for source in last.origins(attributes, now, stood):
            line = _line(source, attributes, now, lines, stood)
            if line is not None:
                lines[last] = [*line, last]
                break
    return lines[last]
