"""Records as agents write them, for those who judge by them."""

from __future__ import annotations

from typing import Any

from ratectl.records import AgentRecord, LimitReport, RolloutRecord, UsageRecord

__all__ = ["GENERATION", "agent", "limit", "rollout", "usage"]

GENERATION = 7


def rollout(**changes: Any) -> RolloutRecord:
    said: dict[str, Any] = {
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
    return RolloutRecord(**{**said, **changes})


def agent(name: str, *, joined: bool = False, **changes: Any) -> AgentRecord:
    said: dict[str, Any] = {
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
    return AgentRecord(**{**said, **changes})


def limit(allowed: int, refused: int, **changes: Any) -> LimitReport:
    said: dict[str, Any] = {
        "scope": "/",
        "limit": "spike",
        "shadow": False,
        "most": 100,
        "never": 0,
        "shadow_refused": 0,
        "keys": 1,
        "recent_allowed": 0,
        "recent_refused": 0,
        "peak": None,
    }
    return LimitReport(**{**said, "allowed": allowed, "refused": refused, **changes})


def usage(
    name: str,
    at: float,
    *limits: LimitReport,
    joined: bool = False,
    since: str = "s",
    generation: int | None = None,
) -> UsageRecord:
    return UsageRecord(
        id=name,
        generation=generation or (GENERATION if joined else 6),
        since=since,
        reported=str(at),
        recent_seconds=60,
        limits=list(limits),
        omitted=0,
        no_policy=0,
        errors=0,
        buckets=0,
        overflowed=0,
    )
