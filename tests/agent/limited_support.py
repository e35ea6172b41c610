"""Policies for tests of ``agent.limited``."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ratectl import Agent

__all__ = ["POLICIES", "is_free"]

POLICIES = """\
apiVersion: ratectl/v1
scope: /mail
limits: {spike: {rate: 1/s, burst: 2, per: tenant}}
---
apiVersion: ratectl/v1
scope: /slots
limits: {slots: {algorithm: concurrency, max: 1, per: tenant}}
---
apiVersion: ratectl/v1
scope: /closed
on_error: deny
limits: {spike: {rate: 1/s, burst: 2, per: tenant}}
"""


def is_free(agent: Agent, tenant: str = "acme") -> bool:
    return agent.check("/slots", {"tenant": tenant}, cost=0).remaining == 1
