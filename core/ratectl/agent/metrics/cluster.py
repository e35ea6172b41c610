"""Metrics of limits across the cluster. Without such limits there are none."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from ratectl.agent.cluster_status import STATES
from ratectl.agent.metrics.series import Of
from ratectl.agent.usage.pools import joined

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from ratectl.agent.cluster_status import ClusterStatus
    from ratectl.agent.usage.summary import AgentUsage

__all__ = ["cluster_values"]


def cluster_values(
    status: ClusterStatus, usage: AgentUsage, shown: Collection[Of]
) -> Iterator[tuple[str, tuple[str, ...], float]]:
    """Yield names, labels and values. ``shown``: limits that have series of their own."""
    for state in STATES:
        yield "ratectl_cluster_state", (state,), int(state == status.state)
    if status.members is not None:
        yield "ratectl_cluster_members", (), status.members
        yield "ratectl_cluster_share_ratio", (), status.share
        yield "ratectl_cluster_sessions", (), status.sessions or 0
    if status.answered is not None:
        yield "ratectl_cluster_owner_contact_timestamp_seconds", (), status.answered
    yield from _tokens(status, usage, shown)
    yield from _counts(status)


def _counts(status: ClusterStatus) -> Iterator[tuple[str, tuple[str, ...], float]]:
    tally, links = status.tally, status.transport
    yield "ratectl_cluster_polls_total", ("sent",), tally.polls_sent
    yield "ratectl_cluster_polls_total", ("received",), tally.polls_received
    yield "ratectl_cluster_replies_total", ("sent",), tally.replies_sent
    yield "ratectl_cluster_replies_total", ("received",), tally.replies_received
    yield "ratectl_cluster_messages_total", ("sent",), links.sent
    yield "ratectl_cluster_messages_total", ("received",), links.received
    yield "ratectl_cluster_messages_total", ("dropped",), links.dropped
    yield "ratectl_cluster_transport_bytes_total", ("sent",), links.bytes_sent
    yield "ratectl_cluster_transport_bytes_total", ("received",), links.bytes_received
    yield "ratectl_cluster_connections_total", ("opened",), links.connected
    yield "ratectl_cluster_connections_total", ("refused",), links.refused
    yield "ratectl_cluster_connections_total", ("lost",), links.lost
    yield "ratectl_cluster_renewals_total", ("renewed",), tally.renewed
    yield "ratectl_cluster_renewals_total", ("failed",), tally.failed


def _tokens(
    status: ClusterStatus, usage: AgentUsage, shown: Collection[Of]
) -> Iterator[tuple[str, tuple[str, ...], float]]:
    """Yield tokens of limits, with all overrides."""
    wallets: Counter[tuple[Of, str]] = Counter()
    for (scope, name, budget, *_, unit), tokens in status.wallets.items():
        wallets[Of.named(scope, name, budget=budget), unit] += tokens
    for (of, unit), tokens in wallets.items():
        if of in shown:
            yield "ratectl_cluster_wallet_tokens", (*of, unit), tokens
    free: Counter[tuple[Of, str]] = Counter()
    held: Counter[tuple[Of, str]] = Counter()
    capacity: Counter[tuple[Of, str]] = Counter()
    pools = joined(usage.owned)
    for limit in usage.limits:
        pool = pools.get(limit.pool)
        if pool is not None:
            key = Of.named(limit.scope, limit.limit, budget=limit.budget), limit.unit
            free[key] += pool.free
            held[key] += pool.held
            capacity[key] += pool.capacity
    for key in capacity:
        of, unit = key
        if of in shown:
            yield "ratectl_cluster_pool_tokens", (*of, unit, "free"), free[key]
            yield "ratectl_cluster_pool_tokens", (*of, unit, "held"), held[key]
            yield "ratectl_cluster_pool_capacity", (*of, unit), capacity[key]
