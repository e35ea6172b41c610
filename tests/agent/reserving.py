"""Agents for tests of reservations, and what their buckets hold."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from ratectl import Agent, FakeClock

__all__ = ["ACME", "agent_of", "free_slots", "left"]

ACME = {"tenant": "acme"}


def agent_of(**limits: dict[str, Any]) -> Agent:
    """Return an agent with these limits at ``/`` and a clock that the test moves.

    A limit without a ``unit`` counts the unit that it is named after.
    """
    units = {name: {"unit": name, **fields} for name, fields in limits.items()}
    document = {"apiVersion": "ratectl/v1", "scope": "/", "limits": units}
    return Agent.from_policies(document, clock=FakeClock("2030-01-01T00:00Z"))


def left(agent: Agent, unit: str = "tokens", scope: str = "/", **attributes: str) -> int | None:
    """Return what the only limit of a unit would still admit; nothing is charged."""
    never = agent.check(scope, attributes or ACME, {"requests": 0, unit: 10**12})
    assert (never.reason, never.unit) == ("never", unit)
    return never.remaining


def free_slots(agent: Agent) -> int:
    """Return how many slots are free, and leave them free."""
    with ExitStack() as stack:
        found = 0
        while stack.enter_context(agent.check("/", ACME)):
            found += 1
        return found
