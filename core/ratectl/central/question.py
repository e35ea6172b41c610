"""Questions to the server: the central limits that decide one request, as a call of a script."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from ratectl.central.keys import count_name
from ratectl.central.scripts import DECIDE, SETTLE, Call
from ratectl.central.units import algorithm_name, most_more, parameters
from ratectl.engine.attributes import Reader
from ratectl.engine.cost import cost_in

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ratectl.engine.api import ScopePlan
    from ratectl.engine.cost import Cost
    from ratectl.engine.limit_plan import LimitPlan

__all__ = ["Count", "Question", "Slots", "correction", "counts_of", "decision_call", "freeing"]


class Count(NamedTuple):
    """One central limit for one request: the bucket, and what it is asked for."""

    plan: LimitPlan
    name: str
    """Name on the server."""
    cost: int | None
    """None if the cost of the request does not name the limit's unit: it is not consulted."""


class Question(NamedTuple):
    """Central limits of one request."""

    counts: tuple[Count, ...]
    """Limits that are consulted."""
    others: tuple[Count, ...]
    """Limits of units that the cost does not name: a settlement may charge them."""


class Slots(NamedTuple):
    """Slots that one request holds in one count."""

    key: str
    id: str
    cost: int


def counts_of(
    plan: ScopePlan, attributes: Mapping[str, str], cost: Cost, prefix: str
) -> Question | None:
    """Return the central limits of a request; None if none is consulted.

    ``cost``: a checked one. May run code of the attributes.
    """
    reader: Any = Reader(attributes)
    counts: list[Count] = []
    others: list[Count] = []
    # Slots come last, as in an engine.
    for limit in sorted(plan.deciding(reader), key=lambda limit: limit.algorithm.holds):
        key = [reader.get(name) for name in limit.per]
        if limit.skips and None in key:
            continue
        amount = cost_in(cost, limit.unit)
        name = count_name(prefix, algorithm_name(limit.algorithm), limit.group_name, key)
        (others if amount is None else counts).append(Count(limit, name, amount))
    return Question(tuple(counts), tuple(others)) if counts else None


def decision_call(
    counts: Sequence[Count],
    request: str,
    wall_us: int,
    freed: Sequence[Slots],
    *,
    all_shadow: bool = False,
    now: int | None = None,
) -> Call:
    """Return the call that decides a request.

    ``request``: its name, for its slots. ``wall_us``: about the server's time. ``freed``: slots
    that this process has released. ``all_shadow``: nothing refuses.
    """
    names = [count.name for count in counts]
    names += dict.fromkeys(each.key for each in freed if each.key not in names)
    free = [[names.index(each.key) + 1, each.id, each.cost] for each in freed]
    # A cost above the capacity is never admitted, and may be too large for the script.
    limits = [
        _limit(
            each.plan, min(each.cost or 0, each.plan.algorithm.capacity + 1), wall_us, all_shadow
        )
        for each in counts
    ]
    asked = {"limits": limits, "id": request, "free": free, "now": now}
    return Call(DECIDE, names, json.dumps(asked, separators=(",", ":")))


def freeing(freed: Sequence[Slots]) -> Call:
    """Return the call that frees slots, and decides nothing."""
    return decision_call((), "", 0, freed)


def correction(
    changes: Iterable[tuple[Count, int, int]], since: int, wall_us: int, *, now: int | None = None
) -> Call:
    """Return the call that corrects charges.

    ``changes``: counts, what each is charged more (less than 0: a refund), and what it was charged
    and not refunded since. ``since``: time of the charge, by the server's clock.
    """
    names, limits, charges = [], [], []
    for count, more, charged in changes:
        bound = most_more(count.plan.algorithm)
        names.append(count.name)
        limits.append(_limit(count.plan, max(-bound, min(more, bound)), wall_us, False))
        charges.append([since, min(charged, count.plan.algorithm.capacity)])
    asked = {"limits": limits, "since": charges, "now": now}
    return Call(SETTLE, names, json.dumps(asked, separators=(",", ":")))


def _limit(plan: LimitPlan, cost: int, wall_us: int, all_shadow: bool) -> list[object]:
    algorithm = plan.algorithm
    return [
        algorithm_name(algorithm),
        cost,
        plan.shadow or all_shadow,
        algorithm.capacity,
        *parameters(algorithm, wall_us),
    ]
