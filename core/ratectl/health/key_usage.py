"""Buckets of one request's keys in all agents, as far as the last reports tell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ratectl.engine.buckets.counters import shown
from ratectl.fleet.shown_keys import keys_shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ratectl.records import LimitReport, UsageRecord

__all__ = ["AgentKey", "KeyUsage", "key_usage"]


@dataclass(frozen=True, slots=True)
class AgentKey:
    """A key of one limit in one agent."""

    agent: str
    requests: int
    """At least so many in the last minutes."""
    error: int
    """There may be so many more."""
    used: float | None
    """Share of its bucket that is used, 0 to 1; None if the bucket is full."""


@dataclass(frozen=True, slots=True)
class KeyUsage:
    """The key of a request at one limit, in all agents that list it."""

    key: str
    agents: tuple[AgentKey, ...]
    """Agents with the key among the busiest of the limit, the fullest bucket first."""
    reporting: int
    """Agents that report the limit."""


def key_usage(
    records: Iterable[UsageRecord],
    scope: str,
    limit: str,
    *,
    budget: bool,
    per: Sequence[str],
    attributes: Mapping[str, str],
) -> KeyUsage:
    """Return what agents report of the key that a request has at a limit.

    ``scope``: the declared scope of the limit's buckets. An agent lists the 20 busiest keys of
    each limit. Keys are found as agents show them: as they are, or addresses as networks.
    """
    values = tuple([attributes.get(name) for name in per])
    key = values[0] if len(values) == 1 else values
    texts = {keys_shown("plain")(key)[:100], shown(key)[:100]}
    found, reporting = [], 0
    for record in records:
        reports = [
            report
            for report in record.limits
            if (report.scope, report.limit, report.budget) == (scope, limit, budget)
        ]
        reporting += bool(reports)
        found += [known for report in reports for known in _listed(record.id, report, texts)]
    found.sort(key=lambda known: (-(known.used or 0.0), -known.requests, known.agent))
    return KeyUsage(keys_shown("plain")(key), tuple(found), reporting)


def _listed(agent: str, report: LimitReport, texts: set[str]) -> Iterable[AgentKey]:
    for key, requests, error, used in report.busiest:
        if key in texts:
            yield AgentKey(agent, requests, error, used)
