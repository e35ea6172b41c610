"""Membership of agents in a rollout, computed from the ids of the rollout and the agent.

Agents and observers compute the same result without communication. Each rollout begins with other
agents. An agent that takes part at some percentage takes part at every larger one.
"""

from __future__ import annotations

import hashlib
from typing import Final

__all__ = ["EVERYBODY", "included", "place"]

EVERYBODY: Final = 100.0
"""Percent."""

_PLACES: Final = 10_000


def place(rollout: str, agent_id: str) -> int:
    """Return an agent's place, 0 to 9,999; places are evenly distributed."""
    hashed = hashlib.sha256(f"{rollout}\0{agent_id}".encode()).digest()
    return int.from_bytes(hashed[:8], "big") % _PLACES


def included(rollout: str, agent_id: str, percent: float) -> bool:
    """Return True if an agent takes part when ``percent`` of all agents do."""
    return place(rollout, agent_id) < round(percent * _PLACES / 100)
