"""Records of agents, for tests of their readers."""

from __future__ import annotations

from typing import Any

from ratectl.records import AgentRecord, Beat, RolloutRecord

__all__ = ["GENERATION", "agent", "beat", "rollout"]

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
