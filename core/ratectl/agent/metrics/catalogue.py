"""The names of all metrics, by the conventions of Prometheus. docs/metrics.md lists them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

__all__ = ["CATALOGUE", "NAMES", "Metric"]

Kind = Literal["counter", "gauge", "histogram", "gauge histogram"]

LIMIT: Final = ("scope", "limit", "kind")
"""Labels of one limit: its declared scope, its name, and ``limit`` or ``budget``."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric; its series differ in their labels."""

    name: str
    """Full name, with its unit. Exposed counters end with ``_total``."""
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    combined: Literal["sum", "min", "max"] = "sum"
    """How the values of several processes become one, in the multi-process mode of Prometheus."""


CATALOGUE: Final = (
    Metric(
        "ratectl_decisions_total",
        "counter",
        "Requests by the limit that they met and by its answer. One request meets several limits.",
        (*LIMIT, "outcome"),
    ),
    Metric(
        "ratectl_unlimited_decisions_total",
        "counter",
        "Requests admitted because no policy covers their scope.",
    ),
    Metric(
        "ratectl_failed_decisions_total",
        "counter",
        "Requests that on_error answered: the limiter failed, or had no policies yet.",
        ("outcome",),
    ),
    Metric(
        "ratectl_absent_attributes_total",
        "counter",
        "Requests that lacked an attribute which the limit counts per.",
        LIMIT,
    ),
    Metric(
        "ratectl_waits_total",
        "counter",
        "Requests that waited for the limit, however they ended.",
        LIMIT,
    ),
    Metric("ratectl_waiting_requests", "gauge", "Requests that wait now."),
    Metric(
        "ratectl_limit_capacity",
        "gauge",
        "Cost that a full bucket admits at once, for requests that match no override.",
        (*LIMIT, "unit"),
        "max",
    ),
    Metric(
        "ratectl_limit_rate_per_second",
        "gauge",
        "Cost that the limit admits per second in the long run, for requests that match no "
        "override. Limits of requests in progress have none.",
        (*LIMIT, "unit"),
        "max",
    ),
    Metric(
        "ratectl_limit_keys", "gauge", "Keys whose bucket is not full, with all overrides.", LIMIT
    ),
    Metric("ratectl_limit_near_keys", "gauge", "Keys that use at least 80 % of the limit.", LIMIT),
    Metric(
        "ratectl_limit_utilization_ratio",
        "gauge histogram",
        "Keys by the share of the limit that they use now, 0 to 1.",
        LIMIT,
    ),
    Metric(
        "ratectl_decision_duration_seconds",
        "histogram",
        "Time of a decision inside the library: one call of check in 1,024 is timed.",
    ),
    Metric("ratectl_generation", "gauge", "Generation in force; 0 before any.", (), "min"),
    Metric(
        "ratectl_generation_applied_timestamp_seconds",
        "gauge",
        "Time at which the generation came in force.",
        (),
        "min",
    ),
    Metric(
        "ratectl_generation_rejected",
        "gauge",
        "Generation that the agent refuses although the store's head names it; 0 for none.",
        (),
        "max",
    ),
    Metric("ratectl_rejected_generations_total", "counter", "Generations that were rejected."),
    Metric(
        "ratectl_store_connected",
        "gauge",
        "1 if the store, or the directory, answered last time.",
        (),
        "min",
    ),
    Metric(
        "ratectl_store_contact_timestamp_seconds",
        "gauge",
        "Time of the last answer of the store.",
        (),
        "min",
    ),
    Metric(
        "ratectl_report_timestamp_seconds",
        "gauge",
        "Time of the last report that reached the store.",
        (),
        "min",
    ),
    Metric("ratectl_problems", "gauge", "1 for each current problem.", ("concern",), "max"),
    Metric(
        "ratectl_cluster_state",
        "gauge",
        "1 for what the process does now with its share of the limits across the cluster.",
        ("state",),
    ),
    Metric(
        "ratectl_cluster_members",
        "gauge",
        "Processes that share the limits across the cluster, as this one knows.",
        (),
        "max",
    ),
    Metric(
        "ratectl_cluster_share_ratio",
        "gauge",
        "Share of the limits across the cluster that this process may lend or use, 0 to 1.",
    ),
    Metric(
        "ratectl_cluster_sessions", "gauge", "Members with a session at an owner in this process."
    ),
    Metric(
        "ratectl_cluster_owner_contact_timestamp_seconds",
        "gauge",
        "Time of the last answer of an owner to this process.",
        (),
        "min",
    ),
    Metric(
        "ratectl_cluster_wallet_tokens",
        "gauge",
        "Cost of a limit across the cluster that this process may admit now.",
        (*LIMIT, "unit"),
    ),
    Metric(
        "ratectl_cluster_pool_tokens",
        "gauge",
        "Cost of a limit that is not used, at the owners in this process: free, or held by "
        "members.",
        (*LIMIT, "unit", "place"),
    ),
    Metric(
        "ratectl_cluster_pool_capacity",
        "gauge",
        "Cost of a limit that full buckets hold, of what members lend to the owners in this "
        "process.",
        (*LIMIT, "unit"),
    ),
    Metric(
        "ratectl_cluster_polls_total",
        "counter",
        "Polls of members to owners, those inside the process included.",
        ("direction",),
    ),
    Metric(
        "ratectl_cluster_replies_total",
        "counter",
        "Replies of owners to members, those inside the process included.",
        ("direction",),
    ),
    Metric(
        "ratectl_cluster_messages_total",
        "counter",
        "Messages to and from other processes; dropped ones had no connection, or nobody read.",
        ("outcome",),
    ),
    Metric(
        "ratectl_cluster_transport_bytes_total",
        "counter",
        "Bytes to and from other processes.",
        ("direction",),
    ),
    Metric(
        "ratectl_cluster_connections_total",
        "counter",
        "Connections with other processes that were opened, refused here, or lost.",
        ("outcome",),
    ),
    Metric(
        "ratectl_cluster_renewals_total",
        "counter",
        "Renewals of the entry in the roster, and failures of the store to keep it.",
        ("outcome",),
    ),
    Metric("ratectl_kill_switches", "gauge", "Kill switches that are on here.", (), "max"),
    Metric("ratectl_buckets", "gauge", "Tracked buckets: those that are not full."),
    Metric("ratectl_bucket_bytes", "gauge", "Memory of the buckets."),
    Metric("ratectl_bucket_bytes_limit", "gauge", "Most memory of the buckets."),
    Metric(
        "ratectl_bucket_evictions_total",
        "counter",
        "Buckets that were dropped because they equalled new ones.",
    ),
    Metric(
        "ratectl_bucket_overflows_total",
        "counter",
        "Requests that shared a bucket because there was no room for one of their own.",
    ),
    Metric(
        "ratectl_limits_without_series",
        "gauge",
        "Limits that are counted together under the scope and name (other).",
    ),
    Metric(
        "ratectl_agent_info",
        "gauge",
        "1, with the version and the engine of the agent.",
        ("version", "engine"),
        "max",
    ),
)
"""All metrics, in the order in which they are exposed."""

NAMES: Final = {metric.name: metric for metric in CATALOGUE}
