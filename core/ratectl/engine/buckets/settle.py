"""After a decision: release its slots, and correct its cost in every bucket that was charged.

Publications may have come between. A bucket that was charged is found again by its group and key,
with its present parameters. If such requests have another bucket now, to which they have carried
over what they left, that one is corrected as well, as if the actual cost had been charged at
first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ratectl.engine.algorithms.refunds import Refund
from ratectl.engine.buckets.charges import Settled

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ratectl.engine.algorithms.refunds import Refunds
    from ratectl.engine.attributes import Attributes
    from ratectl.engine.buckets.bucket_set import Group
    from ratectl.engine.buckets.charges import Charged
    from ratectl.engine.buckets.table import Table

__all__ = ["refunds", "release", "settle", "with_refunds"]


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
    charged: Charged, attributes: Attributes, actual: Mapping[str, int], groups: Sequence[Group],
    now: int, table: Table,
) -> Charged:  # fmt: skip
    """Correct the cost in each unit of ``actual``. Return the record, with these ``attributes``.

    ``groups`` are the ones that count such a request now, with what it carried over. They are
    charged in units that the cost at the decision did not name: its limits were not consulted.
    """
    looks, settled = list(charged.looks), dict(charged.settled)
    for unit, number in actual.items():
        before = charged.in_unit(unit)
        if before is None:
            before = Settled(0, 0)
            looks += [(of, of.key(attributes), None, 0, 0) for of in groups if of.unit == unit]
        settled[unit] = Settled(number, min(number, before.least))
        correction = _Correction(number - before.last, now, charged.now, before.least)
        for group, key, _, serial, wait in looks:
            if not correction.more or wait or group.unit != unit:
                continue
            if correction.more < 0 and group.algorithm.refunds is not None:
                _refund(group, key, correction, group.algorithm.refunds)
                continue
            _correct(group, key, serial, correction, table)
            for present in groups:
                if present is not group and _replaces(present, group):
                    _correct(present, present.key(attributes), 0, correction, table)
    return charged._replace(looks=looks, attributes=attributes, settled=settled)


def refunds(charged: Charged, actual: Mapping[str, int]) -> bool:
    """Return True if a correction of the cost to ``actual`` gives something back."""
    known = [(charged.in_unit(unit), number) for unit, number in actual.items()]
    return any(before is not None and number < before.last for before, number in known)


def with_refunds(charged: Charged, actual: Mapping[str, int]) -> Charged:
    """Return the record as it is after the refunds to ``actual``, and before further charges."""
    settled = dict(charged.settled)
    for unit, number in actual.items():
        before = charged.in_unit(unit)
        if before is not None and number < before.last:
            settled[unit] = Settled(number, min(number, before.least))
    return charged._replace(settled=settled)


def _replaces(present: Group, group: Group) -> bool:
    """Return True if requests that a group counted before are now counted by another one."""
    if present.unit != group.unit:
        return False
    if present.budget or group.budget:
        return present.identity == group.identity
    return present.name == group.name


def _correct(group: Group, key: object, serial: int, correction: _Correction, table: Table) -> None:
    """Correct one bucket. ``serial``: of the bucket that was charged; 0 for another one."""
    more, now, since, cost = correction
    if more < 0 and group.algorithm.refunds is not None:
        return  # other tokens of it were never charged for such requests
    bucket = group.tracked(key)
    if bucket is None and more > 0:
        if group.ended is not None:
            group.keep(key, group.first_touch(key, now))
        else:
            table.insert(group, key, group.first_touch(key, now), now)
        bucket = group.tracked(key)
    if bucket is not None:
        group.correct(key, bucket, more, now, since, cost if bucket[2] == serial and serial else 0)


def _refund(group: Group, key: object, correction: _Correction, elsewhere: Refunds) -> None:
    """Refund tokens that may have come from elsewhere: note there what this bucket does not take.

    A bucket that counts such requests now, since they have moved, gets nothing.
    """
    more, now, since, _ = correction
    algorithm, taken = group.algorithm, 0
    bucket = group.tracked(key)
    if bucket is not None:
        group.correct(key, bucket, more, now, since, 0)
        after = group.tracked(key) or bucket
        taken = algorithm.put_back(bucket[0], after[0], now)
    elsewhere.add(key, Refund(-more - taken, since))
