"""After a decision: slots are released, and a cost is corrected in every bucket that was charged.

Publications may have come between. A bucket that was charged is found again by its group and key,
at whatever parameters it has now. Where another group took over the request since (its limit is
now counted ``per`` something else, or its scope was declared), the bucket there began as a copy of
the one charged: it is corrected as well, as if the actual cost had been charged at first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ratectl.engine.attributes import Reader

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ratectl.engine.algorithms.concurrency import Slot
    from ratectl.engine.api import Engine
    from ratectl.engine.attributes import Attributes
    from ratectl.engine.buckets.bucket_set import Group, Stood
    from ratectl.engine.buckets.table import Table
    from ratectl.engine.buckets.variants import Family

__all__ = ["Charged", "Look", "nothing_charged", "read_all", "release", "settle"]

Look = tuple["Group", object, Any, int, int]
"""One limit's view of a request: group, key, state, serial number of the bucket (0: untracked), and
wait. Of a request that the compiled core decided, the state is not known."""

Charged = tuple["Engine", list[Look], str, "Mapping[str, str]", int, int, int, "Sequence[Slot]"]
"""What an allowed decision remembers: engine, looks, scope, attributes, instant; the cost as last
settled and the least that it was ever settled to; and its slots."""

Lines = dict["Group", "list[Group] | None"]
"""The line to each group looked at from one and the same; None where there is none."""


def nothing_charged(engine: Engine) -> Charged:
    """Of a request that no limit met, whose release somebody wants to be told of all the same."""
    return engine, [], "/", {}, 0, 0, 0, ()


def release(charged: Charged) -> None:
    """Free the slots, wherever they are counted."""
    for group, key, *_ in charged[1]:
        group.tracked(key)  # a change of algorithm counts what was held at its own instant
    for slot in charged[-1]:
        slot.release()


def settle(
    charged: Charged, actual: int, groups: Sequence[Group], now: int, table: Table
) -> Charged:
    """Correct the cost to ``actual``; ``groups`` are those that govern the scope now."""
    engine, looks, scope, attributes, since, cost, least, slots = charged
    more = actual - cost
    for look in looks:
        if more and not look[4]:
            _settle_one(look, groups, attributes, (more, now, since, least), table)
    return engine, looks, scope, attributes, since, actual, min(least, actual), slots


def read_all(groups: Sequence[Group], looks: Sequence[Look], attributes: Attributes) -> None:
    """Read whatever a settlement may have to know of a request, before it changes anything."""
    if type(attributes) is Reader:
        kins: list[Group | Family] = [*groups, *(group for group, *_ in looks)]
        for kin in kins:
            seed: Group | Family | None = kin
            while seed is not None:
                for name in seed.names:
                    attributes.get(name)
                seed = seed.seed


def _settle_one(
    look: Look,
    groups: Sequence[Group],
    attributes: Mapping[str, str],
    correction: tuple[int, int, int, int],
    table: Table,
) -> None:
    group, key, _, serial, _ = look
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
            # It begins as the bucket just corrected. Later, a debt might be forgotten.
            _begin(heir, key, attributes, now, table)


def _begin(
    group: Group, key: object, attributes: Mapping[str, str], now: int, table: Table
) -> None:
    state = group.first_touch(key, attributes, now)
    if group.retired_at is not None:
        group.keep(key, state)  # for those who start from it
    else:
        table.insert(group, key, state, now)


def _heirs(
    group: Group, groups: Sequence[Group], attributes: Mapping[str, str], now: int
) -> list[Group]:
    """The groups whose bucket for the request began as that of ``group``, the nearest first."""
    heirs: list[Group] = []
    lines: Lines = {group: []}
    stood: Stood = {}
    for last in groups:
        line = _line(last, attributes, now, lines, stood)
        heirs += [each for each in line or () if each not in heirs]
    return heirs


def _line(
    last: Group, attributes: Mapping[str, str], now: int, lines: Lines, stood: Stood
) -> list[Group] | None:
    """From a group's first heir to ``last``; None where that is no heir of it."""
    if last not in lines:
        lines[last] = None
        for source in last.origins(attributes, now, stood):
            line = _line(source, attributes, now, lines, stood)
            if line is not None:
                lines[last] = [*line, last]
                break
    return lines[last]
