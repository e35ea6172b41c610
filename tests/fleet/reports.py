"""Records of agents, for tests of their readers."""

from __future__ import annotations

from typing import Any

from ratectl.records import AgentRecord, Beat, RolloutRecord, UsageRecord
from ratectl.stores import open_store

__all__ = ["GENERATION", "agent", "beat", "report_agent", "rollout"]

GENERATION = 7


def rollout(**changes: Any) -> RolloutRecord:
    values: dict[str, Any] = {
        "id": "r1",
        "generation": GENERATION,
        "base": 6,
        "mode": "enforce",
        "stages": [50.0, 100.0],
        "bake_seconds": 60.0,
        "min_requests": 100,
        "band": 5.0,
        "author": "Ada",
        "started": "2026-11-23T12:00:00Z",
        "updated": "2026-11-23T12:00:00Z",
    }
    return RolloutRecord(**{**values, **changes})


def agent(name: str, *, joined: bool = False, **changes: Any) -> AgentRecord:
    values: dict[str, Any] = {
        "id": name,
        "generation": GENERATION if joined else 6,
        "state": "serving",
        "error": None,
        "rejected": None,
        "applied": None,
        "swap_ms": None,
        "started": "then",
        "reported": "now",
        "host": "here",
        "pid": 1,
        "version": "0",
        "engine": "c",
        "rollout": "r1" if joined else None,
    }
    return AgentRecord(**{**values, **changes})


def beat(
    name: str,
    at: float,
    requests: int = 0,
    refused: int = 0,
    *,
    joined: bool = False,
    since: str = "s",
    generation: int | None = None,
) -> Beat:
    return Beat(
        id=name,
        generation=generation or (GENERATION if joined else 6),
        since=since,
        reported=str(at),
        requests=requests,
        refused=refused,
    )


def report_agent(url: str, **changes: Any) -> None:
    """Write the records of an agent to a store, without a running agent."""
    values: dict[str, Any] = {
        "id": "edge-1",
        "generation": 1,
        "state": "serving",
        "error": None,
        "rejected": None,
        "applied": "2026-11-23T11:58:00.100Z",
        "swap_ms": 3.25,
        "started": "2026-11-23T11:00:00.000Z",
        "reported": "2026-11-23T11:58:00.100Z",
        "host": "node-a",
        "pid": 4711,
        "version": "0.1",
        "engine": "pure",
    }
    limits, pools = changes.pop("limits", []), changes.pop("pools", [])
    reported = changes.pop("usage_reported", "2026-11-23T11:59:58.000Z")
    record = AgentRecord(**{**values, **changes})
    usage = UsageRecord(
        id=record.id,
        generation=record.generation,
        since=record.started,
        reported=reported,
        recent_seconds=60.0,
        limits=limits,
        pools=pools,
        omitted=0,
        no_policy=0,
        errors=0,
        buckets=0,
        overflowed=0,
    )
    beat = Beat(
        id=record.id,
        generation=record.generation,
        since=record.started,
        reported=reported,
        requests=0,
        refused=0,
    )
    with open_store(url) as store:
        store.put(f"beats/{record.id}", beat.encode())
        store.put(f"agents/{record.id}", record.encode())
        store.put(f"usage/{record.id}", usage.encode())
