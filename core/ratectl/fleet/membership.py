"""Which agents take part in a rollout: decided by each for itself, and by anyone who looks.

An agent's place depends on the rollout's id and its own, so that another rollout tries other
agents first. Whoever takes part at some percentage does at every larger one.
"""

from __future__ import annotations

import hashlib
from typing import Final

__all__ = ["EVERYBODY", "included", "place"]

EVERYBODY: Final = 100.0
"""Percent."""

_PLACES: Final = 10_000


def place(rollout: str, agent_id: str) -> int:
    """An agent's place among 10,000, evenly spread."""
    seen = hashlib.sha256(f"{rollout}\0{agent_id}".encode()).digest()
    return int.from_bytes(seen[:8], "big") % _PLACES


def included(rollout: str, agent_id: str, percent: float) -> bool:
    """Whether an agent is among the first so many percent."""
    return place(rollout, agent_id) < round(percent * _PLACES / 100)
