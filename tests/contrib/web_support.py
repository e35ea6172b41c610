"""Policies, and readers of responses, for tests of adapters to web frameworks."""

from __future__ import annotations

from typing import Any

import http_sf

from ratectl import Agent, FakeClock

__all__ = ["POLICIES", "limits_told", "make_agent", "slots_free"]

POLICIES = """\
apiVersion: ratectl/v1
scope: /shop
trusted_proxies: [10.0.0.0/8]
limits:
  spike: {rate: 1/s, burst: 2, per: tenant}
budgets:
  all: {algorithm: sliding-window, rate: 100/min}
---
apiVersion: ratectl/v1
scope: /shop/items/item_id
limits:
  item: {rate: 0.25/s, burst: 1, per: item}
---
apiVersion: ratectl/v1
scope: /slots
limits:
  slots: {algorithm: concurrency, max: 1}
---
apiVersion: ratectl/v1
scope: /tokens
limits:
  tokens: {rate: 10/s, burst: 100, unit: tokens}
---
apiVersion: ratectl/v1
scope: /address
trusted_proxies: [127.0.0.0/8]
limits:
  address: {rate: 1/s, burst: 1, per: ip}
"""


def make_agent(**options: Any) -> Agent:
    return Agent.from_policies(POLICIES, **{"clock": FakeClock(), **options})


def slots_free(agent: Agent) -> int:
    """Slots that no request holds."""
    remaining = agent.check("/slots", cost=0).remaining
    assert remaining is not None
    return remaining


def limits_told(headers: Any) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
    """Read ``RateLimit-Policy`` and ``RateLimit`` by RFC 9651: parameters by the limit's name."""
    return _items(headers["ratelimit-policy"]), _items(headers["ratelimit"])


def _items(text: str) -> dict[str, dict[str, Any]]:
    return {
        name: dict(parameters) for name, parameters in http_sf.parse(text.encode(), tltype="list")
    }
