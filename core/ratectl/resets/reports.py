"""What agents report of one key."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ratectl.engine.buckets.counters import shown

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ratectl.records import UsageRecord
    from ratectl.resets.finding import FoundKey

__all__ = ["KeyReport", "reported"]


class KeyReport(NamedTuple):
    """Sum of the last reports of a key. Agents name busy and often refused keys only."""

    agents: int
    """Agents that name the key."""
    requests: int
    """At least so many in the last minutes."""
    use: float | None
    """Use of its fullest bucket, 0 to 1; None if unknown."""
    refused: int
    """About so many since the agents started."""


def reported(records: Iterable[UsageRecord], found: FoundKey) -> KeyReport:
    """Return what the last reports say of a key; keys that agents shorten or hash are not found."""
    values = tuple(found.key[name] for name in found.limit.per)
    text = shown(values[0] if len(values) == 1 else values)
    agents = requests = refused = 0
    use: float | None = None
    for record in records:
        named = False
        for limit in record.limits:
            if (limit.scope, limit.limit, limit.budget) != (
                found.scope, found.limit.name, found.budget
            ):  # fmt: skip
                continue
            for key, count, _, of_bucket in limit.busiest:
                if key == text:
                    named, requests = True, requests + count
                    use = use if of_bucket is None else max(use or 0.0, of_bucket)
            count = dict(limit.top_refused).get(text, 0)
            named, refused = named or count > 0, refused + count
        agents += named
    return KeyReport(agents, requests, use, refused)
