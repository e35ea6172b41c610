"""Busiest and most refused keys, of one limit or of many."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ratectl.fleet.usage import BusyKey, LimitTotal
    from ratectl.health.usage_report import UsageRow

__all__ = ["SORTS", "Count", "HotKey", "hot_keys", "keys_of"]

SORTS: Final = ("requests", "refused", "used")


class Count(NamedTuple):
    """A number of requests of a key."""

    value: int
    error: int | None
    """Largest difference from the true number, as far as the records tell; 0 if it is exact, and
    None if no bound is known."""


@dataclass(frozen=True, slots=True)
class HotKey:
    """A key of one limit that has many requests or refusals."""

    row: UsageRow
    key: str
    requests: Count | None
    """Requests of the last minutes, admitted or not; None if unknown."""
    refused: Count | None
    """Since the agents' start; None if unknown."""
    used: float | None
    """Use of its fullest bucket in any agent, 0 to 1; None if unknown."""
    agents: int
    """Agents that list it among the busiest."""

    @property
    def share(self) -> float | None:
        """Share of the limit's requests of the last minutes, 0 to 1; None if unknown."""
        total = self.row.total
        if total is None or self.requests is None or total.unlisted or not total.traffic:
            return None
        return min(1.0, self.requests.value / total.traffic)


def hot_keys(rows: Iterable[UsageRow], sort: str = "requests") -> list[HotKey]:
    """Return the keys of all limits; ``sort``: one of ``SORTS``, the largest number first."""
    return _sorted((key for row in rows for key in keys_of(row)), sort)


def keys_of(row: UsageRow, most: int | None = None) -> list[HotKey]:
    """Return the keys of one limit, most requests first.

    ``most``: only so many of the busiest, and so many of the most refused.
    """
    if row.total is None:
        return []
    total = row.total
    names = {*total.busiest, *total.top_refused}
    complete = sum(total.top_refused.values()) >= total.refusals
    keys = _sorted((_hot_key(row, total, name, complete) for name in names), "requests")
    if most is None:
        return keys
    listed = [key for key in keys if key.requests is not None][:most]
    refused = [key for key in keys if key.refused is not None and key.refused.value]
    chosen = {key.key for key in (*listed, *_sorted(refused, "refused")[:most])}
    return [key for key in keys if key.key in chosen]


def _hot_key(row: UsageRow, total: LimitTotal, name: str, complete: bool) -> HotKey:
    """Return a key. ``complete``: all refusals of the limit are among those listed."""
    busy = total.busiest.get(name)
    return HotKey(
        row=row,
        key=name,
        requests=None if busy is None else _requests(total, busy),
        refused=_refused(total, name, complete),
        used=None if busy is None else busy.use,
        agents=0 if busy is None else busy.agents,
    )


def _requests(total: LimitTotal, busy: BusyKey) -> Count:
    """Return the requests of a key, and how wrong the number may be.

    An agent that does not list the key may have met it as often as the last key that it lists.
    """
    if total.unlisted:
        return Count(busy.requests, None)
    return Count(busy.requests, max(busy.error, total.bound - busy.bound))


def _refused(total: LimitTotal, name: str, complete: bool) -> Count | None:
    """Return the refusals of a key: exact if all refusals of the limit are among those listed."""
    error = total.refused_error
    if name in total.top_refused:
        return Count(total.top_refused[name], error if complete else None)
    return Count(0, 0) if complete and not error else None


def _sorted(keys: Iterable[HotKey], sort: str) -> list[HotKey]:
    def place(key: HotKey) -> tuple[float, float, str, str, str]:
        requests = -1 if key.requests is None else key.requests.value
        refused = -1 if key.refused is None else key.refused.value
        used = -1.0 if key.used is None else key.used
        first = {"requests": requests, "refused": refused, "used": used}[sort]
        return -first, -requests, key.row.scope, key.row.name, key.key

    return sorted(keys, key=place)
